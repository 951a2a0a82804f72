"""Ragged: boxes, proposals and signals, as many or long as each example has, to one capacity."""

import contextlib
from collections.abc import Mapping

import numpy as np

from train.data.batch import KEYS, RAGGED, rows_of
from train.data.decode import Unreadable
from train.data.source import Example, Source
from train.refusal import Refused, choose

Capacity = Mapping[str, int]
"""Key of `train.data.batch.RAGGED` -> its rows or steps in a batch: {"boxes": 64}."""


def check(capacity: Capacity | None) -> Capacity:
    """The capacity; {} for None.

    Raises:
        Refused: no mapping, a key that is not ragged, or a number that is not positive.
    """
    if capacity is None:
        return {}
    if not isinstance(capacity, Mapping):
        raise Refused(f"capacity={capacity!r} does not say of which key: {{'boxes': {capacity}}}")
    for key, rows in capacity.items():
        choose("capacity", key, RAGGED)
        if not isinstance(rows, int) or rows < 1:
            raise Refused(f"capacity[{key!r}]={rows!r} is no positive integer")
    return dict(capacity)  # which pickles


def padded(example: Example, capacity: Capacity, *, cut: bool) -> Example:
    """The example with each ragged key at its capacity, zeros at its end, and what is none of them.

    That is `box_valid`, `proposal_valid`: True a row of its own, where the source does not give it;
    `length`: a signal's steps. A signal without a capacity stays as it is, without `length` where
    the source gives none: all must then have equally many steps. So must proposals.

    Args:
        example: typed (`train.data.typed`).
        capacity: for boxes, which no two pictures have equally many of, there must be one.
        cut: whether boxes and proposals beyond the capacity are left out, the first ones kept. A
            signal is one thing and never cut.

    Raises:
        ValueError: more than the capacity, or keys of a kind that differ in rows; says how many.
    """
    new = dict(example)
    for key, valid in RAGGED.items():
        if key not in example:
            continue
        many = KEYS[valid].ragged == key  # a list, not one thing with a length
        count, room = len(example[key]), capacity.get(key)
        for name in rows_of(key, example):
            if len(example[name]) != count:
                raise ValueError(f"has {count} {key} and {len(example[name])} of {name}")
        if many:
            new.setdefault(valid, np.ones(count, np.bool_))
        elif room is not None:
            count = int(new.setdefault(valid, np.asarray(count, KEYS[valid].dtype)))
        if room is None:
            continue
        if count > room and not (cut and many):
            what = key if many else f"steps of {key}"
            raise ValueError(f"has {count} {what}, more than capacity[{key!r}]={room}")
        for name in rows_of(key, new):
            value = new[name][: min(count, room)]
            new[name] = np.pad(value, [(0, room - len(value))] + [(0, 0)] * (value.ndim - 1))
    return new


def most(source: Source) -> dict[str, int]:
    """Ragged key of the annotations -> the most rows that an example has, at least 1.

    Every annotation is read; what can't be read counts for nothing.
    """
    found: dict[str, int] = {}
    for i in range(len(source)):
        with contextlib.suppress(Unreadable):
            truth = source.truth(i)
            for key in RAGGED:
                if key in truth:
                    found[key] = max(found.get(key, 1), len(truth[key]))
    return found
