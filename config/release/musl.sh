#!/bin/sh
# Prints a directory with a C compiler, an archiver and a linker for static programs with musl:  config/release/musl.sh TARGET
# They are Zig's, which brings musl 1.2.5 and LLVM's unwinder, from PyPI. pip checks the hash of the wheel.
set -eu
export LC_ALL=C

version=0.15.2
wheel="ziglang==$version --hash=sha256:806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130"
target=$1
root=$(cd "$(dirname "$0")/../.." && pwd -P)
zig=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/zig/$version

if [ ! -d "$zig" ]; then
    mkdir -p "$(dirname "$zig")"
    work=$(mktemp -d "$(dirname "$zig")/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "fetching Zig $version, the C compiler for musl" >&2
    echo "$wheel" >"$work/requirements.txt"
    python3 -m venv "$work/venv" >&2 || {
        echo "python3 -m venv is needed: install python3-venv" >&2
        exit 69
    }
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps \
        --require-hashes --target "$work/tree" -r "$work/requirements.txt" >&2 || {
        echo "no C compiler for $target: PyPI does not give ziglang $version for this machine" >&2
        exit 69
    }
    mv -T "$work/tree" "$zig" || [ -d "$zig" ]
fi

tools=$zig/$target
if [ ! -d "$tools" ]; then
    half=$(mktemp -d "$zig/half.XXXXXX")
    cat >"$half/cc" <<SCRIPT
#!/bin/sh
# Zig reads other names of machines than Rust and clang do, and ignores -static-pie, with which the program's addresses
# are random. By default it compiles checks of undefined behaviour in.
for argument; do
    shift
    case \$argument in
    --target=*) ;;
    -static-pie) set -- "\$@" -static -pie ;;
    *) set -- "\$@" "\$argument" ;;
    esac
done
export ZIG_GLOBAL_CACHE_DIR="$zig/cache" ZIG_LOCAL_CACHE_DIR="$zig/cache"
exec "$zig/ziglang/zig" cc -target ${target%%-*}-linux-musl -fno-sanitize=undefined "\$@"
SCRIPT
    for tool in ar ranlib; do
        printf '#!/bin/sh\nexec "%s" %s "$@"\n' "$zig/ziglang/zig" $tool >"$half/$tool"
    done
    chmod 755 "$half" "$half"/*
    mv -T "$half" "$tools" || [ -d "$tools" ]
fi
echo "$tools"
