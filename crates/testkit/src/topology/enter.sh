# What every program on a machine of a topology is started through: it moves into the machine's cgroup, so that it counts there, and
# becomes the program.
own=/sys/fs/cgroup
if [ "$(stat -fc %T $own)" = cgroup2fs ]; then
    echo $$ > $own/machine/cgroup.procs
else
    for folder in $own/*/; do echo $$ > "${folder}cgroup.procs"; done
fi
cd /
exec "$@"
