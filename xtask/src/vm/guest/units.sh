# The units of docs/join.md on a machine with systemd: started, restarted, upgraded, killed, and booted again.
. /load/checks.sh

server_answers() { everynode get --raw /readyz; }
node_is_ready() { everynode get nodes | grep ' Ready '; }
page_answers() { curl --silent --show-error --max-time 5 http://10.0.0.10:8080/ | grep page; }
# What changes when a container is started again.
containers() {
    everynode get pods -o json | grep -E '"(uid|containerID|restartCount|startedAt)"' | sort
}
unchanged() {
    containers >/tmp/now
    diff $kept/containers /tmp/now
}
memory_limit() {
    find /sys/fs/cgroup -name memory.max -exec grep -l '^67108864$' {} + | grep everynode
}
agent_is_back() {
    systemctl is-active everynode-agent && everynode exec ds/page -- true
}

before_boot() {
    install /load/everynode /usr/local/bin/everynode
    cp /load/everynode-server.service /etc/systemd/system/
    # The page: an agent beside a server has a folder of its own.
    sed 's| --token-file| --data-dir /var/lib/everynode-agent --token-file|' /load/everynode-agent.service >/etc/systemd/system/everynode-agent.service
    mkdir -p -m 700 /etc/everynode
    check "systemd finds no fault in the units" systemd-analyze verify --man=no everynode-server.service everynode-agent.service
    check "the server's unit starts" systemctl enable --now everynode-server
    check "the server answers" until_ok server_answers
    (umask 077; everynode token create --quiet >/etc/everynode/token)
    sh /load/image.sh /tmp/page.tar example.com/page:1
    check "an image is imported" everynode image import /tmp/page.tar --data-dir /var/lib/everynode-agent
    check "the agent's unit starts" systemctl enable --now everynode-agent
    check "the node becomes Ready" until_ok node_is_ready
    check "the daemon is created" everynode create -f /load/page.yaml
    check "the daemon answers" until_ok page_answers
    check "the token's file may be removed" rm /etc/everynode/token
    containers >$kept/containers
    check "the limit of memory is in the cgroup" memory_limit

    systemctl restart everynode-agent
    check "the agent is back after a restart" until_ok agent_is_back
    check "the containers outlive the agent's restart" unchanged
    systemctl restart everynode-server
    check "the server is back after a restart" until_ok server_answers
    check "the agent is back after the server's restart" until_ok agent_is_back
    check "the containers outlive the server's restart" unchanged
    cp /load/everynode /tmp/everynode.new
    while read -r line; do
        check "the page's line: $line" sh -c "cd /tmp; $line"
    done </load/upgrade.commands
    systemctl restart everynode-server
    check "the server is back after the upgrade" until_ok server_answers
    check "the agent is back after the upgrade" until_ok agent_is_back
    check "the containers outlive the upgrade" unchanged
    systemctl kill --signal KILL everynode-agent
    check "systemd starts a killed agent again" until_ok agent_is_back
    check "the containers outlive the agent's death" unchanged
    systemctl daemon-reload
    systemd-run --wait --quiet -p MemoryMax=50M -p CPUWeight=50 true
    check "the limits stay after systemd has read its units again" memory_limit
    check "the daemon answers before the reboot" page_answers
    everynode create -f /load/kept.yaml
    uptime -s >$kept/booted
    echo $checked >$kept/checked
    echo $failed >$kept/failed
}

after_boot() {
    checked=$(cat $kept/checked)
    failed=$(cat $kept/failed)
    check "the machine has booted again" sh -c "uptime -s | diff -q $kept/booted - | grep differ"
    check "the server's unit is started by the boot" until_ok server_answers
    check "the agent's unit is started by the boot" until_ok systemctl is-active everynode-agent
    check "the node is Ready after the boot" until_ok node_is_ready
    check "the daemon runs again after the boot" until_ok page_answers
    check "the data is kept over the boot" sh -c "everynode get configmap kept -o json | grep over-the-boot"
    check "the limit of memory is in the cgroup after the boot" memory_limit
    everynode delete ds page
    check "the daemon's pod is removed" until_ok sh -c '! everynode get pods | grep page'
    systemctl disable --now everynode-agent everynode-server
    check "the agent cleans the machine up" everynode agent --clean-up --data-dir /var/lib/everynode-agent
    check "nothing is left after the clean-up" nothing_is_left
    [ $failed = 0 ] || journalctl --no-pager --lines 40 --unit 'everynode-agent' --unit 'everynode-server'
}

if [ -e $kept/booted ]; then
    after_boot
    close
else
    before_boot
    exit 75
fi
