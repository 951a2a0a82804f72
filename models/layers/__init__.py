"""What networks are made of: convolution, pooling, normalisation."""
