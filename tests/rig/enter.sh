#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command in the namespaces of a lab: enter.sh INIT-PID CGROUP-OR-EMPTY CMD…
#
# Two steps, because the process that enters the PID namespace must fork: only the child joins the
# lab's cgroup. The parent, which waits, stays outside, where the lab's systemd cannot see a process
# that has no PID in its namespace. The cgroup is joined before the cgroup namespace is entered:
# where the hierarchy is mounted with nsdelegate, nobody may move across that border from inside.
set -eu

if [[ $1 != --inside ]]; then
    exec nsenter --target "$1" --pid -- "$0" --inside "$@"
fi
shift
init=$1 cgroup=$2
shift 2
[[ -z $cgroup ]] || echo 0 >"$cgroup/cgroup.procs"
exec nsenter --target "$init" --mount --uts --ipc --net --cgroup -- \
    env -i --chdir=/root HOME=/root USER=root LOGNAME=root SHELL=/bin/bash LANG=C.UTF-8 \
    TERM="${TERM:-dumb}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
