"""State kept on this node: records of attachments, and locks between calls."""
