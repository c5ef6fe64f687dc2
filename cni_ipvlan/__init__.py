"""A CNI plugin that attaches containers to a host interface through ipvlan."""

__version__ = "0.1.0"
