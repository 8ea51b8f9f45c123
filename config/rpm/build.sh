#!/bin/sh
# Makes the RPM, with rpmbuild alone:  config/rpm/build.sh [OUTPUT_DIRECTORY [BINARY]]
# Defaults: OUTPUT_DIRECTORY target/rpm, BINARY target/release/packetboat. Prints the package's path.
# The files are those of the Debian package (config/release/tree.sh). The same binary, tree and SOURCE_DATE_EPOCH (the
# last commit's time, if not set) make the same file, bit for bit.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "${1:-$root/target/rpm}"
output=$(cd "${1:-$root/target/rpm}" && pwd)
binary=${2:-$root/target/release/packetboat}
# shellcheck source=config/release/tree.sh
. "$root/config/release/tree.sh"
prepare rpmbuild

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/stage
tree "$stage"
put 644 config/rpm/packetboat.preset usr/lib/systemd/system-preset 80-packetboat.preset
put 644 LICENSE-MIT usr/share/licenses/packetboat
put 644 LICENSE-APACHE usr/share/licenses/packetboat
age "$stage"

# rpmbuild works in its own copy. It takes the machine's settings for everything that is not defined here, and signs
# nothing. Its own strip and compression of man pages would make another program than tree.sh.
rpmbuild -bb --quiet --target "$rpm_name-unknown-linux" \
    --define "_topdir $work/top" --define "_rpmdir $work" --define "_rpmfilename packetboat.rpm" \
    --define "stage $stage" --define "package_version $version" \
    --define "_buildhost localhost" --define "use_source_date_epoch_as_buildtime 1" \
    --define "clamp_mtime_to_source_date_epoch 1" --define "_build_id_links none" --define "debug_package %{nil}" \
    --define "__os_install_post %{nil}" --define "_binary_payload w6.xzdio" --define "_source_filedigest_algorithm 8" \
    --define "_binary_filedigest_algorithm 8" --define "_docdir /usr/share/doc" \
    "$root/config/rpm/packetboat.spec" >&2

package=$output/packetboat-$version-1.$rpm_name.rpm
mv "$work/packetboat.rpm" "$package"
echo "$package"
