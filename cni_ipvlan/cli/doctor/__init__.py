"""Check for everything that could keep an attachment from working, without changing anything."""
