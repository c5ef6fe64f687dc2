"""The verb VERSION."""

from __future__ import annotations

from cni_ipvlan.cni import LATEST_VERSION, SUPPORTED_VERSIONS


def answer(stdin: bytes) -> bytes:
    """Return the answer to VERSION, in the CNI version that ``stdin`` names."""
    supported = ", ".join(f'"{each}"' for each in SUPPORTED_VERSIONS)
    # Runtimes probe every plugin with what libcni writes; to import json takes longer than that.
    versions = {b'{"cniVersion":"%s"}' % each.encode(): f'"{each}"' for each in SUPPORTED_VERSIONS}
    versions[b""] = f'"{LATEST_VERSION}"'
    version = versions.get(b"".join(stdin.split()))
    if version is None:
        from cni_ipvlan.cni.request import read
        from cni_ipvlan.start import json

        version = json.dumps(read(stdin).version_to_answer)
    return f'{{"cniVersion": {version}, "supportedVersions": [{supported}]}}\n'.encode()
