"""Collectives: what the devices of a compiled program tell each other, read from its HLO text.

Bytes are those of the array that is reduced, gathered or moved, as one device holds or gets all of
it: the operand of an all-reduce, reduce-scatter, all-to-all or permutation, the result of an
all-gather. They do not depend on the algorithm that the machine runs; `sent` says what a ring's
devices send.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

BITS = {
    **{"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128},
    **{f"{kind}{n}": n for kind in "su" for n in (1, 2, 4, 8, 16, 32, 64)},
    **{"bf16": 16, "f16": 16, "f32": 32, "f64": 64, "f4e2m1fn": 4},
}
"""Of an element; eight where the name is none of these: the many forms of float8."""

COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
OPERATION = re.compile(r"^(.*?) ([a-z][\w-]*)\(")
ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\]")
CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)"
    r"|\b(?:branch_computations|called_computations)=\{([^}]*)\}"
)
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
LISTED = re.compile(r"replica_groups=(?:\{\{([\d,]+)\}|\[\d+,(\d+)\]<=)")
NAMED = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")
"""The groups of devices: as lists or an iota, or the axes of a mesh along which they lie."""
AXIS = re.compile(r"'([\w.-]+)'(?:=(\d+)|:\(\d+\)(\d+))?")


class Collective(NamedTuple):
    """One of a program, each time that it is run.

    Attributes:
        kind: of `KINDS`.
        bytes: see above.
        group: how many devices take part in each; 0 where the text does not say: all.
        times: how often a run of the program comes to it.
        certain: whether it stands in no loop of unknown length, which is counted as one turn.
    """

    kind: str
    bytes: int
    group: int
    times: int = 1
    certain: bool = True

    def sent(self, devices: int) -> float:
        """Bytes that each device sends in all, by a ring; of so many devices in the program."""
        n = self.group or devices
        once = {"all-reduce": 2 * (n - 1) / n, "collective-permute": 1}.get(self.kind, (n - 1) / n)
        return once * self.bytes * self.times


class _Instruction(NamedTuple):
    operation: str
    shape: str
    text: str


def collectives(text: str) -> list[Collective]:
    """Of an optimised program, `jax.jit(f).lower(…).compile().as_text()`, in its order.

    An asynchronous pair counts once, at its start; one among single devices, which moves nothing,
    does not count.

    Raises:
        ValueError: the text is of no HLO module.
    """
    entry, computations = _parsed(text)
    return [*_within(entry, computations, 1, True)]


def summed(found: list[Collective], devices: int) -> dict[str, dict[str, float]]:
    """Kind -> how many of it a run of the program comes to, their bytes, and what a ring sends.

    Args:
        found: of a program.
        devices: that it runs on.
    """
    total: dict[str, dict[str, float]] = {}
    for one in found:
        own = total.setdefault(one.kind, {"count": 0, "bytes": 0, "sent": 0.0})
        own["count"] += one.times
        own["bytes"] += one.bytes * one.times
        own["sent"] += one.sent(devices)
    return total


def _within(
    name: str, computations: dict[str, dict[str, _Instruction]], times: int, certain: bool
) -> Iterator[Collective]:
    """Those of a computation and of all that it calls."""
    instructions = computations[name]
    for one in instructions.values():
        if one.operation.endswith(("-done", "-update")):
            continue
        started = one.operation.endswith("-start")
        kind = one.operation.removesuffix("-start")
        if kind in KINDS:
            group = _group(one.text)
            if group != 1:
                size = given = sum(map(_bytes, _operands(one, instructions)))
                if kind == "all-gather":
                    # Its start gives both what it takes and what it makes.
                    size = _bytes(one.shape) - given * (started and one.shape.startswith("("))
                yield Collective(kind, size, group, times, certain)
            continue  # what it applies adds two numbers
        trips = 1
        if one.operation == "while":
            found = TRIPS.search(one.text)
            certain, trips = certain and found is not None, int(found[1]) if found else 1
        for called in _called(one.text):
            if called in computations:
                yield from _within(called, computations, times * trips, certain)


def _parsed(text: str) -> tuple[str, dict[str, dict[str, _Instruction]]]:
    """Name of the entry; of each computation its instructions by name."""
    computations: dict[str, dict[str, _Instruction]] = {}
    entry, current = "", None
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if (begun := COMPUTATION.match(line)) and not line.startswith("HloModule"):
            current = computations.setdefault(begun[2], {})
            entry = begun[2] if begun[1] else entry
        elif current is not None and (found := INSTRUCTION.match(line)):
            name, rest = found.groups()
            if operation := OPERATION.match(rest):
                shape, what = operation.groups()
                current[name] = _Instruction(what, shape, rest[operation.end() :])
    if not entry:
        raise ValueError("no HLO module: there is no ENTRY in the text")
    return entry, computations


def _bytes(shape: str) -> int:
    """Of an array or a tuple, as HLO writes it: "(f32[2,3]{1,0}, bf16[])"."""
    bits = 0
    for kind, extent in ARRAY.findall(shape):
        sizes = [int(n.lstrip("<=")) for n in extent.split(",") if n]
        bits += -(-math.prod(sizes) * BITS.get(kind, 8) // 8) * 8
    return bits // 8


def _operands(one: _Instruction, known: dict[str, _Instruction]) -> Iterator[str]:
    """Shapes of the operands."""
    depth, end = 1, 0
    while depth and end < len(one.text):
        depth += {"(": 1, ")": -1}.get(one.text[end], 0)
        end += 1
    for name in re.findall(r"[\w.-]+", one.text[:end]):
        if name in known:
            yield known[name].shape


def _group(text: str) -> int:
    """How many devices take part in each; 0: all."""
    _, paired, ends = text.partition("source_target_pairs=")
    if paired:
        return 2 if any(a != b for a, b in re.findall(r"\{(\d+),(\d+)\}", ends)) else 1
    if found := LISTED.search(text):
        return int(found[2]) if found[2] else len(found[1].split(","))
    if found := NAMED.search(text):
        sizes = {name: int(size) for name, size, _ in AXIS.findall(found[1])}
        along = AXIS.findall(found[2])
        return math.prod(int(part) if part else sizes[name] for name, _, part in along)
    return 0


def _called(text: str) -> Iterator[str]:
    """Names of the computations that an instruction runs."""
    for one, several in CALLED.findall(text):
        yield from [one] if one else [name.strip(" %") for name in several.split(",")]
