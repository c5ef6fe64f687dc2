"""The codes of errors that are this plugin's own; docs/errors.md explains each."""

from __future__ import annotations

COMMAND_FAILED = 100
NO_IPVLAN = 101
NO_MASTER = 102
MASTER_BUSY = 103
MODE_CONFLICT = 104
INTERFACE_NAME_TAKEN = 105
ADDRESS_IN_USE = 106
ROUTE_REFUSED = 107
CHECK_FAILED = 110
INTERRUPTED = 111
NOT_PERMITTED = 112
TOOL_UNUSABLE = 113
NO_IPV6 = 114
