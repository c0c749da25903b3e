#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What `make bench` runs in the lab for images: pull.sh PART. Samples as in lab.sh.
#
# One content, Debian's /usr and copies of parts of it until its gzip layer has 176 MB, is in a
# registry beside (docker-registry, HTTP on loopback) as one layer and as eight. Both engines pull
# alternately into stores that are made empty, on the same file system, after a sync.
set -euo pipefail

BENCH=/usr/local/lib/bench
REGISTRY=registry.test:5000
ROUNDS=${BENCH_PULL_ROUNDS:-5}
BYTES=${BENCH_PULL_BYTES:-176000000}

sample() { printf '%s\t%s\t%s\n' "$@"; }

# The layers, as /var/tmp/bench-pull/{one,part-N}.tar. The lab's Python has no tarfile module, so
# tests/bench/run makes the images.
pull_layers() {
    local work=/var/tmp/bench-pull copy=0 number
    rm -rf "$work"
    mkdir -p "$work/tree"
    cp -a /usr "$work/tree/"
    until tar -C "$work/tree" -c . | gzip -1 >"$work/all.tar.gz" &&
        (($(stat -c %s "$work/all.tar.gz") >= BYTES)); do
        copy=$((copy + 1))
        cp -a /usr/lib "$work/tree/again-$copy"
    done
    gzip -dc "$work/all.tar.gz" >"$work/one.tar"
    # Every eighth file by size, so that the parts are alike.
    for ((number = 0; number < 8; number++)); do
        find "$work/tree" ! -type d -printf '%s %P\n' | sort -n | cut -d' ' -f2- |
            awk -v "number=$number" 'NR % 8 == number' |
            tar -C "$work/tree" -cf "$work/part-$number.tar" --hard-dereference --files-from=-
    done
    rm -rf "$work/tree" "$work/all.tar.gz"
}

# The images of run into the registry.
pull_push() {
    local name
    bash "$BENCH/registries.sh" >&2
    printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$REGISTRY" \
        >/etc/containers/registries.conf.d/bench.conf
    for name in one eight; do
        skopeo copy -q --dest-tls-verify=false "oci-archive:/var/tmp/bench-pull/$name.oci" \
            "docker://$REGISTRY/$name:1" >&2
    done
    rm -f /var/tmp/bench-pull/*.oci /var/tmp/bench-pull/part-*.tar
}

# Runs a command; a sample of its wall time in microseconds, and of its peak memory in KiB.
measured() {
    local what=$1 who=$2
    shift 2
    sync
    python3 - "$what" "$who" "$@" <<'END'
import os, sys, time
what, who, *command = sys.argv[1:]
begin = time.monotonic()
pid = os.fork()
if pid == 0:
    os.dup2(2, 1)
    os.execvp(command[0], command)
peak = 0
while True:
    # The lab's Python has no module for what wait4(2) would tell.
    try:
        with open(f"/proc/{pid}/status") as lines:
            peak = max([peak] + [int(l.split()[1]) for l in lines if l.startswith("VmHWM:")])
    except OSError:
        pass
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        break
    time.sleep(0.01)
micros = int((time.monotonic() - begin) * 1e6)
if status:
    sys.exit(f"pull.sh: {command} ended with status {status}")
print(f"{what}\t{who}\t{micros}")
print(f"{what}-peak\t{who}\t{peak}")
END
}

pull() {
    local round name store=/var/lib/bench-store
    for round in $(seq "$ROUNDS"); do
        for name in one eight; do
            rm -rf "$store"
            mkdir -p "$store"
            mount --bind "$store" /var/lib/wharf
            measured "pull-$name" wharf wharf image pull --quiet "$REGISTRY/$name:1"
            umount /var/lib/wharf
            rm -rf "$store"
            measured "pull-$name" podman podman --root "$store" --runroot /run/bench-podman \
                pull --quiet "$REGISTRY/$name:1"
            podman --root "$store" --runroot /run/bench-podman rmi --all --force >/dev/null 2>&1 || true
            umount "$store/overlay" 2>/dev/null || true
            rm -rf "$store"
        done
    done
    : "$round"
}

# The same tar, unpacked by GNU tar and as wharf unpacks a layer, each with a flush of what it wrote.
extract() {
    local store=/var/lib/bench-store
    for _ in $(seq "$ROUNDS"); do
        rm -rf "$store"
        mkdir -p "$store"
        measured extract tar bash -c "tar -xf /var/tmp/bench-pull/one.tar -C $store && sync -f $store"
        rm -rf "$store"
        mkdir -p "$store"
        measured extract wharf "$BENCH/extract" /var/tmp/bench-pull/one.tar "$store"
    done
    rm -rf "$store"
}

"$@"
