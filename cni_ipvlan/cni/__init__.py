"""The CNI protocol (SPEC.md 1.1.0): requests, results, errors, and calls of other plugins."""

SUPPORTED_VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST_VERSION = SUPPORTED_VERSIONS[-1]
# A configuration without cniVersion predates the key (SPEC.md 0.2.0 introduced it).
VERSION_WHEN_ABSENT = SUPPORTED_VERSIONS[0]
