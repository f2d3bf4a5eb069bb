# image.sh FILE NAME: writes an image archive with busybox in it.
set -e
folder=$(mktemp -d)
cd "$folder"
mkdir -p root/bin root/tmp
cp /bin/busybox root/bin/
for program in sh httpd echo true cat sleep; do ln -s busybox root/bin/$program; done
tar -C root -cf layer.tar .
layer=$(sha256sum layer.tar | cut -d' ' -f1)
cat >config.json <<JSON
{"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]}, "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]}}
JSON
echo "[{\"Config\": \"config.json\", \"RepoTags\": [\"$2\"], \"Layers\": [\"layer.tar\"]}]" >manifest.json
tar -cf "$1" manifest.json config.json layer.tar
rm -r "$folder"
