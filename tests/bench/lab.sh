#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What `make bench` runs in the lab: lab.sh PART. Samples go to standard output, one a line, as
# WHAT<TAB>WHO<TAB>VALUE; everything else to standard error.
#
# Everybody runs the same static program, directly below systemd or from the same image:
#   plain    a unit of Type=exec: what a start costs without any container
#   notify   the same, of Type=notify like the units of containers
#   crun     a unit that runs 'crun run' with wharf's own config.json, and nothing of wharf:
#            what the OCI runtime, the namespaces and an empty ExecStopPost= cost by themselves
#   journal  wharf, log.driver = "journal" (the default)
#   direct   wharf, log.driver = "direct"
#   quadlet  podman's container from a .container file
set -euo pipefail

BENCH=/usr/local/lib/bench
GENERATORS=/usr/lib/systemd/system-generators
IMAGE=localhost/bench:1
ROUNDS=${BENCH_ROUNDS:-20}
GROUP_ROUNDS=${BENCH_GROUP_ROUNDS:-15}
LINES_ROUNDS=${BENCH_LINES_ROUNDS:-3}
GROUP=${BENCH_GROUP:-50}
CONTAINERS=${BENCH_CONTAINERS:-500}
DEFINITIONS=${BENCH_DEFINITIONS:-1000}
LINES=${BENCH_LINES:-1000000}
SETTLE_MS=${BENCH_SETTLE_MS:-250}

stopwatch() { "$BENCH/stopwatch" "$@"; }
sample() { printf '%s\t%s\t%s\n' "$@"; }

# Writes standard input to the file $1.
put() {
    mkdir -p "$(dirname "$1")"
    cat >"$1"
}

# The unit of number $2 of $1.
unit() {
    case $1 in
    journal | direct | lines) echo "ctr@$1@$2.service" ;;
    *) echo "bench-$1@$2.service" ;;
    esac
}

# The units 1 to $2 of $1, separated by commas.
units() {
    local number list=''
    for number in $(seq "$2"); do
        list+=,$(unit "$1" "$number")
    done
    echo "${list#,}"
}

# Lines of a rate limit that no measurement reaches; 0 would not switch it off (docs/relay.md).
NO_RATE_LIMIT='LogRateLimitIntervalSec=1s
LogRateLimitBurst=100000000'

# A unit named $1 of the type $2 that runs $3, with the further settings $4.
plain_unit() {
    put "/etc/systemd/system/bench-$1@.service" <<END
[Unit]
StartLimitIntervalSec=0
[Service]
Type=$2
NotifyAccess=all
ExecStart=$3
SyslogIdentifier=bench
$NO_RATE_LIMIT
${4:-}
END
}

# A container of wharf named $1 with the log driver $2 and the command $3, and its instances $4….
wharf_definition() {
    local instance
    put "/etc/wharf/containers/$1@.toml" <<END
image = "$IMAGE"
command = $3
network = "none"
restart_max_attempts = 0
[log]
driver = "$2"
rate_limit = 0
END
    # Only instances that have a file of their own get what their unit needs without 'wharf start'.
    for instance in "${@:4}"; do
        ln -sf "$1@.toml" "/etc/wharf/containers/$1@$instance.toml"
    done
}

# A container of Quadlet named $1 with the command $2. The lab may have no pids controller.
quadlet_definition() {
    put "/etc/containers/systemd/bench-$1@.container" <<END
[Unit]
StartLimitIntervalSec=0
[Container]
Image=$IMAGE
Exec=$2
Network=none
Pull=never
PodmanArgs=--pids-limit=0
[Service]
$NO_RATE_LIMIT
END
}

# The images, and a unit or a definition for everybody.
prepare() {
    local numbers
    wharf image load "$BENCH/image.tar" >&2
    podman load --quiet --input "$BENCH/image.tar" >&2
    plain_unit plain exec "$BENCH/payload"
    plain_unit notify notify "$BENCH/payload"
    plain_unit plainlines exec "$BENCH/payload $LINES exit"
    mapfile -t numbers < <(seq "$((CONTAINERS > GROUP ? CONTAINERS : GROUP))")
    wharf_definition journal journal '["/payload"]' "${numbers[@]}"
    wharf_definition direct direct '["/payload"]' crun "${numbers[@]:0:GROUP}"
    wharf_definition lines journal "[\"/payload\", \"$LINES\", \"exit\"]" "${numbers[@]:0:LINES_ROUNDS}"
    quadlet_definition quadlet /payload
    quadlet_definition quadletlines "/payload $LINES exit"
    systemctl daemon-reload
    prepare_crun
    systemctl daemon-reload
}

