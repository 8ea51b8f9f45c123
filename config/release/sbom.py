#!/usr/bin/env python3
"""The bill of materials of a release, CycloneDX 1.6 in JSON, from cargo itself:  config/release/sbom.py [FILE]

Every crate that is linked in ("required") or only builds the program ("excluded"), at the checksum that Cargo.lock
holds it to, and the C libraries that two of the crates build: AWS-LC, and OpenSSL from what OPENSSL_SOURCE names, as
config/release/openssl.sh prints it. TARGET is Rust's name of the program's machine, if it is not this one. Crates of tests and benches are not in it, nor are optional ones that Cargo.lock
names and no feature asks for: `cargo tree` tells, which generators that read `cargo metadata` alone do not ask. The same
commit and tools make the same bytes wherever they run.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import uuid
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CARGO = os.environ.get("CARGO", "cargo")


def main():
    text = json.dumps(bill(), indent=1, ensure_ascii=False) + "\n"
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


def bill():
    host = re.search(r"^host: (.*)$", run("rustc", "-vV"), re.M)[1]
    target = os.environ.get("TARGET") or host
    metadata = json.loads(run(CARGO, "metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    packages = {package["id"]: package for package in metadata["packages"]}
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    checksums = {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}

    linked = tree("normal,no-proc-macro", target)
    built = tree("normal,build", target)
    ids = {key: package["id"] for package in metadata["packages"] if (key := named(package)) in built}
    root = packages[metadata["resolve"]["root"]]

    components = [crate(packages[ids[key]], key in linked, checksums[key]) for key in sorted(built - {named(root)})]
    edges = {}
    for node in metadata["resolve"]["nodes"]:
        package = packages[node["id"]]
        if named(package) in built:
            needs = [packages[one["pkg"]] for one in node["deps"] if any(kind["kind"] != "dev" for kind in one["dep_kinds"])]
            edges[reference(package)] = {reference(one) for one in needs if named(one) in built}
    for carrier, library in c_libraries(packages, ids):
        components.append(library)
        edges[library["bom-ref"]] = set()
        edges[reference(carrier)].add(library["bom-ref"])

    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            **timestamp(),
            # The tools for a bit-identical build.
            "tools": {"components": [{"type": "application", "name": name, "version": tool} for name, tool in tools(host, target)]},
            "component": {
                "type": "application",
                "bom-ref": reference(root),
                "name": root["name"],
                "version": root["version"],
                "description": root["description"],
                "licenses": [{"expression": root["license"]}],
                "purl": f"pkg:generic/{root['name']}@{root['version']}",
            },
            "properties": [{"name": "packetboat:target", "value": target}],
        },
        "components": components,
        "dependencies": [{"ref": ref, "dependsOn": sorted(needs)} for ref, needs in sorted(edges.items())],
    }
    # A number derived from the contents, so that the same bill has the same number.
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(document, sort_keys=True))
    return {**document, "serialNumber": f"urn:uuid:{serial}"}


def crate(package, is_linked, checksum):
    component = {
        "type": "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "scope": "required" if is_linked else "excluded",
        # The builder of OpenSSL is in this repository.
        **({"hashes": [{"alg": "SHA-256", "content": checksum}]} if checksum else {}),
        # Older crates have a slash for "OR", which SPDX does not know.
        "licenses": [{"expression": package["license"].replace("/", " OR ")}],
        "purl": reference(package),
    }
    if package["repository"]:
        component["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return component


def c_libraries(packages, ids):
    """What is compiled from C; a scanner looks for advisories under these names."""
    found = {name: packages[id] for (name, _), id in ids.items()}
    if builder := found.get("openssl-src"):
        yield builder, openssl(Path(builder["manifest_path"]).parent)
    if source := found.get("aws-lc-sys"):
        header = Path(source["manifest_path"]).parent / "aws-lc/include/openssl/base.h"
        version = re.search(r'AWSLC_VERSION_NUMBER_STRING "(.*)"', header.read_text(encoding="utf-8"))[1]
        whence = f"the source in the crate {source['name']} {source['version']}"
        yield source, c_library("aws-lc", version, source["license"], whence, f"pkg:generic/aws-lc@{version}")


def openssl(builder):
    """The tree that OPENSSL_SOURCE names, or else the one of crates.io, as vendor/openssl-src builds it."""
    debian, hashes = None, []
    if named := os.environ.get("OPENSSL_SOURCE"):
        read, whence = reader(Path(named)), "the source that OPENSSL_SOURCE named"
        if changelog := read("debian/changelog"):
            debian = re.match(r"openssl \((.*?)\)", changelog)[1]
            whence = f"Debian's source package openssl {debian}"
            sums = (ROOT / "config/release/openssl.sha256").read_text(encoding="utf-8")
            found = re.search(rf"^(\w+)  openssl_{re.escape(debian)}\.dsc$", sums, re.M)
            hashes = [{"alg": "SHA-256", "content": found[1]}] if found else []
    else:
        manifest = str(builder / "registry/Cargo.toml")
        metadata = json.loads(run(CARGO, "metadata", "--locked", "--format-version", "1", "--manifest-path", manifest))
        crate = next(one for one in metadata["packages"] if one["name"] == "openssl-src")
        lock = tomllib.loads((builder / "registry/Cargo.lock").read_text(encoding="utf-8"))
        hashes = [{"alg": "SHA-256", "content": one["checksum"]} for one in lock["package"] if one["name"] == "openssl-src"]
        read = reader(Path(crate["manifest_path"]).parent / "openssl")
        whence = f"the source in the crate openssl-src {crate['version']}"

    facts = dict(re.findall(r'^(\w+)="?(.*?)"?$', read("VERSION.dat"), re.M))
    line = f"{facts['MAJOR']}.{facts['MINOR']}"
    plain = f"{line}.{facts['PATCH']}"
    version = plain + (f"+{facts['BUILD_METADATA']}" if facts["BUILD_METADATA"] else "")
    purl = f"pkg:deb/debian/openssl@{debian}?arch=source" if debian else f"pkg:generic/openssl@{version.replace('+', '%2B')}"
    lines = (ROOT / "config/release/openssl-lines.txt").read_text(encoding="utf-8")
    until = re.search(rf"^{re.escape(line)} (.*)$", lines, re.M)
    return {
        **c_library("openssl", version, "Apache-2.0", whence, purl),
        **({"hashes": hashes} if hashes else {}),
        # Its name in databases of vulnerabilities.
        "cpe": f"cpe:2.3:a:openssl:openssl:{plain}:*:*:*:*:*:*:*",
        "properties": [{"name": "packetboat:supported-until", "value": until[1] if until else "unknown"}],
    }


def reader(source):
    """A function that reads a text of a tree, be it a directory or a tarball; None where the tree does not have it."""
    if source.is_dir():
        return lambda name: (source / name).read_text(encoding="utf-8") if (source / name).exists() else None
    with tarfile.open(source) as tarball:
        texts = {
            name: tarball.extractfile(member).read().decode("utf-8")
            for member in tarball
            if (name := member.name.partition("/")[2]) in ("VERSION.dat", "debian/changelog")
        }
    return texts.get


def c_library(name, version, licence, whence, purl):
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "description": f"C library, compiled from {whence}",
        "scope": "required",
        "licenses": [{"expression": licence}],
        "purl": purl,
    }


def tree(edges, target):
    """Names and versions of what cargo really builds for a release, with the features that a release has."""
    lines = run(CARGO, "tree", "--locked", "--edges", edges, "--target", target, "--prefix", "none", "--format", "{p}")
    return {(words[0], words[1].removeprefix("v")) for line in lines.splitlines() if (words := line.split())}


def tools(host, target):
    # Debian's cross compiler has the machine's name in front.
    prefix = "" if target == host else target.split("-")[0] + "-linux-gnu-"
    cc, ld = prefix + "gcc" if prefix else "cc", prefix + "ld"
    for name, words in (("rustc", ["rustc", "--version"]), ("cc", [cc, "--version"]), ("ld", [ld, "--version"])):
        yield name, run(*words).splitlines()[0]


def timestamp():
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    if seconds is None:
        try:
            seconds = run("git", "log", "-1", "--format=%ct")
        except (OSError, subprocess.CalledProcessError):
            return {}
    return {"timestamp": datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}


def named(package):
    return package["name"], package["version"]


def reference(package):
    # A package URL encodes + as %2B.
    kind = "cargo" if package["source"] else "generic"
    return f"pkg:{kind}/{package['name']}@{package['version'].replace('+', '%2B')}"


def run(*words):
    return subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"}).stdout


if __name__ == "__main__":
    main()
