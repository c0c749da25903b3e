#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs as the first process of a lab's namespaces: builds its mounts and becomes systemd.
# Every mount made here is in the lab's own mount namespace and disappears with it.
set -eu

dir=$1 rootfs=$2 cgroup=$3 name=$4
root=$dir/root

# Host /proc is still mounted: field 1 is our PID as the host sees it, field 22 our start time,
# which together name this process for good. bash itself opens the file, so `self` is bash.
read -r -a stat </proc/self/stat
echo "${stat[0]} ${stat[21]}" >"$dir/init.new"

# Join the lab's cgroup (0 means the writer), then make it the root of a cgroup namespace.
if [[ -z ${LAB_CGROUP_ENTERED:-} ]]; then
    echo 0 >"$cgroup/cgroup.procs"
    LAB_CGROUP_ENTERED=1 exec unshare --cgroup -- "$0" "$@"
fi

mount -t overlay -o "lowerdir=$rootfs,upperdir=$dir/upper,workdir=$dir/work" overlay "$root"
# An overlay's upper directory cannot be on an overlay, and /var is where engines keep theirs.
mount --bind "$dir/var" "$root/var"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o rw,nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"

for node in null zero full random urandom tty fuse net/tun; do
    [[ -e /dev/$node ]] || continue
    mkdir -p "$(dirname "$root/dev/$node")"
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"

# PID 1 raises fs.file-max and fs.nr_open, which are not namespaced: it must not be able to.
# `lab up` removes this mount after boot, since the kernel refuses a new proc to user namespaces
# whose own is partly covered.
mount --bind "$root/proc/sys/fs" "$root/proc/sys/fs"
mount -o remount,bind,ro "$root/proc/sys/fs"

hostname "$name"
mv "$dir/init.new" "$dir/init"
cd "$root"
pivot_root . .
umount -l .
exec env -i container=wharf-lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd
