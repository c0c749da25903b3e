#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Times wharf's generator against Quadlet's over the same containers, alternately, in one run.
#
# usage: tests/bench/generator.sh WHARF-GENERATOR QUADLET [COUNT [RUNS]]
#
# Prints one line per generator: name, median, fastest and slowest run in milliseconds, and then
# the ratio of the medians. Run it in a lab, where Quadlet is
# /usr/lib/systemd/system-generators/podman-system-generator, or anywhere with both programs.
set -euo pipefail

wharf=${1:?the path of wharf-generator}
quadlet=${2:?the path of the generator of Quadlet}
count=${3:-1000}
runs=${4:-15}

# Both are run for a user, so that definitions and outputs are in one temporary directory.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/config/wharf/containers" "$work/config/containers/systemd" "$work/run"

for ((i = 0; i < count; i++)); do
    cat >"$work/config/wharf/containers/c$i.toml" <<END
description = "Container number $i"
image = "localhost/app:$i"
command = ["serve", "--port", "80"]
environment = { MODE = "production", NUMBER = "$i" }
volumes = ["/srv/c$i:/data:ro"]
user = "1000"
restart = "on-failure"
stop_timeout = "20s"
enabled = true

[resources]
memory = "256M"
pids = 200
END
    cat >"$work/config/containers/systemd/c$i.container" <<END
[Unit]
Description=Container number $i

[Container]
Image=localhost/app:$i
Exec=serve --port 80
Environment=MODE=production NUMBER=$i
Volume=/srv/c$i:/data:ro
User=1000
PidsLimit=200

[Service]
Restart=on-failure
TimeoutStopSec=20s
MemoryMax=256M

[Install]
WantedBy=default.target
END
done

# Runs a generator into an empty directory, as systemd does, and prints microseconds.
time_one() {
    local program=$1 begin end
    shift
    rm -rf "$work/out"
    mkdir -p "$work/out"
    begin=${EPOCHREALTIME/[^0-9]/}
    env -i PATH="$PATH" HOME="$work" XDG_CONFIG_HOME="$work/config" \
        XDG_DATA_HOME="$work/data" XDG_RUNTIME_DIR="$work/run" SYSTEMD_SCOPE=user \
        QUADLET_UNIT_DIRS="$work/config/containers/systemd" \
        "$program" "$@" "$work/out" "$work/out" "$work/out" >"$work/messages" 2>&1
    end=${EPOCHREALTIME/[^0-9]/}
    echo $((end - begin))
}

# A generator that did nothing would be the fastest.
check() {
    local found
    found=$(find "$work/out" -type f -name "$1" | wc -l)
    ((found == count)) || {
        echo "generator.sh: $2 made $found of $count units:" >&2
        head -n 5 "$work/messages" >&2
        exit 1
    }
}

for ((run = 0; run < runs; run++)); do
    time_one "$wharf" >>"$work/wharf.times"
    check 50-wharf.conf wharf-generator
    time_one "$quadlet" --user >>"$work/quadlet.times"
    check 'c*.service' "${quadlet##*/}"
done

# Median, minimum and maximum of the microseconds in the file $2, in milliseconds.
summary() {
    sort -n "$2" | awk -v name="$1" '
        { t[NR] = $1 / 1000 }
        END { printf "%-16s median %8.1f ms  min %8.1f  max %8.1f  (%d runs)\n",
                     name, t[int((NR + 1) / 2)], t[1], t[NR], NR }'
}
summary wharf-generator "$work/wharf.times"
summary quadlet "$work/quadlet.times"
paste <(sort -n "$work/wharf.times") <(sort -n "$work/quadlet.times") | awk -v n="$count" '
    { w[NR] = $1; q[NR] = $2 }
    END { m = int((NR + 1) / 2); printf "ratio            %.3f over %d containers\n", w[m] / q[m], n }'
