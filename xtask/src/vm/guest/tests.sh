#!/bin/sh
# tests.sh PLAN: runs the test programs of a plan one after the other. What they print goes to the second serial port, with a line before and after each.
# A line of the plan has the name, the folder and the limit in seconds, each ended by a tab, and then the program with its arguments.
exec >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw -echo
# Test programs know the absolute paths of other programs that were built with them.
workspace=$(cat /load/workspace)
mkdir -p "$workspace"
mount --bind "/load$workspace" "$workspace"
tab=$(printf '\t')
while IFS=$tab read -r name folder limit command; do
    echo "vm: begin $name"
    ( cd "$folder" && CARGO_MANIFEST_DIR=$folder exec timeout -s KILL "$limit" $command </dev/null )
    echo "vm: end $? $name"
done <"$1"
