#!/bin/sh
# Writes the bill of materials, checks it against CycloneDX's schema, and prints its path:
#   config/release/sbom.sh [FILE]    (target/release/packetboat.cdx.json)
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
file=${1:-$root/target/release/packetboat.cdx.json}
mkdir -p "$(dirname "$file")"
# The OpenSSL that config/release/cargo.sh builds.
OPENSSL_SOURCE=$("$root/config/release/openssl.sh")
export OPENSSL_SOURCE
"$root/config/release/sbom.py" "$file"

venv=$("$root/config/release/venv.sh" cyclonedx "$root/config/release/sbom-requirements.txt")
check='
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()):
    sys.exit(str(error))
'
if [ "$(id -u)" -eq 0 ]; then
    # The validator is other people's code: it does not run as root beside the release, and sees a copy of the bill
    # alone.
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
