# Cleans up after a topology, however its test ended: the standard input ends when the test does, or when it says so.
# Arguments: the topology's folder, then its cgroup in every hierarchy.
cat > /dev/null
folder=$1
shift
tries=0
while [ $tries -lt 300 ]; do
    left=
    for cgroup in "$@"; do
        [ -d "$cgroup" ] || continue
        find "$cgroup" -name cgroup.procs -exec cat {} + 2> /dev/null | while read -r pid; do
            [ "$pid" = 0 ] || kill -KILL "$pid" 2> /dev/null
        done
        find "$cgroup" -depth -type d -exec rmdir {} + 2> /dev/null
        [ -d "$cgroup" ] && left=yes
    done
    [ -z "$left" ] && break
    tries=$((tries + 1))
    sleep 0.1
done
exec rm -rf --one-file-system "$folder"
