#!/bin/sh
# Runs cargo with the settings of a release:  config/release/cargo.sh build --locked --release
# TARGET=aarch64-unknown-linux-gnu builds for another machine, in target/aarch64-unknown-linux-gnu.
# The same commit, Rust, C compiler and linker make the same program, bit for bit, wherever it is built.
# config/release/reproducible.sh proves it.
set -eu
export LC_ALL=C TZ=UTC
umask 022

root=$(cd "$(dirname "$0")/../.." && pwd -P)
home=${CARGO_HOME:-$HOME/.cargo}
target=${CARGO_TARGET_DIR:-$root/target}
cd "$root"
host=$(rustc -vV | sed -n 's/^host: //p')
if [ "${TARGET:-$host}" != "$host" ]; then
    # shellcheck source=config/release/target.sh
    . config/release/target.sh
fi
# Unpack the crates, because the flags below name their directory.
cargo fetch --locked --quiet --target "$host"

# A panic names its source file, without the build's directory. The last matching prefix wins. The byte 1F separates the
# flags, because a path may have a space.
unit=$(printf '\037')
flags="--remap-path-prefix=$home=/cargo"
for crates in "$home"/registry/src/*; do
    flags="$flags$unit--remap-path-prefix=$crates=/crates"
done
flags="$flags$unit--remap-path-prefix=$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc -vV |
    sed -n 's/^commit-hash: //p')"
flags="$flags$unit--remap-path-prefix=$root=/packetboat$unit--remap-path-prefix=$target=/packetboat/target"
export CARGO_ENCODED_RUSTFLAGS="$flags${target_flags:+$unit$target_flags}"

# No line tables of the C libraries, because they contain the directory; their functions keep their names.
export CFLAGS="-g0"
# An OpenSSL of a supported line.
OPENSSL_SOURCE=$(config/release/openssl.sh)
export OPENSSL_SOURCE
# A fixed date for OpenSSL's "built on": cargo would not rebuild OpenSSL for the next commit's date.
export SOURCE_DATE_EPOCH=0
# The directory in which OpenSSL would look for engines and modules, if it could load any. By default it is the build's
# directory, which may belong to anybody on the machine that runs the program.
export GNUMAKEFLAGS="ENGINESDIR=/usr/lib/packetboat/engines MODULESDIR=/usr/lib/packetboat/modules"

exec cargo "$@"
