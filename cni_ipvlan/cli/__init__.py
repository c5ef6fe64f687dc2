"""The command line for people, in click: the same verbs, dry run, and the tools around them."""
