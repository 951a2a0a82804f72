"""What the values of a traced program depend on of its input, as intervals of positions."""
