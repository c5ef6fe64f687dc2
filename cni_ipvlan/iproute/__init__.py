"""ip(8): build commands, run them, parse their output. Knows nothing of CNI."""
