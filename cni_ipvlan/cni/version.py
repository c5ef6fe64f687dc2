"""The supported versions of the CNI specification, and the verb that tells them."""

from __future__ import annotations

SUPPORTED_VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST_VERSION = SUPPORTED_VERSIONS[-1]
# A configuration without cniVersion predates the key (SPEC.md 0.2.0 introduced it).
VERSION_WHEN_ABSENT = SUPPORTED_VERSIONS[0]


def answer(stdin: bytes) -> bytes:
    """Return the answer to VERSION, in the CNI version that ``stdin`` names."""
    supported = ", ".join(f'"{each}"' for each in SUPPORTED_VERSIONS)
    # Runtimes probe every plugin with what libcni writes; to import json takes longer than that.
    known = {b'{"cniVersion":"%s"}' % each.encode(): f'"{each}"' for each in SUPPORTED_VERSIONS}
    known[b""] = f'"{LATEST_VERSION}"'
    version = known.get(b"".join(stdin.split())) or _decoded_version(stdin)
    return f'{{"cniVersion": {version}, "supportedVersions": [{supported}]}}\n'.encode()


def _decoded_version(stdin: bytes) -> str:
    from cni_ipvlan.cni.request import read
    from cni_ipvlan.start import json

    return json.dumps(read(stdin).version_to_answer)
