#!/bin/sh
# Installs what building and testing need, and the packages that are named, where they are missing: Debian's, by apt.
set -eu

missing=""
for package in gcc libc6-dev perl make dpkg-dev gpgv ca-certificates openssl curl python3 dovecot-imapd dovecot-pop3d \
    libgnutls28-dev libmbedtls-dev binutils prometheus bindfs chromium chromium-driver faketime iproute2 "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
# Any Java with a compiler will do.
command -v javac >/dev/null || missing="$missing openjdk-17-jdk-headless"

if ! command -v cargo >/dev/null; then
    echo "Rust 1.95 or later is needed: see https://rustup.rs" >&2
    exit 69
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    sudo=""
elif command -v sudo >/dev/null; then
    sudo="sudo"
else
    echo "These packages are missing, and only root can install them:$missing" >&2
    exit 77
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$sudo apt-get install -qq -y --no-install-recommends $missing >/dev/null
# Tests and benches start servers of their own; the system's are not wanted.
for service in dovecot nginx haproxy stunnel4 prometheus; do
    case " $missing " in
    *" $service"*) [ ! -d /run/systemd/system ] || $sudo systemctl disable --now $service.socket $service.service 2>/dev/null || true ;;
    esac
done
