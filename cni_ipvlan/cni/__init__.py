"""The CNI protocol (SPEC.md 1.1.0). Knows nothing of ipvlan, of ip(8), of click."""
