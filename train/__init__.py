"""How a network is fitted and measured."""
