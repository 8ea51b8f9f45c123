# Makes apt see Debian 13 alone, for a script that sources this file.
# shellcheck shell=sh

# trixie DIRECTORY: apt keeps its lists in this directory, and the system's own lists do not change. Mirrors and archive
# keys are this machine's.
trixie() {
    uris=$(apt-get update --print-uris)
    mirror=$(echo "$uris" | sed -n "s,^'\(.*/debian\)/dists/.*,\1,p" | head -n 1)
    security=$(echo "$uris" | sed -n "s,^'\(.*/debian-security\)/dists/.*,\1,p" | head -n 1)
    if [ -z "$mirror" ]; then
        echo "apt knows no mirror of Debian" >&2
        return 1
    fi
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
    : >"$1/status"
    for kind in deb deb-src; do
        echo "$kind $mirror trixie main"
        [ -z "$security" ] || echo "$kind $security trixie-security main"
    done >"$1/sources"
    cat >"$1/apt.conf" <<CONFIGURATION
Dir::State "$1";
Dir::State::lists "$1/lists";
Dir::State::status "$1/status";
Dir::Cache "$1/cache";
Dir::Etc::sourcelist "$1/sources";
Dir::Etc::sourceparts "-";
APT::Sandbox::User "root";
CONFIGURATION
    export APT_CONFIG="$1/apt.conf"
    apt-get -qq update >&2
}
