# What makes a machine of a topology: runs as its process 1, in namespaces of its own. It ends, and with it all that runs there, when its
# standard input does: the test holds the other end. It also takes in the processes whose parents have ended.
#
# NAME, FOLDER (its disk and files) and BOOT_ID are in the environment.
set -e
hostname "$NAME"
# Service managers make the root shared; containers rely on it.
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount --bind "$FOLDER/disk/lib" /var/lib
mount --bind "$FOLDER/disk/log" /var/log
mount --bind "$FOLDER/resolv.conf" /etc/resolv.conf
mount --bind "$FOLDER/hosts" /etc/hosts
if [ -e /etc/machine-id ]; then mount --bind "$FOLDER/machine-id" /etc/machine-id; fi
echo "$BOOT_ID" > /run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id

# /sys shows the network namespace in which it was mounted; the hierarchies of cgroups below it are mounted anew, with the machine's
# own cgroup as their root.
cgroups=$(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2, $3, $4 }' /proc/self/mounts)
mount -t sysfs sysfs /sys
echo "$cgroups" | while read -r point kind options; do
    if [ "$point" = /sys/fs/cgroup ]; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        continue
    fi
    [ "$(stat -fc %T /sys/fs/cgroup)" = tmpfs ] || mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    mkdir -p "$point"
    if [ "$kind" = cgroup2 ]; then mount -t cgroup2 cgroup2 "$point"; continue; fi
    # What is left of the options names the controllers, or a hierarchy that has none.
    names=$(echo "$options" | tr , '\n' | grep -vE '^(rw|ro|nosuid|nodev|noexec|relatime|xattr|clone_children|release_agent=.*)$' | paste -sd, -)
    case "$names" in name=*) names="none,$names" ;; esac
    mount -t cgroup -o "$names" cgroup "$point"
done
# Under v2 a cgroup that holds processes can hold no limited ones: the machine's own processes get one beside the pods'.
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mkdir -p /sys/fs/cgroup/machine
    echo $$ > /sys/fs/cgroup/machine/cgroup.procs
fi

ip link set lo up
echo ready
# No process but this waits for EOF; a shell that waits takes in whoever has lost its parent.
exec 3<&0
cat > /dev/null <&3 &
wait $!
