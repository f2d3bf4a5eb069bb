# The README's demo, with the binary alone.
. /load/checks.sh
cp /load/everynode /usr/local/bin/everynode
everynode up --demo >/tmp/up.log 2>&1 &
up=$!
ready() {
    kill -0 $up && everynode rollout status ds everynode-demo --timeout 10s
}
check "the demo becomes ready" until_ok ready
while read -r line; do
    check "the README's line: $line" sh -c "$line"
done </load/demo.commands
check "the demo says Running" sh -c 'everynode get pods -A | grep Running'
kill -INT $up
check "up ends with success after Ctrl-C" wait $up
check "nothing is left after Ctrl-C" nothing_is_left
[ $failed = 0 ] || tail -n 30 /tmp/up.log
rm -rf /var/lib/everynode
close
