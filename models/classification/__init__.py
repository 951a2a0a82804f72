"""Networks that tell what an image shows; a file a family."""
