"""oneDNN, called through XLA's foreign functions."""
