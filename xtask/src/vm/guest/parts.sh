#!/bin/sh
# The machine's work under systemd: the parts that the second disk names, one after the other. A part that ends with 75 goes on after a reboot.
exec >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw -echo
export HOME=/root LANG=C.UTF-8
kept=/var/lib/everynode-vm
mkdir -p $kept
while read -r part; do
    [ -e "$kept/$part.done" ] && continue
    if [ -e "/load/$part.plan" ]; then
        sh /load/tests.sh "/load/$part.plan"
    else
        [ -e "$kept/$part.begun" ] || echo "vm: begin $part"
        touch "$kept/$part.begun"
        sh "/load/$part.sh"
        status=$?
        if [ $status = 75 ]; then
            sync
            systemctl reboot --no-block
            exit
        fi
        echo "vm: end $status $part"
    fi
    touch "$kept/$part.done"
done </load/parts
systemctl poweroff --no-block
