"""Unit tests change nothing outside of their temporary directory, and run on any kernel."""

from hypothesis import settings

# The time of one example says nothing on a machine that does other things as well.
settings.register_profile("unit", deadline=None, max_examples=100)
settings.load_profile("unit")
