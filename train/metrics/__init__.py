"""Numbers from counts."""
