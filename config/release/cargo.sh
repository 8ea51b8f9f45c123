#!/bin/sh
# cargo as a release is built with it:  config/release/cargo.sh build --locked --release
# The same commit, Rust, C compiler and linker make the same program, bit for bit, wherever it is built.
# config/release/reproducible.sh shows it.
set -eu
export LC_ALL=C TZ=UTC
umask 022

root=$(cd "$(dirname "$0")/../.." && pwd -P)
home=${CARGO_HOME:-$HOME/.cargo}
target=${CARGO_TARGET_DIR:-$root/target}
cd "$root"
# Unpacks the crates, so that their directory is there to be named below.
cargo fetch --locked --quiet --target "$(rustc -vV | sed -n 's/^host: //p')"

# A panic names the file that it came from: not where that file lay. The last that fits wins. Divided by the byte 1F,
# because a path may have a space.
unit=$(printf '\037')
flags="--remap-path-prefix=$home=/cargo"
for crates in "$home"/registry/src/*; do
    flags="$flags$unit--remap-path-prefix=$crates=/crates"
done
flags="$flags$unit--remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc -vV |
    sed -n 's/^commit-hash: //p')"
flags="$flags$unit--remap-path-prefix=$root=/packetboat$unit--remap-path-prefix=$target=/packetboat/target"
export CARGO_ENCODED_RUSTFLAGS="$flags"

# Line tables of the C libraries would hold the directory again; their functions keep their names.
export CFLAGS="-g0"
# OpenSSL of a line that is supported.
OPENSSL_SOURCE=$(config/release/openssl.sh)
export OPENSSL_SOURCE
# OpenSSL's "built on": no date. cargo would not build it anew for the next commit's.
export SOURCE_DATE_EPOCH=0
# Where OpenSSL would look for engines and modules, if it were built to load any: left alone, in the directory that it
# was built in, which may be anybody's on the machine that it runs on.
export GNUMAKEFLAGS="ENGINESDIR=/usr/lib/packetboat/engines MODULESDIR=/usr/lib/packetboat/modules"

exec cargo "$@"
