# What the parts share: `check NAME COMMAND...` runs a command and reports it as a test.
PATH=/usr/local/bin:$PATH
kept=/var/lib/everynode-vm
failed=0
checked=0

check() {
    name=$1
    shift
    checked=$((checked + 1))
    if "$@" </dev/null >/tmp/check.log 2>&1; then
        echo "test $name ... ok"
    else
        failed=$((failed + 1))
        head -c 4000 /tmp/check.log
        echo "test $name ... FAILED"
    fi
}

# Runs a command until it succeeds, for a quarter of an hour at most: the processor is emulated.
until_ok() {
    deadline=$(($(date +%s) + 900))
    until "$@"; do
        [ "$(date +%s)" -lt $deadline ] || return 1
        sleep 1
    done
}

close() {
    echo "test result: $((checked - failed)) passed; $failed failed; 0 ignored"
    [ $failed = 0 ]
}

nothing_is_left() {
    ! nft list tables | grep everynode &&
        ! ip -brief link | grep -E '(pods|vxlan)-|veth' &&
        ! grep everynode /proc/self/mounts &&
        ! find /sys/fs/cgroup -type d -name 'everynode*' ! -name '*.service' | grep . &&
        ! pgrep -a everynode
}
