"""A dry run: what a call would do, as a script and as JSON."""
