"""Unit tests change nothing outside of their temporary directory, and run on any kernel."""

from hypothesis import settings

# The time of one example means nothing on a machine that is also busy with other work.
settings.register_profile("unit", deadline=None, max_examples=100)
settings.load_profile("unit")
