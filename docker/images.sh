#!/bin/sh
# Prints the arguments that pin the base images of docker build to their digests:  docker/images.sh
#
# docker/images.lock holds the digests. If an image has no line there, this script pulls it by its tag once and adds its
# digest: review and commit that line, so that everybody builds from the same image. To take a newer image, delete its
# line.
set -eu
cd "$(dirname "$0")"

lock=images.lock
sed -n 's/^ARG \([A-Z_]*_IMAGE\)=\(.*\)$/\1 \2/p' Dockerfile | while read -r name tag; do
    digest=$(sed -n "s|^$tag ||p" "$lock")
    if [ -z "$digest" ]; then
        docker pull --quiet "$tag" >&2
        digest=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$tag" |
            sed -n 's/^.*@\(sha256:[0-9a-f]\{64\}\)$/\1/p' | head -1)
        [ -n "$digest" ] || {
            echo "$tag has no digest, as images that were built here; pull it from its registry" >&2
            exit 69
        }
        echo "$tag $digest" >>"$lock"
        echo "docker/images.lock: $tag is $digest; commit this line" >&2
    fi
    echo "--build-arg $name=${tag%%:*}@$digest"
done
