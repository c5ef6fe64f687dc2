"""The commands that ask the network, and change nothing: probe, trace."""
