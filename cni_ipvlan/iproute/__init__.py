"""ip(8) of iproute2: what to say to it and how to read its answers. Knows nothing of CNI."""
