"""Wrapping: a network's tensors out of what a training script wrapped it in."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

AROUND = ("module", "_orig_mod")
"""What torch itself puts into the names: `DataParallel` (around the whole or a part, such as
`features.module.0.weight`) and `compile`."""


def unwrapped(found: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
    """Tensors by the names that a network gives them.

    `AROUND` is left out of names. What all of the network's names begin with beside that, such as
    `model.` or `backbone.`, is too, where one part of the tensors alone fits the network. What
    stands outside of the wrapper and is not wanted is passed over, such as a count of updates.

    Args:
        found: as they are called.
        wanted: the network's names.

    Raises:
        ValueError: several parts fit the network, as a student and its teacher do.
    """
    bare: dict[str, Any] = {}
    inside: set[str] = set()
    for key, value in found.items():
        parts = key.split(".")
        kept = [part for part in parts if part not in AROUND]
        name = ".".join(kept)
        if name in bare:
            raise ValueError(f"it holds {name} twice, once of them as {key}")
        bare[name] = value
        if len(kept) < len(parts):
            inside.add(name)
    prefix = common_prefix(bare, wanted)
    if not prefix and not inside:
        return bare
    if prefix:
        inside = {name for name in bare if name.startswith(prefix)}
    tensors: dict[str, Any] = {}
    for name, value in bare.items():
        ours = name.removeprefix(prefix) if name in inside else name
        if name not in inside and name not in wanted:
            continue
        if ours in tensors:
            raise ValueError(f"it holds {ours} twice, once of them under {prefix!r}")
        tensors[ours] = value
    return tensors


def common_prefix(found: Collection[str], wanted: Collection[str]) -> str:
    """What the names of one network among `found` begin with: "model.", or "" where nothing.

    Raises:
        ValueError: there are several such networks.
    """
    fits: Counter[str] = Counter()
    for name in found:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in wanted:
                fits["".join(f"{part}." for part in parts[:start])] += 1
    most = max(fits.values(), default=0)
    if 2 * most < len(wanted) or 2 * fits[""] >= most:  # another network; or it is not wrapped
        return ""
    large = sorted(prefix for prefix, count in fits.items() if 2 * count >= most)
    # What lies within one of them is a block of it.
    several = [one for one in large if not any(one != p and one.startswith(p) for p in large)]
    if len(several) > 1:
        more = f" and {len(several) - 4} more" if len(several) > 4 else ""
        raise ValueError(
            f"it holds {len(several)} networks, under {', '.join(several[:4])}{more}: keep the "
            "tensors of one"
        )
    return several[0]
