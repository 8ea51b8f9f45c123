#!/bin/sh
# Makes the Debian package, with dpkg-deb alone:  config/debian/build.sh [OUTPUT_DIRECTORY [BINARY]]
# Defaults: OUTPUT_DIRECTORY target/debian, BINARY target/release/packetboat. Prints the package's path.
# The same binary, tree and SOURCE_DATE_EPOCH (the last commit's time, if not set) make the same file, bit for bit.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "${1:-$root/target/debian}"
output=$(cd "${1:-$root/target/debian}" && pwd)
binary=${2:-$root/target/release/packetboat}
# shellcheck source=config/release/tree.sh
. "$root/config/release/tree.sh"
prepare dpkg-deb

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/packetboat
UNITS=lib/systemd/system ZSH=usr/share/zsh/vendor-completions
tree "$stage"
gzip -9nf "$stage/$doc/CHANGELOG.md"
mv "$stage/$doc/CHANGELOG.md.gz" "$stage/$doc/changelog.gz"
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

mkdir "$stage/DEBIAN"
cat >"$stage/DEBIAN/control" <<CONTROL
Package: packetboat
Version: $version
Architecture: $debian_name
Maintainer: The packetboat authors <packetboat@localhost>
Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$stage" | cut -f 1)
Pre-Depends: init-system-helpers (>= 1.54~)
Depends: libc6 (>= $glibc), libgcc-s1, passwd, systemd (>= 250) | systemd-standalone-sysusers | systemd-sysusers
Section: mail
Priority: optional
Description: IMAP, POP3 and SMTP proxy for devices with old TLS
 packetboat lets old printers, scanners, fax servers and controllers read and
 send mail at Exchange Online. They speak TLS 1.0 and log in with a password;
 Exchange Online accepts neither. packetboat translates: TLS 1.0 and a short
 password on the device's side, TLS 1.2 or 1.3 and OAuth 2 on the mail
 server's; IMAP, POP3 or SMTP on both.
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
age "$stage"

package=$output/packetboat_${version}_$debian_name.deb
# xz, because every dpkg supports it.
dpkg-deb --root-owner-group --uniform-compression -Zxz --build "$stage" "$package" >/dev/null
echo "$package"
