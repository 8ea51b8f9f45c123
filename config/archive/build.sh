#!/bin/sh
# Makes the archive for systems without a package:  config/archive/build.sh [OUTPUT_DIRECTORY [BINARY]]
# Defaults: OUTPUT_DIRECTORY target/archive, BINARY target/release/packetboat. Prints the archive's path.
# A static program's archive has "-static" in its name.
# The files are those of the Debian package (config/release/tree.sh), and install.sh, which puts them in their places.
# The same binary, tree and SOURCE_DATE_EPOCH (the last commit's time, if not set) make the same file, bit for bit.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "${1:-$root/target/archive}"
output=$(cd "${1:-$root/target/archive}" && pwd)
binary=${2:-$root/target/release/packetboat}
# shellcheck source=config/release/tree.sh
. "$root/config/release/tree.sh"
prepare tar

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=packetboat-$version-linux-$rpm_name
[ "$libc" = gnu ] || name=$name-static
UNITS=lib/systemd/system
tree "$work/tree"
stage=$work/$name
put 755 config/archive/install.sh .
for file in README.md LICENSE-MIT LICENSE-APACHE; do
    put 644 "$file" .
done
# Beneath /usr/local, as for everything that no package manager brings.
install -d "$stage/local/lib/systemd"
mv "$work/tree/usr/bin" "$work/tree/usr/share" "$stage/local/"
mv "$work/tree/lib/systemd/system" "$stage/local/lib/systemd/"
sed -i 's,/usr/bin/packetboat,/usr/local/bin/packetboat,; s,file:///usr/share,file:///usr/local/share,' \
    "$stage"/local/lib/systemd/system/*
put 644 config/systemd/packetboat.sysusers .
put 644 config/debian/packetboat.toml etc
sed -i 's,/usr/share/doc/,/usr/local/share/doc/,' "$stage/etc/packetboat.toml"
age "$stage"

archive=$output/$name.tar.gz
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - "$name" |
    gzip -9n >"$archive"
echo "$archive"
