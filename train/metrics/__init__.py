"""Numbers from counts, and how people read them."""
