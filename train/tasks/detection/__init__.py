"""What detectors are fitted to and measured by."""
