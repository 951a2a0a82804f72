"""What a network is fitted to and measured by."""
