#!/bin/sh
# Makes the Debian package, with dpkg-deb alone:  config/debian/build.sh [OUTPUT_DIRECTORY [BINARY]]
# Defaults: OUTPUT_DIRECTORY target/debian, BINARY target/release/packetboat. Prints the package's path.
# The same binary, tree and SOURCE_DATE_EPOCH (the last commit's time, if not set) make the same file, bit for bit.
set -eu
umask 022
export LC_ALL=C TZ=UTC

root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "${1:-$root/target/debian}"
output=$(cd "${1:-$root/target/debian}" && pwd)
binary=${2:-$root/target/release/packetboat}

if [ ! -x "$binary" ]; then
    echo "$binary is missing; build it with: make build" >&2
    exit 66
fi
# Debian's own tools. strip knows the architectures of the system it belongs to.
for tool in dpkg-deb strip objdump gzip python3; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install dpkg binutils gzip python3" >&2; exit 69; }
done

version=$(sed -n '/^\[package\]/,/^\[dep/ s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
: "${SOURCE_DATE_EPOCH:=$(git -C "$root" log -1 --format=%ct 2>/dev/null || stat -c %Y "$root/CHANGELOG.md")}"
export SOURCE_DATE_EPOCH
architecture=$(dpkg --print-architecture)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/packetboat
# mktemp makes a directory for its owner alone; the package needs 755.
mkdir -p "$stage"
chmod 755 "$stage"

# put MODE FILE DIRECTORY [NAME]
put() {
    install -D -m "$1" "$root/$2" "$stage/$3/${4:-$(basename "$2")}"
}

install -D -m 755 "$binary" "$stage/usr/bin/packetboat"
# Keep function names for panics; drop line numbers.
strip --strip-debug --remove-section=.comment "$stage/usr/bin/packetboat"

put 644 config/systemd/packetboat.service lib/systemd/system
for socket in imap imaps pop3 pop3s; do
    put 644 "config/systemd/packetboat-$socket.socket" lib/systemd/system
done
put 644 config/systemd/packetboat.sysusers usr/lib/sysusers.d packetboat.conf

put 640 config/debian/packetboat.toml etc/packetboat
install -d -m 700 "$stage/etc/packetboat/credentials"

# The program generates its man pages and completions.
mkdir "$work/man"
"$binary" generate man "$work/man"
install -d "$stage/usr/share/man/man1"
for page in "$work"/man/*.1; do
    gzip -9n "$page"
    install -m 644 "$page.gz" "$stage/usr/share/man/man1/"
done
install -d "$stage/usr/share/bash-completion/completions" "$stage/usr/share/zsh/vendor-completions" \
    "$stage/usr/share/fish/vendor_completions.d"
"$binary" generate completions bash >"$stage/usr/share/bash-completion/completions/packetboat"
"$binary" generate completions zsh >"$stage/usr/share/zsh/vendor-completions/_packetboat"
"$binary" generate completions fish >"$stage/usr/share/fish/vendor_completions.d/packetboat.fish"

doc=usr/share/doc/packetboat
install -d "$stage/$doc"
OPENSSL_SOURCE=$("$root/config/release/openssl.sh")
OPENSSL_SOURCE=$OPENSSL_SOURCE "$root/config/release/sbom.py" "$stage/$doc/packetboat.cdx.json"
put 644 README.md $doc
put 644 CHANGELOG.md $doc
gzip -9nf "$stage/$doc/CHANGELOG.md"
mv "$stage/$doc/CHANGELOG.md.gz" "$stage/$doc/changelog.gz"
for page in "$root"/docs/*.md; do
    put 644 "docs/$(basename "$page")" $doc/docs
done
put 644 config/packetboat.toml $doc
put 644 config/minimal.toml $doc
for example in prometheus/packetboat.rules.yml prometheus/scrape.yml grafana/packetboat.json; do
    put 644 "config/$example" $doc/examples
done
{
    cat <<COPYRIGHT
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: packetboat

Files: *
Copyright: the packetboat authors
License: MIT or Apache-2.0
Comment: The program contains OpenSSL (Apache-2.0), AWS-LC (Apache-2.0 and ISC) and Rust crates, most of them MIT or
 Apache-2.0.

License: MIT
$(sed -e 's/^$/./' -e 's/^/ /' "$root/LICENSE-MIT")

License: Apache-2.0
 On Debian systems, the full text is in /usr/share/common-licenses/Apache-2.0.
COPYRIGHT
} >"$stage/$doc/copyright"
chmod 644 "$stage/$doc/copyright"

# The newest symbol version of the C library that the binary needs.
glibc=$(objdump -T "$binary" | sed -n 's/.*GLIBC_\([0-9.]*\)[) ].*/\1/p' | sort -V | tail -n 1)
mkdir "$stage/DEBIAN"
cat >"$stage/DEBIAN/control" <<CONTROL
Package: packetboat
Version: $version
Architecture: $architecture
Maintainer: The packetboat authors <packetboat@localhost>
Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$stage" | cut -f 1)
Pre-Depends: init-system-helpers (>= 1.54~)
Depends: libc6 (>= $glibc), libgcc-s1, passwd, systemd (>= 250) | systemd-standalone-sysusers | systemd-sysusers
Section: mail
Priority: optional
Description: IMAP and POP3 proxy for devices with old TLS
 packetboat lets old printers, scanners, fax servers and controllers read mail
 from Exchange Online. These devices speak TLS 1.0 and log in with a password;
 Exchange Online accepts neither. packetboat translates: TLS 1.0 and a short
 password on the device's side, TLS 1.2 or 1.3 and OAuth 2 on the mail
 server's, IMAP or POP3 on both.
 .
 After the installation it observes: its page lists the devices of the network
 that need TLS 1.0. It lets nobody in.
CONTROL
echo /etc/packetboat/packetboat.toml >"$stage/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    put 755 "config/debian/$script" DEBIAN
done
(cd "$stage" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort |
    grep -v '^etc/packetboat/packetboat.toml$' | xargs -d '\n' md5sum) >"$stage/DEBIAN/md5sums"
chmod 644 "$stage/DEBIAN/control" "$stage/DEBIAN/conffiles" "$stage/DEBIAN/md5sums"
find "$stage" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

package=$output/packetboat_${version}_$architecture.deb
# xz, because every dpkg supports it.
dpkg-deb --root-owner-group --uniform-compression -Zxz --build "$stage" "$package" >/dev/null
echo "$package"
