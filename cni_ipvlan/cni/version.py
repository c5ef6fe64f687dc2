"""The verb VERSION."""

from __future__ import annotations

from cni_ipvlan.cni.versions import LATEST_VERSION, SUPPORTED_VERSIONS


def answer(stdin: bytes) -> bytes:
    """Return the answer to VERSION, in the CNI version that ``stdin`` names."""
    supported = ", ".join(f'"{each}"' for each in SUPPORTED_VERSIONS)
    version = _quick_version(stdin) or _decoded_version(stdin)
    return f'{{"cniVersion": {version}, "supportedVersions": [{supported}]}}\n'.encode()


def _quick_version(stdin: bytes) -> str | None:
    """Return the version, quoted, if ``stdin`` has the form that libcni writes.

    Runtimes probe every plugin this way, and importing json takes longer than all the rest.
    """
    asked = b"".join(stdin.split())
    if not asked:
        return f'"{LATEST_VERSION}"'
    for version in SUPPORTED_VERSIONS:
        if asked == b'{"cniVersion":"%s"}' % version.encode():
            return f'"{version}"'
    return None


def _decoded_version(stdin: bytes) -> str:
    from cni_ipvlan.cni.request import read
    from cni_ipvlan.start import json

    return json.dumps(read(stdin).version_to_answer)
