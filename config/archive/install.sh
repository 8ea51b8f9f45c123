#!/bin/sh
# Installs packetboat from this directory, as root:
#
#   ./install.sh               installs or upgrades: program, units, user, directories; starts it
#   ./install.sh --uninstall   removes what it installed; configuration, keys and state stay
#   ./install.sh --purge       removes those as well; the user stays, and other files in /etc/packetboat
#
# It needs systemd 250 or later. It is safe to run again: a configuration that exists stays as it is, and so does a unit
# that you have disabled.
set -eu
umask 022
export LC_ALL=C

cd "$(dirname "$0")"
sockets="packetboat-imap.socket packetboat-imaps.socket packetboat-pop3.socket packetboat-pop3s.socket"
# Many hosts have a mail server at the ports of these: the administrator enables them.
optional="packetboat-smtp.socket packetboat-smtps.socket packetboat-smtp-25.socket"
units="$sockets packetboat.service"
prefix=/usr/local
installed=$prefix/lib/systemd/system

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-69}"
}

is_booted() {
    [ -d /run/systemd/system ]
}

check_system() {
    for package in /usr/lib/systemd/system/packetboat.service /lib/systemd/system/packetboat.service; do
        [ ! -e "$package" ] || fail "a package has installed packetboat ($package); remove the package first"
    done
    # What the first line says: systemd 252 (252.39-1~deb12u1)
    systemd=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ "${systemd:-0}" -ge 250 ] ||
        fail "the units need systemd 250 or later, and this system has ${systemd:-none}. \
local/bin/packetboat runs without it: copy it to $prefix/bin, write /etc/packetboat/packetboat.toml, and start \
packetboat run"
    # The wrong machine, or a C library that is too old.
    said=$(./local/bin/packetboat --version 2>&1) || fail "the program does not run on this system: $said"
}

install_files() {
    # A rename: the program that runs may not be written, and a reader finds each file whole.
    find local -type d | while read -r directory; do
        install -d "/usr/$directory"
    done
    find local -type f | while read -r file; do
        mode=644
        [ "$file" != local/bin/packetboat ] || mode=755
        install -m "$mode" "$file" "/usr/$file.new"
        mv "/usr/$file.new" "/usr/$file"
    done
    systemd-sysusers "$PWD/packetboat.sysusers"
    install -d -m 755 /etc/packetboat
    # The service does not start without it.
    install -d -m 700 /etc/packetboat/credentials
    if [ ! -e /etc/packetboat/packetboat.toml ]; then
        # The configuration holds hashes of passwords.
        install -m 640 -g packetboat etc/packetboat.toml /etc/packetboat/packetboat.toml
    fi
}

start() {
    if ! is_booted; then
        echo "systemd does not run here; it starts packetboat at the next boot"
        return
    fi
    systemctl daemon-reload
    # Start the sockets first, one by one, so that a port of another mail server does not keep the others closed.
    # Open sockets stay open, and systemd hands them to the new program: it refuses no connection.
    for socket in $sockets $optional; do
        if systemctl --quiet is-enabled "$socket" && ! systemctl --quiet is-active "$socket"; then
            systemctl start "$socket" || echo "$socket does not start: systemctl status $socket has the reason" >&2
        fi
    done
    if systemctl --quiet is-enabled packetboat.service; then
        systemctl restart packetboat.service ||
            echo "packetboat does not start: journalctl -u packetboat has the reason" >&2
    fi
}

setup() {
    check_system
    is_first=true
    [ ! -e "$installed/packetboat.service" ] || is_first=false
    install_files
    if $is_first; then
        # shellcheck disable=SC2086 # a list of words
        systemctl --quiet --no-reload enable $units
    fi
    start
    echo "installed; list devices with: $prefix/bin/packetboat devices"
}

remove() {
    if [ -e "$installed/packetboat.service" ]; then
        if is_booted; then
            # Stop the sockets together with the service, or the next connection would start it again.
            # shellcheck disable=SC2086
            systemctl stop $units $optional
        fi
        # shellcheck disable=SC2086
        systemctl --quiet --no-reload disable $units $optional
    fi
    find local -type f | while read -r file; do
        rm -f "/usr/$file"
    done
    # Directories that only packetboat has.
    rm -rf "$prefix/share/doc/packetboat"
    if is_booted; then
        systemctl daemon-reload
        # Remove failed units from systemd's list.
        # shellcheck disable=SC2086
        systemctl --quiet reset-failed $units $optional 2>/dev/null || true
    fi
}

[ "$(id -u)" -eq 0 ] || fail "only root can install; run it with sudo" 77
case "${1:-}" in
"") setup ;;
--uninstall)
    remove
    echo "removed; /etc/packetboat and /var/lib/packetboat are left: $0 --purge removes them"
    ;;
--purge)
    remove
    rm -rf /var/lib/packetboat /etc/packetboat/credentials
    rm -f /etc/packetboat/packetboat.toml /etc/packetboat/packetboat.toml.lock
    rmdir /etc/packetboat 2>/dev/null || echo "/etc/packetboat is left, with files of your own" >&2
    echo "removed, with configuration, keys and state"
    ;;
*) fail "usage: ./install.sh [--uninstall | --purge]" 64 ;;
esac
