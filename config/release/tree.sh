# The files of every package, for the scripts that make one: this list is the only one.
# shellcheck shell=sh disable=SC2034,SC2154
#
# A script sets root and binary, sources this file, and calls:
#   prepare TOOL...     sets version, SOURCE_DATE_EPOCH and the machine's names; fails if a tool is missing
#   tree STAGE          puts the files into the directory STAGE, but no licence; their times are not older than the commit
# Variables that differ between packages, with their defaults: UNITS (usr/lib/systemd/system), ZSH
# (usr/share/zsh/site-functions).
umask 022
export LC_ALL=C TZ=UTC

prepare() {
    if [ ! -x "$binary" ]; then
        echo "$binary is missing; build it with: make build" >&2
        exit 66
    fi
    for tool in readelf gzip python3 "$@"; do
        command -v "$tool" >/dev/null || {
            echo "$tool is missing: apt-get install dpkg binutils gzip python3 rpm" >&2
            exit 69
        }
    done
    version=$(sed -n '/^\[package\]/,/^\[dep/ s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
    : "${SOURCE_DATE_EPOCH:=$(git -C "$root" log -1 --format=%ct 2>/dev/null || stat -c %Y "$root/CHANGELOG.md")}"
    export SOURCE_DATE_EPOCH
    # debian_name and rpm_name are the packagers' names of the architecture. gnu is the compiler's.
    case $(readelf -h "$binary" | sed -n 's/^ *Machine: *//p') in
    *X86-64) debian_name=amd64 rpm_name=x86_64 ;;
    AArch64) debian_name=arm64 rpm_name=aarch64 ;;
    *)
        echo "$binary is for a machine that has no package: $(readelf -h "$binary" | grep Machine:)" >&2
        exit 69
        ;;
    esac
    # The tools of another machine have its name in front.
    gnu=$rpm_name-linux-gnu
    strip=strip objdump=objdump
    if [ "$rpm_name" != "$(uname -m)" ]; then
        strip=$gnu-strip objdump=$gnu-objdump
    fi
    command -v "$strip" >/dev/null || {
        echo "$strip is missing: apt-get install binutils-$(echo "$gnu" | tr _ -)" >&2
        exit 69
    }
    # The newest symbol version of the C library that the program needs. A static program names no loader.
    glibc='' libc=gnu
    if readelf --program-headers --wide "$binary" | grep -q '^ *INTERP '; then
        glibc=$("$objdump" -T "$binary" | sed -n 's/.*GLIBC_\([0-9.]*\)[) ].*/\1/p' | sort -V | tail -n 1)
    else
        libc=musl
    fi
    # Rust's name, for the bill of materials.
    export TARGET="$rpm_name-unknown-linux-$libc"
}

# program ARGUMENTS...: runs the program, on a machine of another kind by QEMU.
program() {
    if [ "$rpm_name" = "$(uname -m)" ]; then
        "$binary" "$@"
        return
    fi
    for emulator in "qemu-$rpm_name-static" "qemu-$rpm_name"; do
        if command -v "$emulator" >/dev/null; then
            "$emulator" -L "/usr/$gnu" "$binary" "$@"
            return
        fi
    done
    echo "the man pages come from the program itself, and qemu-$rpm_name is missing: apt-get install qemu-user-static" >&2
    exit 69
}

# put MODE FILE DIRECTORY [NAME]
put() {
    install -D -m "$1" "$root/$2" "$stage/$3/${4:-$(basename "$2")}"
}

tree() {
    stage=$1
    mkdir -p "$stage"
    # mktemp makes a directory for its owner alone; the package needs 755.
    chmod 755 "$stage"

    install -D -m 755 "$binary" "$stage/usr/bin/packetboat"
    # Keep function names for panics; drop line numbers.
    "$strip" --strip-debug --remove-section=.comment "$stage/usr/bin/packetboat"

    put 644 config/systemd/packetboat.service "${UNITS:=usr/lib/systemd/system}"
    for socket in imap imaps pop3 pop3s smtp smtps smtp-25; do
        put 644 "config/systemd/packetboat-$socket.socket" "$UNITS"
    done
    put 644 config/systemd/packetboat.sysusers usr/lib/sysusers.d packetboat.conf

    put 640 config/debian/packetboat.toml etc/packetboat
    install -d -m 700 "$stage/etc/packetboat/credentials"

    # The program generates its man pages and completions.
    install -d "$stage/usr/share/man/man1"
    program generate man "$stage/usr/share/man/man1"
    gzip -9n "$stage"/usr/share/man/man1/*.1
    chmod 644 "$stage"/usr/share/man/man1/*
    install -d "$stage/usr/share/bash-completion/completions" "$stage/${ZSH:=usr/share/zsh/site-functions}" \
        "$stage/usr/share/fish/vendor_completions.d"
    program generate completions bash >"$stage/usr/share/bash-completion/completions/packetboat"
    program generate completions zsh >"$stage/$ZSH/_packetboat"
    program generate completions fish >"$stage/usr/share/fish/vendor_completions.d/packetboat.fish"

    doc=usr/share/doc/packetboat
    install -d "$stage/$doc"
    OPENSSL_SOURCE=$("$root/config/release/openssl.sh")
    OPENSSL_SOURCE=$OPENSSL_SOURCE "$root/config/release/sbom.py" "$stage/$doc/packetboat.cdx.json"
    put 644 README.md $doc
    put 644 CHANGELOG.md $doc
    for page in "$root"/docs/*.md; do
        put 644 "docs/$(basename "$page")" $doc/docs
    done
    put 644 config/packetboat.toml $doc
    put 644 config/minimal.toml $doc
    for example in prometheus/packetboat.rules.yml prometheus/scrape.yml grafana/packetboat.json haproxy/haproxy.cfg; do
        put 644 "config/$example" $doc/examples
    done
}

# age STAGE: no file is younger than the commit.
age() {
    find "$1" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}
