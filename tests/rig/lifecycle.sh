# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Bringing labs up and down, and running commands in them.
#
# A lab is a directory (upper and work directories of its overlay, its /var, the PID of its init)
# and a cgroup. Its mounts and network exist only in its namespaces: when the last process of the
# cgroup is gone, so are they.

BOOT_TIMEOUT_SECS=30

# Prints the directory of the lab named $1.
lab_dir() { echo "$LAB_STATE/labs/$1"; }

# Prints the cgroup2 mount of this machine.
cgroup_mount() {
    awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts
}

# Prints the cgroup directory of the lab named $1.
lab_cgroup() { echo "$(cgroup_mount)/wharf-lab-$TREE_KEY-$1"; }

# Prints the PID, on the host, of the init of the lab named $1; fails when it is not running.
lab_init() {
    local pid start stat
    read -r pid start <"$(lab_dir "$1")/init" || return 1
    # The start time tells our init from a later process with its number.
    read -r -a stat <"/proc/$pid/stat" || return 1
    [[ ${stat[21]} == "$start" && ${stat[2]} != Z ]] && echo "$pid"
} 2>/dev/null

require_init() {
    lab_init "$LAB" || die "lab '$LAB' is not up; run 'LAB=$LAB tests/lab/lab up'"
}

# Waits for $2… to succeed, for at most $1 seconds. The systems watched have no event to wait for.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.02
    done
}

# Serialises up and down of one lab. The lock file stays: removing it would race with a waiter.
lock_lab() {
    mkdir -p "$LAB_STATE/locks"
    exec {lab_lock}>"$LAB_STATE/locks/$LAB"
    flock "$lab_lock"
}

up() {
    local suite=$1 dir cgroup rootfs init
    dir=$(lab_dir "$LAB")
    cgroup=$(lab_cgroup "$LAB")
    [[ -n $(cgroup_mount) ]] || die "no cgroup2 file system is mounted on this machine"
    rootfs=$(ensure_rootfs "$suite")
    lock_lab
    if lab_init "$LAB" >/dev/null; then
        [[ $(<"$dir/suite") == "$suite" ]] ||
            die "lab '$LAB' runs $(<"$dir/suite"); take it down first, or set LAB to another name"
        say "'$LAB' is up already"
        return
    fi
    # What a crash left: a directory without its init, or a cgroup without a directory.
    remove_lab "$LAB"

    mkdir -p "$dir"/{root,upper/etc,work,var}
    echo "$suite" >"$dir/suite"
    cp -a --reflink=auto "$rootfs/var/." "$dir/var/"
    tr -d - </proc/sys/kernel/random/uuid >"$dir/upper/etc/machine-id"
    echo "$LAB" >"$dir/upper/etc/hostname"
    printf '%s\n' "127.0.0.1 localhost $LAB" '::1 localhost' >"$dir/upper/etc/hosts"
    mkdir "$cgroup"

    # Its own session, so that neither a hangup nor a ^C of this terminal reaches the lab, and no
    # descriptor of ours, so that whoever reads our output sees its end.
    setsid unshare --mount --propagation private --pid --fork --uts --ipc --net \
        "$LAB_HOME/boot.sh" "$dir" "$rootfs" "$cgroup" "$LAB" \
        </dev/null >"$dir/console.log" 2>&1 {lab_lock}>&- &
    echo $! >"$dir/keeper"
    if ! boot_wait; then
        sed 's/^/lab: /' "$dir/console.log" >&2
        remove_lab "$LAB"
        die "lab '$LAB' did not boot within $BOOT_TIMEOUT_SECS seconds"
    fi
    init=$(lab_init "$LAB")
    nsenter --target "$init" --mount -- umount /proc/sys/fs
    mkdir -p "$cgroup/$EXEC_CGROUP"
    say "'$LAB' is up: $suite, $(exec_in_lab root systemctl --version | head -n1)"
}

# Waits until systemd has finished booting and the bus answers. A unit that fails is shown, since
# nothing in a fresh lab may.
boot_wait() {
    local state deadline=$((SECONDS + BOOT_TIMEOUT_SECS))
    wait_until "$BOOT_TIMEOUT_SECS" has_manager || return 1
    state=$(timeout $((deadline - SECONDS)) "$LAB_HOME/enter.sh" "$(lab_init "$LAB")" '' \
        systemctl is-system-running --wait) || true
    case $state in
    running) ;;
    degraded)
        say "'$LAB' is degraded; these units failed:"
        "$LAB_HOME/enter.sh" "$(lab_init "$LAB")" '' systemctl --no-pager --failed >&2
        ;;
    *) return 1 ;;
    esac
    wait_until $((deadline - SECONDS)) has_bus
}