# The bundle of a container of wharf, for crun alone. Its root file system is a copy on the same
# disk, so there is no overlay to mount.
prepare_crun() {
    local from=/run/wharf/containers/direct@crun to=/run/bench/bundle root=/var/lib/bench/rootfs
    systemctl start ctr@direct@crun
    mkdir -p "$to" "$root"
    cp -a "$from"/{config.json,hosts,hostname,resolv.conf} "$to/"
    systemctl stop ctr@direct@crun
    cp "$BENCH/payload" "$root/"
    sed -i -E "s|\"$from/rootfs\"|\"$root\"|; s|$from/|$to/|g; s|\"cgroupsPath\": *\"[^\"]*\",?||" \
        "$to/config.json"
    # The manager is told by the payload, through the socket that crun mounts for it. Like every
    # container engine's, the unit has a program that runs after it.
    plain_unit crun notify \
        "/usr/bin/crun --root /run/bench/crun --cgroup-manager=disabled run --bundle $to crun-%i" \
        $'Delegate=yes\nExecStopPost=-/bin/true'
}

# start and stop, one at a time.
one() {
    local who all=()
    for who in plain notify crun direct journal quadlet; do
        all+=("$who=$(unit "$who" 1)")
    done
    # First starts fill caches: crun keeps compiled seccomp filters, podman its lists.
    stopwatch units '' 1 "$SETTLE_MS" "${all[@]}" >/dev/null
    stopwatch units '' "$ROUNDS" "$SETTLE_MS" "${all[@]}"
}

# start and stop of many by one systemctl each.
group() {
    local who all=()
    for who in plain direct journal quadlet; do
        all+=("$who=$(units "$who" "$GROUP")")
    done
    stopwatch units -many "$GROUP_ROUNDS" $((4 * SETTLE_MS)) "${all[@]}"
}

# Private memory in KiB of the processes $@ together.
private_memory() {
    local pid
    for pid in "$@"; do
        cat "/proc/$pid/smaps_rollup"
    done | awk '/^Private_(Clean|Dirty):/ { sum += $2 } END { print sum }'
}

# The processes of the unit $1 whose name matches $2.
helpers() {
    local group pid
    group=$(systemctl show --property=ControlGroup --value "$1")
    find "/sys/fs/cgroup$group" -name cgroup.procs -exec cat {} + | while read -r pid; do
        [[ ! $(<"/proc/$pid/comm") =~ ^($2)$ ]] || echo "$pid"
    done
}

# Samples what stays beside container number $2, as $1.
sample_memory() {
    local pids
    mapfile -t pids < <(helpers "$(unit journal "$2")" 'wharf-.*')
    sample "$1" relay "$(private_memory "${pids[@]}")"
    mapfile -t pids < <(helpers "$(unit quadlet "$2")" conmon)
    sample "$1" conmon "$(private_memory "${pids[@]}")"
}

# Private memory of what stays beside a container, alone and as one of many.
memory() {
    local number all
    for number in $(seq "$ROUNDS"); do
        systemctl start "$(unit journal 1)" "$(unit quadlet 1)"
        sleep 0.5
        sample_memory memory 1
        systemctl stop "$(unit journal 1)" "$(unit quadlet 1)"
    done
    IFS=, read -ra all <<<"$(units journal "$ROUNDS"),$(units quadlet "$ROUNDS")"
    systemctl start "${all[@]}"
    sleep 2
    for number in $(seq "$ROUNDS"); do
        sample_memory memory-many "$number"
    done
    systemctl stop "${all[@]}"
}

# 'wharf ps' with many containers running.
ps_many() {
    local all
    IFS=, read -ra all <<<"$(units journal "$CONTAINERS")"
    systemctl start "${all[@]}"
    sample ps-running wharf "$(wharf ps | grep -c ' running')"
    stopwatch run ps "$ROUNDS" true "wharf=wharf ps" "systemctl=systemctl list-units ctr@*"
    systemctl stop "${all[@]}"
}

