"""One diagnosis, of two commands that ask the network and change nothing: probe, trace."""