has_manager() {
    local init
    # A boot script that has died will never bring a manager up, but then nothing is left to wait for.
    init=$(lab_init "$LAB") && [[ -S /proc/$init/root/run/systemd/private ]]
}

has_bus() {
    "$LAB_HOME/enter.sh" "$(lab_init "$LAB")" '' busctl --quiet call org.freedesktop.DBus \
        /org/freedesktop/DBus org.freedesktop.DBus GetNameOwner s org.freedesktop.systemd1
} >/dev/null 2>&1

# Where commands from outside run: below a unit that delegates its cgroup, not in the unit's own,
# so that tools which make cgroups beside themselves find no process in the way.
EXEC_CGROUP=system.slice/lab-exec.service/session

# Replaces this process by the command $2… run as the user $1 in the lab.
exec_in_lab() {
    local user=$1 init
    shift
    init=$(require_init)
    if [[ $user != root ]]; then
        local uid
        uid=$(awk -F: -v user="$user" '$1 == user { print $3 }' "/proc/$init/root/etc/passwd")
        [[ -n $uid ]] || die "lab '$LAB' has no user '$user'"
        # What pam_systemd sets for a session of a user whose manager runs (loginctl enable-linger).
        set -- runuser -u "$user" -- env "HOME=/home/$user" "USER=$user" "LOGNAME=$user" \
            "XDG_RUNTIME_DIR=/run/user/$uid" "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$uid/bus" "$@"
    fi
    exec "$LAB_HOME/enter.sh" "$init" "$(lab_cgroup "$LAB")/$EXEC_CGROUP" "$@"
}

lab_root() { echo "/proc/$(require_init)/root"; }

install_wharf() {
    local root
    root=$(lab_root)
    make --silent --directory="$WHARF_SOURCE" --file="$LAB_HOME/../../Makefile" \
        install DESTDIR="$root" BUILD="$WHARF_BUILD"
    exec_in_lab root systemctl daemon-reload
}

list_labs() {
    local dir name
    for dir in "$LAB_STATE"/labs/*/; do
        [[ -d $dir ]] || continue
        name=$(basename "$dir")
        if lab_init "$name" >/dev/null; then
            echo "$name $(<"$dir/suite") up"
        else
            echo "$name $(cat "$dir/suite" 2>/dev/null || echo -) stale"
        fi
    done
}

down() {
    lock_lab
    if [[ ! -e $(lab_dir "$LAB") && ! -e $(lab_cgroup "$LAB") ]]; then
        say "'$LAB' is not up"
        return
    fi
    remove_lab "$LAB"
}

down_all() {
    local dir
    for dir in "$LAB_STATE"/labs/*/ "$(cgroup_mount)/wharf-lab-$TREE_KEY-"*/; do
        [[ -d $dir ]] || continue
        LAB=$(basename "$dir")
        LAB=${LAB#"wharf-lab-$TREE_KEY-"}
        down
    done
}

# Kills what runs in the lab named $1 and removes its cgroups and directory. Absent is success;
# anything that stays is an error.
remove_lab() {
    local dir cgroup keeper
    dir=$(lab_dir "$1")
    cgroup=$(lab_cgroup "$1")
    if [[ -d $cgroup ]]; then
        echo 1 >"$cgroup/cgroup.kill"
        wait_until 20 is_empty_cgroup "$cgroup" ||
            die "processes of lab '$1' survived SIGKILL: $(find "$cgroup" -name cgroup.procs -exec cat {} + | tr '\n' ' ')"
        find "$cgroup" -depth -type d -exec rmdir {} +
    fi
    if [[ -s $dir/keeper ]]; then
        keeper=$(<"$dir/keeper")
        # A boot that stopped before it joined the cgroup has only its keeper, the parent of init.
        if [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$keeper/cmdline") == *"boot.sh $dir "* ]]; then
            kill -KILL "$keeper" 2>/dev/null || true
        fi
        wait_until 20 is_gone "$keeper" "$dir" || die "process $keeper of lab '$1' does not end"
    fi
    ! grep -qF " $dir/" /proc/self/mountinfo || die "lab '$1' left mounts on this machine below '$dir'"
    rm -rf --one-file-system "$dir"
    [[ ! -e $dir && ! -e $cgroup ]] || die "lab '$1' left '$dir' or '$cgroup'"
}

is_empty_cgroup() { grep -qx 'populated 0' "$1/cgroup.events"; }

# Whether the process $1 is no longer the keeper of the lab in the directory $2.
is_gone() { [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline") != *"boot.sh $2 "* ]]; }
