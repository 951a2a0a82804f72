"""Networks that tell what is where in an image, and what they are made of."""
