"""Text in JSON or YAML, with the line of each value."""
