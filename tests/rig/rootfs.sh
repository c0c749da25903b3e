# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Root file systems: made once per suite and package list with mmdebstrap, then only read.

# Raised when what prepare_rootfs does changes, so that cached trees are made again.
ROOTFS_REVISION=2

# Prints the packages of the suite $1, separated by commas.
rootfs_packages() {
    awk -v suite="$1" '!/^#/ && NF && (NF == 1 || $2 == suite) { print $1 }' "$LAB_HOME/packages" |
        paste -sd,
}

# Prints the directory of the root file system of the suite $1, whether it exists or not.
rootfs_path() {
    local key
    key=$({ echo "$ROOTFS_REVISION"; rootfs_packages "$1"; } | sha256sum | cut -c1-12)
    echo "$LAB_STATE/rootfs/$1-$key"
}

# Prints the Debian mirror that this machine's own apt uses.
host_mirror() {
    local mirror=${LAB_MIRROR:-}
    if [[ -z $mirror ]]; then
        # shellcheck disable=SC2016 # the variables of the format are apt's own
        mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' |
            awk '$1 ~ /^(bookworm|trixie|forky|sid|stable|testing|unstable)$/ && $2 == "main" && !found { print $3; found = 1 }')
    fi
    [[ -n $mirror ]] || die "apt on this machine names no Debian mirror; set LAB_MIRROR to one"
    echo "$mirror"
}

# Units that have nothing to do in a lab, or would touch what it shares with the host:
# kernel parameters, modules, time, devices.
MASKED_UNITS=(
    getty.target console-getty.service serial-getty@.service
    systemd-udevd.service systemd-udev-trigger.service systemd-udev-settle.service
    systemd-udevd-control.socket systemd-udevd-kernel.socket
    systemd-sysctl.service systemd-modules-load.service systemd-binfmt.service
    proc-sys-fs-binfmt_misc.automount sys-kernel-debug.mount sys-kernel-tracing.mount
    sys-kernel-config.mount sys-fs-fuse-connections.mount dev-hugepages.mount
    systemd-timesyncd.service systemd-random-seed.service systemd-pstore.service
    systemd-firstboot.service systemd-resolved.service systemd-networkd.service
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
    e2scrub_reap.service fstrim.timer podman-auto-update.timer
)

# Adapts the fresh root file system $1 to a lab. Runs once, before it is cached.
prepare_rootfs() {
    local root=$1 unit
    for unit in "${MASKED_UNITS[@]}"; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    # Daemons that Debian starts on installation; tests start those they want.
    for unit in nginx docker-registry podman podman-auto-update podman-restart \
        podman-clean-transient netavark-dhcp-proxy; do
        rm -f "$root"/etc/systemd/system/*.wants/$unit.{service,socket,timer}
    done
    # A lab has no file system to check or to mount.
    : >"$root/etc/fstab"
    mkdir -p "$root/var/log/journal" "$root/etc/systemd/journald.conf.d"
    # On disk, since a million lines would fill the tmpfs on /run; nothing goes to the host's kernel log.
    printf '%s\n' '[Journal]' 'Storage=persistent' 'SystemMaxUse=4G' 'ReadKMsg=no' \
        'ForwardToConsole=no' 'ForwardToKMsg=no' 'ForwardToSyslog=no' \
        >"$root/etc/systemd/journald.conf.d/50-lab.conf"
    # The unit in whose control group `lab exec` runs its commands; see exec_in_lab.
    printf '%s\n' '[Unit]' 'Description=Commands run from outside the lab' '[Service]' \
        'ExecStart=/bin/sleep infinity' 'Delegate=yes' 'LimitNOFILE=1024:524288' \
        >"$root/etc/systemd/system/lab-exec.service"
    mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
    ln -sf ../lab-exec.service "$root/etc/systemd/system/multi-user.target.wants/lab-exec.service"
}

# Makes the root file system of the suite $1 unless it is cached, and prints where it is.
ensure_rootfs() {
    local suite=$1 root mirror proxy options=()
    root=$(rootfs_path "$suite")
    mkdir -p "$LAB_STATE/rootfs"
    # Two labs starting at once must not both build it.
    exec {rootfs_lock}>"$LAB_STATE/rootfs/$suite.lock"
    flock "$rootfs_lock"
    if [[ ! -d $root ]]; then
        "$LAB_HOME/../need" mmdebstrap mmdebstrap
        mirror=$(host_mirror)
        proxy=$(apt-config shell proxy Acquire::http::Proxy)
        if [[ -n $proxy ]]; then
            eval "$proxy"
            options+=("--aptopt=Acquire::http::Proxy \"$proxy\"")
        fi
        say "making the root file system of $suite with mmdebstrap (once, a minute or two)"
        rm -rf "$root.new"
        TMPDIR=${TMPDIR:-/tmp} mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
            --include="$(rootfs_packages "$suite")" \
            --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages none' \
            --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io \
            "${options[@]}" "$suite" "$root.new" "$mirror" >&2 ||
            die "mmdebstrap could not make the root file system of $suite"
        prepare_rootfs "$root.new"
        mv "$root.new" "$root"
    fi
    exec {rootfs_lock}>&-
    echo "$root"
}
