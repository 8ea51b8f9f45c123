#!/bin/sh
# Prints a rustc that has Rust's standard library for another machine:  config/release/std.sh TARGET
# That is this machine's own rustc if it has the library for TARGET, as after: rustup target add TARGET
#
# Otherwise it builds the library, once, from Debian's package rust-src of Debian 13's backports, at the version and
# hash in config/release/rust-src.sha256. The version must be the compiler's.
set -eu
export LC_ALL=C

target=$1
root=$(cd "$(dirname "$0")/../.." && pwd -P)
sums=$root/config/release/rust-src.sha256

fail() {
    echo "no standard library of Rust for $target: $1" >&2
    # This script installs nothing by it.
    manager=rustup
    echo "If $manager installed Rust: $manager target add $target" >&2
    exit 69
}

if ls "$(rustc --print target-libdir --target "$target")"/libstd-*.rlib >/dev/null 2>&1; then
    command -v rustc
    exit
fi

version=$(sed -n 's/^[0-9a-f]*  rust-src_\(.*\)_all\.deb$/\1/p' "$sums")
compiler=$(rustc -vV | sed -n 's/^release: //p')
[ "${version%%+*}" = "$compiler" ] ||
    fail "Debian's source package is of Rust ${version%%+*}, and the compiler of $compiler"
cache=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/rust-src/$version
built=$cache/sysroot/lib/rustlib/$target
if [ -d "$built" ]; then
    echo "$cache/rustc"
    exit
fi

# fetch: makes $cache, with the source and links to the compiler's own directories.
fetch() {
    for tool in apt-get dpkg-deb sha256sum; do
        command -v "$tool" >/dev/null || fail "$tool is missing, as on a system other than Debian"
    done
    # shellcheck source=config/release/trixie.sh
    . "$root/config/release/trixie.sh"
    trixie "$work" || fail "Debian's archive is not reached"
    echo "deb $mirror trixie-backports main" >>"$work/sources"
    echo "fetching rust-src $version, Debian's package" >&2
    { apt-get -qq update && apt-get -qq download "rust-src=$version"; } >&2 ||
        fail "the mirror does not give rust-src $version"
    sha256sum --check --strict --quiet "$sums" >&2 || fail "the sum is not that of $sums"

    source=tree/sysroot/lib/rustlib/src/rust
    mkdir -p "$source"
    dpkg-deb --fsys-tarfile rust-src_*.deb | tar -x -C $source --strip-components=4 "./usr/src/rustc-$compiler/library"
    own=$(rustc --print sysroot)
    for path in "$own"/* "$own"/lib/* "$own"/lib/rustlib/*; do
        inner=${path#"$own"/}
        case $inner in
        lib | lib/rustlib | lib/rustlib/src) ;;
        *) ln -s "$path" "tree/sysroot/$inner" ;;
        esac
    done
    cat >tree/rustc <<SCRIPT
#!/bin/sh
exec "$own/bin/rustc" --sysroot "$cache/sysroot" "\$@"
SCRIPT
    chmod 755 tree/rustc
    mv -T tree "$cache"
}

mkdir -p "$(dirname "$cache")"
work=$(mktemp -d "$(dirname "$cache")/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
[ -d "$cache" ] || fetch

# RUSTC_BOOTSTRAP lets a released compiler build its own library. The program is built without it. Cargo finds the crates
# that the library needs by the checksums of the library's own Cargo.lock.
echo "building Rust's standard library for $target" >&2
mkdir -p crate/src
echo '#![allow(missing_docs)]' >crate/src/lib.rs
cat >crate/Cargo.toml <<MANIFEST
[package]
name = "library"
version = "0.0.0"
edition = "2024"
[workspace]
[profile.release]
debug = "line-tables-only"
codegen-units = 1
MANIFEST
(
    cd crate
    unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
    # The same paths and contents as in the library that rustup installs.
    RUSTFLAGS="-Cembed-bitcode=yes --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo \
--remap-path-prefix=$cache/sysroot/lib/rustlib/src/rust=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')"
    export RUSTFLAGS RUSTC_BOOTSTRAP=1 RUSTC="$cache/rustc"
    cargo build --quiet --release --target "$target" --target-dir "$work/out" -Z build-std=std,panic_unwind,panic_abort >&2
) || fail "the library does not build"
mkdir -p "half/lib"
cp out/"$target"/release/deps/lib*.rlib half/lib/
rm half/lib/liblibrary-*.rlib
mv -T half "$built" || [ -d "$built" ]
echo "$cache/rustc"
