#!/bin/sh
# Builds the last commit twice, as two people would, and compares the results:  config/release/reproducible.sh
# The two builds differ in directory, home, copy of the crates and of OpenSSL, umask, language, time zone, time and
# number of compilers. They take ten minutes on two cores.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
export RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}"
home=${CARGO_HOME:-$HOME/.cargo}
commit=$(git -C "$root" rev-parse HEAD)
unset CARGO_TARGET_DIR RUSTFLAGS CFLAGS SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# one NAME: builds in a clone beneath $work/NAME, and leaves the program, the bill and the package in its out/
one() (
    clone=$work/$1/packetboat
    git clone --quiet --no-hardlinks --no-checkout "$root" "$clone"
    cd "$clone"
    git checkout --quiet --detach "$commit"
    echo "building $commit in $clone"
    config/release/cargo.sh build --locked --release --quiet
    config/debian/build.sh "$work/$1/out" >/dev/null
    OPENSSL_SOURCE=$(config/release/openssl.sh)
    OPENSSL_SOURCE=$OPENSSL_SOURCE config/release/sbom.py "$work/$1/out/packetboat.cdx.json"
    cp target/release/packetboat "$work/$1/out/"
    # Names that lead back to the build's machine.
    for path in "$work" "$HOME" "$home"; do
        if grep -aqF "$path" "$work/$1/out/packetboat"; then
            echo "the program names $path" >&2
            exit 1
        fi
    done
)

(umask 022 && LC_ALL=C TZ=UTC CARGO_BUILD_JOBS=2 one a)

mkdir -p "$work/another/home/.cargo/registry"
cp -r "$home/registry/index" "$home/registry/cache" "$work/another/home/.cargo/registry/"
(
    umask 027
    export HOME="$work/another/home" CARGO_HOME="$work/another/home/.cargo"
    # git may clone another user's repository.
    git config --global --add safe.directory '*'
    LC_ALL=C.UTF-8 TZ=Pacific/Auckland CARGO_BUILD_JOBS=3 one another/and-longer
)

status=0
cd "$work/a/out"
for file in *; do
    first=$(sha256sum <"$file" | cut -d ' ' -f 1)
    second=$(sha256sum <"$work/another/and-longer/out/$file" | cut -d ' ' -f 1)
    if [ "$first" = "$second" ]; then
        echo "same       $first  $file"
    else
        echo "different  $first  $file"
        echo "           $second"
        status=1
        if command -v diffoscope >/dev/null; then
            diffoscope --max-text-report-size 20000 "$file" "$work/another/and-longer/out/$file" || true
        else
            echo "diffoscope (Debian) would show where"
        fi
    fi
done
exit $status
