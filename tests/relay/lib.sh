# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What tests/lab_relay.rs runs in the lab: source it, then call.

# Starts the unit $1 with the command that follows as payload. $OPTIONS go to the engine.
#
# LogRateLimitIntervalSec=0 would not do: systemd does not pass 0 on to journald.
run() {
    local unit=$1
    shift
    # shellcheck disable=SC2086
    systemd-run --quiet --unit="$unit" --service-type=notify -p NotifyAccess=all \
        -p KillMode=mixed -p FileDescriptorStoreMax=8 -p Delegate=yes \
        -p LogRateLimitIntervalSec=1s -p LogRateLimitBurst=100000000 \
        -p LogExtraFields=CONTAINER_NAME="$unit" -p RemainAfterExit=no \
        -p ExecStopPost="/usr/libexec/wharf/relay-drain $unit" \
        python3 /root/engine.py ${OPTIONS:-} "$unit" "$@"
}

# Waits until the unit $1 has ended.
ended() {
    local _
    for _ in $(seq 2500); do
        case $(systemctl show --property=ActiveState --value "$1") in
        inactive | failed) return 0 ;;
        esac
        sleep 0.1
    done
    echo "$1 still runs" >&2
    return 1
}

# What the payload of the unit $1 said, as the journal has it.
output() {
    journalctl --quiet --sync
    journalctl --quiet --no-pager --all --unit="$1" --identifier="$1" --output=cat
}

# The process of the relay of unit $1 that waits, and the one that works.
guard() { pgrep --exact wharf-guard --cgroup "/system.slice/$1.service"; }
worker() { pgrep --exact wharf-relay --cgroup "/system.slice/$1.service"; }

# Private memory of both together, in KiB.
private() {
    local pid
    for pid in $(guard "$1") $(worker "$1"); do cat "/proc/$pid/smaps_rollup"; done |
        awk '/^Private_(Clean|Dirty)/ { sum += $2 } END { print sum }'
}