# Runs the unit $1 to its end, and waits until journald has all it said.
run_to_end() {
    systemctl start --wait "$1"
    journalctl --sync
}

# Lines through each way to the journal.
lines() {
    local round who name seen
    for round in $(seq "$LINES_ROUNDS"); do
        for who in plainlines lines quadletlines; do
            name=$(unit "$who" "$round")
            stopwatch run lines 1 true "$who=$BENCH/lab.sh run_to_end $name"
            # Their numbers tell what is lost and what is out of order.
            seen=$(journalctl --quiet --no-pager --output=cat "--unit=$name" |
                awk '/^[0-9]+$/ && $0 == seen + 1 { seen = $0 } END { print seen + 0 }')
            sample lines-lost "$who" $((LINES - seen))
            journalctl --quiet --rotate --vacuum-size=1M >&2
        done
    done
}

# Definition number $2 named $1, for wharf and for Quadlet.
write_definitions() {
    put "/etc/wharf/containers/$1.toml" <<END
description = "Application $2"
image = "registry.example/team/$1:1.$2"
command = ["/usr/bin/serve", "--port", "80"]
user = "1000:1000"
volumes = ["/srv/$1:/data:rw"]
restart = "on-failure"
stop_timeout = "30s"
wanted_by = ["multi-user.target"]
[environment]
LOG_LEVEL = "info"
INSTANCE = "$2"
[resources]
memory = "256M"
END
    put "$QUADLET_UNIT_DIRS/$1.container" <<END
[Unit]
Description=Application $2
[Container]
Image=registry.example/team/$1:1.$2
Exec=/usr/bin/serve --port 80
User=1000
Group=1000
Volume=/srv/$1:/data:rw
Environment=LOG_LEVEL=info
Environment=INSTANCE=$2
[Service]
Restart=on-failure
TimeoutStopSec=30s
MemoryMax=256M
[Install]
WantedBy=multi-user.target
END
}

# Both generators over the same definitions.
generator() {
    local number clean='rm -rf /run/bench/out && mkdir -p /run/bench/out'
    export QUADLET_UNIT_DIRS=/run/bench/quadlet
    mv /etc/wharf/containers /etc/wharf/kept
    for number in $(seq "$DEFINITIONS"); do
        write_definitions "$(printf 'app-%04d' "$number")" "$number"
    done
    stopwatch run generator "$ROUNDS" "$clean" \
        "wharf=$GENERATORS/wharf-generator /run/bench/out" \
        "quadlet=$GENERATORS/podman-system-generator -no-kmsg-log /run/bench/out"
    check_generated "$GENERATORS/wharf-generator"
    check_generated "$GENERATORS/podman-system-generator" -no-kmsg-log
    rm -rf /etc/wharf/containers
    mv /etc/wharf/kept /etc/wharf/containers
}

# A generator that did nothing would be fast.
check_generated() {
    local made
    rm -rf /run/bench/out
    mkdir -p /run/bench/out
    "$@" /run/bench/out
    made=$(find /run/bench/out -type f | wc -l)
    ((made == DEFINITIONS)) || {
        echo "lab.sh: $1 made $made files of $DEFINITIONS definitions" >&2
        return 1
    }
}

# What the figures depend on, as WHAT<TAB>VALUE.
versions() {
    local cpu memory
    cpu=$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n1)
    memory=$(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)
    printf '%s\t%s\n' \
        date "$(date --utc '+%F %R UTC')" \
        machine "$(nproc) × ${cpu:-$(uname -m)}, $memory" \
        load "$(cut -d' ' -f1-3 /proc/loadavg) (1, 5, 15 minutes) when the measurements began" \
        kernel "$(uname -sr)" \
        systemd "$(systemctl --version | sed -n '1s/.*(\(.*\))/\1/p')" \
        crun "$(crun --version | sed -n '1s/.* //p')" \
        podman "$(podman --version | sed 's/.* //')" \
        conmon "$(conmon --version | sed -n '1s/.* //p')" \
        wharf "$(wharf --version | sed 's/.* //')"
}

"$@"
