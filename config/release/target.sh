# Settings for a program of another machine than the compiler's, for config/release/cargo.sh.
# shellcheck shell=sh disable=SC2034
#
# TARGET is Rust's name of it. Rust's standard library for it comes from rustup, or config/release/std.sh builds it; the C
# compiler is Debian's cross compiler, or what CC_aarch64_unknown_linux_gnu and the like name; for musl it is Zig's
# (config/release/musl.sh).
name=$(echo "$TARGET" | tr - _)
case $TARGET in
*-musl)
    # Static, with Zig's musl and its startup files, not Rust's own.
    tools=$(config/release/musl.sh "$TARGET")
    compiler=$tools/cc target_flags=-Clink-self-contained=no
    export "AR_$name=$tools/ar" "RANLIB_$name=$tools/ranlib"
    ;;
*)
    compiler=${TARGET%%-*}-linux-gnu-gcc
    eval "compiler=\${CC_$name:-$compiler}"
    command -v "$compiler" >/dev/null || {
        echo "$compiler is missing, the C compiler for $TARGET:" \
            "apt-get install gcc-$(echo "${TARGET%%-*}" | tr _ -)-linux-gnu" >&2
        exit 69
    }
    ;;
esac
export "CC_$name=$compiler" "CARGO_TARGET_$(echo "$name" | tr '[:lower:]' '[:upper:]')_LINKER=$compiler"
RUSTC=$(config/release/std.sh "$TARGET")
export RUSTC CARGO_BUILD_TARGET="$TARGET"
