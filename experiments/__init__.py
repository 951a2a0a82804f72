"""What is run: one recipe a script."""
