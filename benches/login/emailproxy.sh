#!/bin/sh
# Installs email-oauth2-proxy into target/emailproxy, where it is missing, and says which Python has it.
# Pinned, so that two runs of the bench compare with the same thing; cryptography does its work at every login.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
# Each package by its sum, and none whose installation runs its own code.
requirements=$root/benches/login/emailproxy-requirements.txt
venv=$root/target/emailproxy

if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    python3 -m venv --clear "$venv" >&2 || {
        echo "python3 -m venv is needed: install python3-venv" >&2
        exit 69
    }
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --only-binary :all: --no-deps --require-hashes -r "$requirements" >&2
    cp "$requirements" "$venv/requirements.txt"
fi
echo "$venv/bin/python"
