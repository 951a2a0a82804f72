"""An equation of a traced program, with what a rule needs to know of its operands."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from models.inspect.reach.interval import Reach, Shape

Reaches = Sequence[Reach | None]
"""Of operands, along one axis of the input; None of what does not depend on it."""
Constant = Callable[[], Any]
"""Computes an array."""


class Equation(NamedTuple):
    """An equation.

    Attributes:
        equation: of the traced program.
        shapes, outs: of operands and results.
        known: of each operand what computes it, if it depends on neither inputs nor parameters.
        positions: of each operand the axes along which its reach moves, on any axis of the input.
    """

    equation: Any
    shapes: Sequence[Shape]
    outs: Sequence[Shape]
    known: Sequence[Constant | None]
    positions: Sequence[frozenset[int]]

    @property
    def name(self) -> str:
        """Of the primitive."""
        return str(self.equation.primitive.name)

    @property
    def params(self) -> dict[str, Any]:
        """Of the equation."""
        return dict(self.equation.params)
