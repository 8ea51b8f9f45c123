#!/bin/sh
# Checks manifests against Kubernetes' schemas, strictly, as of two versions:  config/release/kubernetes.sh FILE...
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
# The package holds the schemas of all versions, so that the check itself needs no network. pip checks each package's hash,
# and installs only packages that run no code of their own during installation.
requirements=$root/config/release/kubernetes-requirements.txt
venv=$root/target/kubernetes-validate
# One at a time makes the environment, and the others wait for it.
mkdir -p "$root/target"
exec 9>"$venv.lock"
flock 9
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
exec 9>&-

# The oldest version that the manifests support, and the newest that the package has.
for version in 1.30 1.37; do
    "$venv/bin/python" -m kubernetes_validate --strict -k "$version" "$@"
done
