"""How fast, beside others, on this machine: python -m experiments.benchmark --help."""
