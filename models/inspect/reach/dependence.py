"""What a traced program's values depend on, equation by equation, along each axis of an input."""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from jax.core import eval_jaxpr
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from models.inspect.errors import UnknownPrimitive
from models.inspect.reach.equation import Constant, Equation
from models.inspect.reach.interval import Reach, everything, over, placed, union
from models.inspect.reach.rules import RULES

TURNS = 64
"""Of a loop without a known end: by then what it carries depends on all that it will."""


class Value(NamedTuple):
    """An array of the program.

    Attributes:
        reaches: one for each axis of the input; None where nothing depends on it.
        known: computes the array, if it depends on neither inputs nor parameters.
    """

    reaches: tuple[Reach | None, ...]
    known: Constant | None = None


class Walk:
    """Through a program and those within it.

    Args:
        count: axes of the input.
        named: told the name, the shape and the reaches of each value that `checkpoint_name` names.
    """

    def __init__(self, count: int, named: Callable[[str, Any, tuple], None]) -> None:
        self.nothing: tuple[Reach | None, ...] = (None,) * count
        self.named = named

    def run(self, program: Any, arguments: Sequence[Value]) -> list[Value]:
        """The results of a `Jaxpr` or a `ClosedJaxpr`."""
        jaxpr: Jaxpr = program
        constants: Sequence[Any] = ()
        if isinstance(program, ClosedJaxpr):
            jaxpr, constants = program.jaxpr, program.consts
        self.debug_info = jaxpr.debug_info
        values: dict[Any, Value] = {}
        for variable, array in zip(jaxpr.constvars, constants, strict=False):
            values[variable] = self.constant(array)
        for variable in jaxpr.constvars[len(constants) :]:
            values[variable] = Value(self.nothing)
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Value:
            return self.constant(atom.val) if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            values.update(zip(equation.outvars, self.results(equation, operands), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def constant(self, array: Any) -> Value:
        """What is written in the program."""
        return Value(self.nothing, lambda: array)

    def results(self, equation: Any, operands: list[Value]) -> list[Value]:
        """Of one equation.

        Raises:
            UnknownPrimitive: its primitive is none of those that are known, and its result depends
                on the input.
        """
        name, params = equation.primitive.name, equation.params
        if name == "name":
            self.named(params["name"], equation.outvars[0].aval, operands[0].reaches)
        if all(value.reaches == self.nothing for value in operands):
            return self.constants(equation, operands)
        if name in ("scan", "while", "cond"):
            return getattr(self, f"{name}_")(equation, operands)  # type: ignore[no-any-return]
        if name not in RULES and (inner := called(equation)) is not None:
            return self.run(inner, operands)
        if name not in RULES:
            raise UnknownPrimitive(name)
        shapes = [atom.aval.shape for atom in equation.invars]
        outs = [variable.aval.shape for variable in equation.outvars]
        positions = [
            frozenset(r.axis for r in value.reaches if r is not None and r.axis is not None)
            for value in operands
        ]
        call = Equation(equation, shapes, outs, [v.known for v in operands], positions)
        columns: list[list[Reach | None]] = []
        for number in range(len(self.nothing)):
            reaches = [value.reaches[number] for value in operands]
            if not any(reaches):
                columns.append([None] * len(outs))
                continue
            found = RULES[name](call, reaches)
            columns.append(found if isinstance(found, list) else [found])
        return [
            Value(self.nothing if 0 in out else tuple(column[i] for column in columns))
            for i, out in enumerate(outs)
        ]

    def constants(self, equation: Any, operands: list[Value]) -> list[Value]:
        """Of an equation that does not read the input: computed if anything asks for it."""
        pairs = zip(equation.invars, operands, strict=True)
        given = {atom: value.known for atom, value in pairs if not isinstance(atom, Literal)}
        needed = [known for known in given.values() if known is not None]
        if len(needed) < len(given):
            return [Value(self.nothing)] * len(equation.outvars)
        info = self.debug_info

        @functools.cache
        def computed() -> list[Any]:
            own = Jaxpr([], [*given], equation.outvars, [equation], debug_info=info)
            return list(eval_jaxpr(own, [], *(known() for known in needed)))

        def one(number: int) -> Value:
            return Value(self.nothing, lambda: computed()[number])

        return [one(number) for number in range(len(equation.outvars))]

    def cond_(self, equation: Any, operands: list[Value]) -> list[Value]:
        """Any of the branches, and what chooses among them."""
        which, *rest = operands
        found = [self.run(branch, rest) for branch in equation.params["branches"]]
        shapes = [variable.aval.shape for variable in equation.outvars]
        found_each = zip(zip(*found, strict=True), shapes, strict=True)
        joined = [self.either(values, shape) for values, shape in found_each]
        return [
            self.either([value, self.all_of(which, equation.invars[0].aval.shape, shape)], shape)
            for value, shape in zip(joined, shapes, strict=True)
        ]

    def while_(self, equation: Any, operands: list[Value]) -> list[Value]:
        """Turn by turn until what is carried depends on nothing more."""
        params = equation.params
        first, second = params["cond_nconsts"], params["body_nconsts"]
        asks, does = operands[:first], operands[first : first + second]
        carried = [Value(value.reaches) for value in operands[first + second :]]
        shapes = [variable.aval.shape for variable in equation.outvars]
        asked = params["cond_jaxpr"].out_avals[0].shape
        for _ in range(TURNS):
            (goes_on,) = self.run(params["cond_jaxpr"], [*asks, *carried])
            found = self.run(params["body_jaxpr"], [*does, *carried])
            after = [
                self.either([old, new, self.all_of(goes_on, asked, shape)], shape)
                for old, new, shape in zip(carried, found, shapes, strict=True)
            ]
            if all(map(same, carried, after)):
                break
            carried = after
        else:
            raise UnknownPrimitive("while", f"what it carries depends on more after {TURNS} turns")
        return carried

    def scan_(self, equation: Any, operands: list[Value]) -> list[Value]:
        """Turn by turn, as long as what is carried changes; each reads all of what is given in
        slices, and what it yields may be in any slice of what is put together."""
        params = equation.params
        split = split_of(equation)
        fixed, carried = operands[: split[0]], operands[split[0] : split[1]]
        carried = [Value(value.reaches) for value in carried]
        pairs = zip(operands[split[1] :], equation.invars[split[1] :], strict=True)
        sliced = [self.mapped(v, partial(without_first, shape=a.aval.shape)) for v, a in pairs]
        shapes = [variable.aval.shape[1:] for variable in equation.outvars[len(carried) :]]
        yielded = [Value(self.nothing) for _ in shapes]
        for _ in range(params["length"]):
            found = self.run(params["jaxpr"], [*fixed, *carried, *sliced])
            after, new = found[: len(carried)], found[len(carried) :]
            yielded = list(map(self.either, zip(yielded, new, strict=True), shapes))
            if all(map(same, carried, after)):
                break
            carried = after
        return [*carried, *(self.mapped(value, with_first) for value in yielded)]

    def mapped(self, value: Value, how: Callable[[Reach], Reach]) -> Value:
        """Of each reach that there is."""
        return Value(tuple(None if r is None else how(r) for r in value.reaches))

    def all_of(self, value: Value, shape: tuple[int, ...], out: tuple[int, ...]) -> Value:
        """A value of shape `out` that depends on all of another one."""
        return Value(tuple(everything(r, shape, len(out)) for r in value.reaches))

    def either(self, values: Sequence[Value], shape: tuple[int, ...]) -> Value:
        """What depends on several, of one shape."""
        found = self.nothing
        for value in values:
            found = tuple(union(a, b, shape) for a, b in zip(found, value.reaches, strict=True))
        return Value(found)


def split_of(equation: Any) -> tuple[int, int]:
    """Where among a scan's operands what is carried begins, and what is given in slices.

    Versions of jax name the numbers otherwise; what is sliced has an axis less in the turn.
    """
    turn = getattr(equation.params["jaxpr"], "jaxpr", equation.params["jaxpr"])

    def sliced(outside: Sequence[Any], inside: Sequence[Any]) -> int:
        pairs = zip(outside, inside, strict=True)
        return sum(a.aval.ndim > b.aval.ndim for a, b in pairs)

    slices = len(equation.invars) - sliced(equation.invars, turn.invars)
    carried = len(equation.outvars) - sliced(equation.outvars, turn.outvars)
    return slices - carried, slices


def called(equation: Any) -> Jaxpr | ClosedJaxpr | None:
    """The program that an equation calls with its operands, as `jit` does; None where it does
    something else with one, as `reduce` does, whose program takes two numbers."""
    found = [p for p in equation.params.values() if isinstance(p, Jaxpr | ClosedJaxpr)]
    if len(found) != 1:
        return None
    jaxpr: Any = found[0].jaxpr if isinstance(found[0], ClosedJaxpr) else found[0]
    for inside, outside in ((jaxpr.invars, equation.invars), (jaxpr.outvars, equation.outvars)):
        if [x.aval.shape for x in inside] != [x.aval.shape for x in outside]:
            return None
    return found[0]


def same(one: Value, other: Value) -> bool:
    """Whether they depend on the same."""
    for a, b in zip(one.reaches, other.reaches, strict=True):
        if (a is None) != (b is None):
            return False
        if a is not None and b is not None:
            if (a.axis, a.shift) != (b.axis, b.shift) or a.first.shape != b.first.shape:
                return False
            if (a.first != b.first).any() or (a.last != b.last).any():
                return False
    return True


def without_first(reach: Reach, shape: tuple[int, ...]) -> Reach:
    """Of a slice of an array, wherever it is: all along the first axis, which goes."""
    rank = len(shape)
    return placed(over(reach, (0,), shape), [None, *range(rank - 1)], rank - 1)


def with_first(reach: Reach) -> Reach:
    """Of slices put together along a new first axis."""
    rank = reach.first.ndim
    return placed(reach, list(range(1, rank + 1)), rank + 1)
