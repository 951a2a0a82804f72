"""What is said where a network can't be looked into; any other error is one of its own."""


class UnknownPrimitive(ValueError):
    """What the results of a primitive depend on can't be read.

    Attributes:
        primitive: its name.
    """

    def __init__(self, primitive: str, why: str = "what its result depends on is not known"):
        super().__init__(f"primitive {primitive!r}: {why}")
        self.primitive = primitive


class Lacking(ValueError):
    """A network has nothing of what is asked for: an MLP no maps, a detector no logits."""
