#!/bin/sh
# Checks manifests against Kubernetes' schemas, strictly, as of two versions:  config/release/kubernetes.sh FILE...
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
# The package holds the schemas of all versions, so that the check itself needs no network.
venv=$("$root/config/release/venv.sh" kubernetes-validate "$root/config/release/kubernetes-requirements.txt")

# The oldest version that the manifests support, and the newest that the package has.
for version in 1.30 1.37; do
    "$venv/bin/python" -m kubernetes_validate --strict -k "$version" "$@"
done
