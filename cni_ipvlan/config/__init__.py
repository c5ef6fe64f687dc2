"""The network configuration: its options, read and checked."""
