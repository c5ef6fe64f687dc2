"""Write an SPDX document: what is in a bundle or wheel, of which packages, under which licences.

Its form is JSON, SPDX 2.3: https://spdx.github.io/spdx-spec/v2.3/
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "cni-ipvlan.spdx.json"


class Package(NamedTuple):
    """A package of Debian's, with its source package."""

    name: str
    version: str
    architecture: str
    source: str


def package(archive: Path) -> Package:
    """Return what an archive of dpkg-deb(1) is."""
    form = r"${Package}\n${Version}\n${Architecture}\n${source:Package} ${source:Version}"
    shown = subprocess.check_output(["dpkg-deb", "--show", f"--showformat={form}", archive])
    return Package(*shown.decode().split("\n"))


def licence(of: Package) -> str:
    """Return where a bundle has what a package tells of its licence."""
    return f"share/licences/{of.name}"


class Source(NamedTuple):
    """What is described: its name, the project's version in it, who does so, and when."""

    name: str
    version: str
    tool: str
    seconds: int  # since 1970
    comment: str


def document(of: Source, files: Mapping[str, bytes], origins: Mapping[str, Package]) -> str:
    """Return the document of files; others than those with an origin are ours."""
    contents: dict[Package | None, list[str]] = {}
    for name in files:
        contents.setdefault(origins.get(name), []).append(name)
    numbers = {name: f"SPDXRef-File-{number}" for number, name in enumerate(files, 1)}
    theirs = sorted(each for each in contents if each)
    described = [_ours(of.version), *map(_theirs, theirs)]
    for each, origin in zip(described, (None, *theirs), strict=True):
        each["packageVerificationCode"] = _verification_code(files, contents[origin])
        each["hasFiles"] = [numbers[name] for name in contents[origin]]
    whole = {
        **_head(of, files),
        "packages": described,
        "files": [_file(numbers[name], name, content) for name, content in files.items()],
        "relationships": [*_relationships(described)],
        "hasExtractedLicensingInfos": [
            {
                "licenseId": _licence_id(each),
                "name": f"what Debian tells of {each.name}",
                "extractedText": files[licence(each)].decode(),
            }
            for each in theirs
        ],
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _head(of: Source, files: Mapping[str, bytes]) -> dict[str, Any]:
    digest = hashlib.sha256(b"".join(name.encode() + files[name] for name in files)).hexdigest()
    created = datetime.fromtimestamp(of.seconds, timezone.utc)
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": of.name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{of.name}-{digest}",
        "creationInfo": {
            "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [f"Tool: {of.tool}"],
        },
        "comment": of.comment,
    }


def _ours(version: str) -> dict[str, Any]:
    return {
        "SPDXID": "SPDXRef-Package-cni-ipvlan",
        "name": "cni-ipvlan",
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "licenseDeclared": "Apache-2.0",
    }


def _theirs(each: Package) -> dict[str, Any]:
    locator = f"pkg:deb/debian/{each.name}@{each.version}?arch={each.architecture}"
    return {
        "SPDXID": f"SPDXRef-Package-{each.name}",
        "name": each.name,
        "versionInfo": each.version,
        "supplier": "Organization: Debian",
        "downloadLocation": "NOASSERTION",
        "sourceInfo": f"built by Debian from its source package {each.source}",
        "licenseDeclared": _licence_id(each),
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": locator.replace("+", "%2B"),
            }
        ],
    }


def _licence_id(each: Package) -> str:
    return f"LicenseRef-Debian-{each.name}"


def _file(identifier: str, name: str, content: bytes) -> dict[str, Any]:
    checksums = {"SHA1": _sha1(content), "SHA256": hashlib.sha256(content).hexdigest()}
    return {
        "SPDXID": identifier,
        "fileName": f"./{name}",
        "checksums": [
            {"algorithm": algorithm, "checksumValue": checksum}
            for algorithm, checksum in checksums.items()
        ],
    }


def _verification_code(files: Mapping[str, bytes], names: list[str]) -> dict[str, str]:
    """Return SPDX's code of a package's files (section 7.9)."""
    checksums = sorted(_sha1(files[name]) for name in names)
    return {"packageVerificationCodeValue": _sha1("".join(checksums).encode())}


def _sha1(content: bytes) -> str:
    """Return the checksum that SPDX requires."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _relationships(described: list[dict[str, Any]]) -> list[dict[str, str]]:
    ours, *theirs = (each["SPDXID"] for each in described)
    pairs = [
        ("SPDXRef-DOCUMENT", "DESCRIBES", ours),
        *((ours, "CONTAINS", each) for each in theirs),
    ]
    return [
        {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
        for one, kind, other in pairs
    ]
