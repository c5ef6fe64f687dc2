"""What this node remembers of its attachments, and locks between calls."""
