#!/bin/sh
# Fetches and verifies the OpenSSL of a release once, and prints its path:
#   config/release/openssl.sh
#
# OPENSSL_SOURCE=PATH   your own directory or tarball; prints its absolute path
# OPENSSL=registry      the one from crates.io, as plain cargo builds it, whose support has ended; prints an empty line
#
# Otherwise it takes Debian's source package of the version in config/release/openssl.sha256, with Debian's patches. It
# checks the archive's signature (by apt), the hashes, the uploader's signature (debian-keyring) and OpenSSL's on the
# tarball.
set -eu
export LC_ALL=C

root=$(cd "$(dirname "$0")/../.." && pwd -P)
sums=$root/config/release/openssl.sha256

fail() {
    echo "no OpenSSL for a release: $1" >&2
    echo "OPENSSL_SOURCE=PATH names a directory or a tarball of OpenSSL 3.5; OPENSSL=registry takes the one of crates.io, \
whose line has ended." >&2
    exit 69
}

if [ -n "${OPENSSL_SOURCE:-}" ]; then
    [ -e "$OPENSSL_SOURCE" ] || fail "OPENSSL_SOURCE=$OPENSSL_SOURCE is not there"
    realpath "$OPENSSL_SOURCE"
    exit
fi
case "${OPENSSL:-debian}" in
registry) echo && exit ;;
debian) ;;
*) fail "OPENSSL=$OPENSSL is neither debian nor registry" ;;
esac

version=$(sed -n 's/^[0-9a-f]*  openssl_\(.*\)\.dsc$/\1/p' "$sums")
cache=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/openssl
tree=$cache/$version
if [ -d "$tree" ]; then
    echo "$tree"
    exit
fi

for tool in apt-get dpkg-deb dpkg-source gpgv patch xz sha256sum base64; do
    command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install dpkg-dev gpgv patch xz-utils"
done
mkdir -p "$cache"
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
# shellcheck source=config/release/trixie.sh
. "$root/config/release/trixie.sh"
trixie "$work" || fail "Debian's archive is not reached"
echo "fetching OpenSSL $version, Debian's source package" >&2
{ apt-get -qq source --download-only "openssl=$version" && apt-get -qq download debian-keyring; } >&2 ||
    fail "the mirror does not give openssl $version"
sha256sum --check --strict --quiet "$sums" >&2 || fail "the sums are not those of $sums"

dpkg-deb --extract debian-keyring_*.deb keyring
gpgv --quiet --keyring "$work/keyring/usr/share/keyrings/debian-keyring.gpg" "openssl_$version.dsc" >&2 ||
    fail "the package is not signed by a developer of Debian"
dpkg-source --no-check --extract "openssl_$version.dsc" tree >&2 || fail "the package cannot be unpacked"
# gpgv does not read armoured keys.
sed -e '1,/^$/d' -e '/^=/,$d' tree/debian/upstream/signing-key.asc | base64 --decode >upstream.gpg
gpgv --quiet --keyring "$work/upstream.gpg" openssl_*.orig.tar.gz.asc openssl_*.orig.tar.gz >&2 ||
    fail "the tarball is not signed by the OpenSSL project"

# Mark the patched version, as in "OpenSSL 3.5.7+deb13u2".
sed -i "s/^BUILD_METADATA=.*/BUILD_METADATA=${version##*[-~]}/" tree/VERSION.dat
# Remove files that the build of the library does not need.
rm -rf tree/.pc tree/cloudflare-quiche tree/oqs-provider tree/pkcs11-provider tree/python-ecdsa tree/tlsfuzzer \
    tree/tlslite-ng tree/wycheproof
mv -T tree "$tree" || [ -d "$tree" ]
echo "$tree"
