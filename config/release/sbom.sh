#!/bin/sh
# Writes the bill of materials, checks it against the schema of CycloneDX, and prints where it is:
#   config/release/sbom.sh [FILE]    (target/release/packetboat.cdx.json)
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
file=${1:-$root/target/release/packetboat.cdx.json}
mkdir -p "$(dirname "$file")"
# The one that config/release/cargo.sh builds.
OPENSSL_SOURCE=$("$root/config/release/openssl.sh")
export OPENSSL_SOURCE
"$root/config/release/sbom.py" "$file"

# Each package by its sum, and none whose installation runs its own code.
requirements=$root/config/release/sbom-requirements.txt
venv=$root/target/cyclonedx
if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    # The system's own, which every user may run.
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

check='
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()):
    sys.exit(str(error))
'
if [ "$(id -u)" -eq 0 ]; then
    # Other people's code does not run as root beside the program that is released: it gets a copy of itself, and the bill.
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    cp -r "$venv"/lib/python3*/site-packages "$copy/"
    chmod -R a+rX "$copy"
    setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
        env -i -C / PATH=/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$copy/site-packages" \
        "$(readlink -f "$venv/bin/python")" -c "$check" <"$file"
else
    "$venv/bin/python" -c "$check" <"$file"
fi
echo "$file"
