#!/bin/sh
# Installs email-oauth2-proxy into target/emailproxy, where it is missing, and says which Python has it.
# Pinned, so that two runs of the bench compare with the same thing; cryptography does its work at every login.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$("$root/config/release/venv.sh" emailproxy "$root/benches/login/emailproxy-requirements.txt")
echo "$venv/bin/python"
