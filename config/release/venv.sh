#!/bin/sh
# Makes a Python environment of the packages that a file pins, where it is missing or the file has changed, and prints its
# path:  config/release/venv.sh NAME REQUIREMENTS    (target/NAME)
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$root/target/$1
requirements=$2
# One at a time makes the environment, and the others wait for it.
mkdir -p "$root/target"
exec 9>"$venv.lock"
flock 9
# pip checks each package's hash, and installs only packages that run no code of their own during installation.
if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    # The system's Python, which every user may run.
    python=/usr/bin/python3
    [ -x "$python" ] || python=python3
    "$python" -m venv --clear "$venv" >&2 || {
        echo "python3 -m venv is needed: install python3-venv" >&2
        exit 69
    }
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --only-binary :all: --no-deps --require-hashes -r "$requirements" >&2
    cp "$requirements" "$venv/requirements.txt"
fi
echo "$venv"
