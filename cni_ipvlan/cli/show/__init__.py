"""The command show: what is on this node."""
