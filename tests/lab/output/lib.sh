# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What tests/lab/output.rs runs in the lab: source it, then call.

# Starts the containers that are named.
run() {
    systemctl daemon-reload
    systemctl start "${@/#/ctr@}"
}

# Waits until the containers have ended.
ended() {
    local name _
    for name in "$@"; do
        for _ in $(seq 1000); do
            case $(systemctl show --property=ActiveState --value "ctr@$name") in
            inactive | failed) continue 2 ;;
            esac
            sleep 0.2
        done
        echo "$name still runs" >&2
        return 1
    done
}

# journalctl for what the payload of the container $1 said; further arguments narrow it down.
said() {
    journalctl --quiet --sync
    journalctl --quiet --no-pager --all --unit="ctr@$1" _TRANSPORT=stdout CONTAINER_NAME="$1" "${@:2}"
}

# The text of it.
output() { said "$@" --output=cat; }

# The container's output is numbered lines: prints how far they are all there and in order, how many
# there are, and the last one.
counted() { output "$1" | awk '$1 == n + 1 { n++ } END { print n, NR, $0 }'; }

# The process of the relay of the container $1 that waits, and the one that works.
guard() { pgrep --exact wharf-guard --cgroup "/ctr.slice/ctr@$1.service/engine"; }
worker() { pgrep --exact wharf-relay --cgroup "/ctr.slice/ctr@$1.service/engine"; }

# Clock ticks that the worker has used.
used() { awk '{ print $14 + $15 }' "/proc/$(worker "$1")/stat"; }

# Private memory of both together, in KiB.
private() {
    local pid
    for pid in $(guard "$1") $(worker "$1"); do cat "/proc/$pid/smaps_rollup"; done |
        awk '/^Private_(Clean|Dirty)/ { sum += $2 } END { print sum }'
}
