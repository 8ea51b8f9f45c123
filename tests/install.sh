#!/bin/sh
# Installs what a target of the Makefile needs and this machine lacks, as Debian packages, by apt:  tests/install.sh TARGET
# tests/install.sh --dry-run TARGET prints all the packages that the target needs, one a line, and installs nothing.
# For the tests and the bench Postfix is unpacked as well, below target/; for the bench, imapproxy too.
set -eu

# The program: its C libraries, and OpenSSL's source from Debian (config/release/openssl.sh).
build="gcc libc6-dev perl make dpkg-dev gpgv ca-certificates"
# Booted containers.
system="openssl curl python3 binutils rpm docker.io docker-compose debootstrap iproute2 iptables"
# The program for arm64, built and run on another machine.
arm64="gcc-aarch64-linux-gnu libc6-dev-arm64-cross binutils qemu-user-static"

is_dry=false
if [ "${1:-}" = --dry-run ]; then
    is_dry=true
    shift
fi
case "${1:-}" in
build | demo | advisories | bench-fleet | bench-frame) packages=$build ;;
deb | archive) packages="$build binutils python3" ;;
archive-static) packages="$build binutils python3 python3-venv" ;;
rpm) packages="$build binutils python3 rpm" ;;
build-arm64) packages="$build $arm64 python3 python3-venv rpm" ;;
sbom) packages="$build python3 python3-venv" ;;
deny) packages="gcc libc6-dev ca-certificates git python3 python3-venv" ;;
reproducible) packages="$build binutils git python3" ;;
test) packages="$build openssl curl python3 dovecot-imapd dovecot-pop3d exim4-daemon-light swaks libnet-ssleay-perl msmtp \
libjakarta-mail-java libgnutls28-dev libmbedtls-dev javac binutils prometheus bindfs e2fsprogs chromium chromium-driver faketime \
iproute2 sslscan npm mutt postgresql pgbouncer haproxy kubernetes-client python3-venv" ;;
test-system) packages="$build $system" ;;
test-packages) packages="$build $system $arm64 python3-venv rpmlint" ;;
scan) packages="$build openssl curl sslscan testssl.sh" ;;
soak) packages="$build openssl curl dovecot-imapd dovecot-pop3d bindfs" ;;
fuzz) packages="$build g++" ;;
bench) packages="$build python3 python3-venv iproute2 strace stunnel4 haproxy nginx libnginx-mod-stream libsasl2-modules \
libwrap0 libnsl2" ;;
bench-login) packages="$build python3-venv dovecot-imapd dovecot-pop3d" ;;
bench-latency) packages="$build python3 iproute2" ;;
bench-instructions) packages="$build valgrind" ;;
bench-fleet-session) packages="$build valgrind postgresql" ;;
*)
    echo "usage: tests/install.sh [--dry-run] TARGET, where TARGET is one of the Makefile's that needs packages" >&2
    exit 64
    ;;
esac
# Any Java with a compiler will do.
java=openjdk-17-jdk-headless
if $is_dry; then
    for package in $packages; do
        [ "$package" = javac ] && echo "$java" || echo "$package"
    done
    exit
fi

missing=""
for package in $packages; do
    if [ "$package" = javac ]; then
        command -v javac >/dev/null || missing="$missing $java"
    elif [ "$package" = npm ] && command -v npm >/dev/null; then
        # Node.js of another source has npm as well.
        :
    elif [ "$package" = kubernetes-client ] && command -v kubectl >/dev/null; then
        # kubectl of another source will do.
        :
    else
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
    fi
done

if ! command -v cargo >/dev/null; then
    echo "Rust 1.95 or later is needed: see https://rustup.rs" >&2
    exit 69
fi
# Postfix conflicts with Exim, so its package is unpacked rather than installed.
postfix=$(dirname "$0")/../target/debian/postfix
case "$1" in test | bench) [ ! -d "$postfix" ] || postfix="" ;; *) postfix="" ;; esac
# The service of imapproxy's package is not wanted.
imapproxy=$(dirname "$0")/../target/debian/imapproxy
case "$1" in bench) [ ! -d "$imapproxy" ] || imapproxy="" ;; *) imapproxy="" ;; esac
[ -n "$missing$postfix$imapproxy" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    sudo=""
elif command -v sudo >/dev/null; then
    sudo="sudo"
else
    echo "These packages are missing, and only root can install them:$missing${postfix:+ postfix}" >&2
    exit 77
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# PostgreSQL's package would make and start a cluster of its own.
clusters=/etc/postgresql-common/createcluster.conf
case " $missing " in
*" postgresql "*)
    if [ ! -e "$clusters" ]; then
        $sudo apt-get install -qq -y --no-install-recommends postgresql-common >/dev/null
        echo "create_main_cluster = false" | $sudo tee -a "$clusters" >/dev/null
    fi
    ;;
esac
if [ -n "$missing" ]; then
    echo "installing$missing"
    # shellcheck disable=SC2086 # a list of words
    $sudo apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi
if [ -n "$postfix" ]; then
    echo "unpacking postfix"
    rm -rf "$postfix.new"
    mkdir -p "$postfix.new"
    (cd "$postfix.new" && apt-get -qq download postfix && dpkg-deb --extract postfix_*.deb .)
    libraries=$(dpkg-deb --field "$postfix.new"/postfix_*.deb Depends | tr , '\n' | sed -n 's/^ *\(lib[^ ]*\).*/\1/p')
    # shellcheck disable=SC2086 # a list of words
    $sudo apt-get install -qq -y --no-install-recommends $libraries >/dev/null
    mv "$postfix.new" "$postfix"
fi
if [ -n "$imapproxy" ]; then
    echo "unpacking imapproxy"
    rm -rf "$imapproxy.new"
    mkdir -p "$imapproxy.new"
    (cd "$imapproxy.new" && apt-get -qq download imapproxy && dpkg-deb --extract imapproxy_*.deb .)
    mv "$imapproxy.new" "$imapproxy"
fi
# Tests and benches start servers of their own; the system's are not wanted.
for service in dovecot exim4 nginx haproxy stunnel4 prometheus postgresql pgbouncer; do
    case " $missing " in
    *" $service"*) [ ! -d /run/systemd/system ] || $sudo systemctl disable --now $service.socket $service.service 2>/dev/null || true ;;
    esac
done
