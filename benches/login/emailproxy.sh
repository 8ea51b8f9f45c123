#!/bin/sh
# Installs email-oauth2-proxy into target/emailproxy, where it is missing, and says which Python has it.
# Pinned, so that two runs of the bench compare with the same thing; cryptography does its work at every login.
set -eu

packages="emailproxy==2026.7.3 cryptography==50.0.2"
venv="$(cd "$(dirname "$0")/../.." && pwd)/target/emailproxy"

if [ "$(cat "$venv/packages" 2>/dev/null || true)" != "$packages" ]; then
    python3 -m venv --clear "$venv" >&2 || {
        echo "python3 -m venv is needed: install python3-venv" >&2
        exit 69
    }
    # shellcheck disable=SC2086 # a list of words
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check $packages >&2
    echo "$packages" >"$venv/packages"
fi
echo "$venv/bin/python"
