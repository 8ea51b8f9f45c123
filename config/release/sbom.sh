#!/bin/sh
# Writes the bill of materials, checks it against the schema of CycloneDX, and prints where it is:
#   config/release/sbom.sh [FILE]    (target/release/packetboat.cdx.json)
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
file=${1:-$root/target/release/packetboat.cdx.json}
mkdir -p "$(dirname "$file")"
"$root/config/release/sbom.py" "$file"

packages="cyclonedx-python-lib[json-validation]==11.12.0"
venv=$root/target/cyclonedx
if [ "$(cat "$venv/packages" 2>/dev/null || true)" != "$packages" ]; then
    python3 -m venv --clear "$venv" >&2 || {
        echo "python3 -m venv is needed: install python3-venv" >&2
        exit 69
    }
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$packages" >&2
    echo "$packages" >"$venv/packages"
fi
"$venv/bin/python" - "$file" <<'PYTHON'
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(Path(sys.argv[1]).read_text(encoding="utf-8")):
    sys.exit(str(error))
PYTHON
echo "$file"
