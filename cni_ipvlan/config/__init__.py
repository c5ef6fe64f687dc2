"""The network configuration: parsing and checking its options."""
