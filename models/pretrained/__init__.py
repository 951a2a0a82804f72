"""Weights of other ecosystems, as variables of our networks, and what images they expect."""
