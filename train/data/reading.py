"""Reading: examples typed and checked, and those that can't be read set apart where they may be."""

from collections.abc import Mapping, Sequence

from train.data.decode import Unreadable
from train.data.source import Example, Source
from train.data.subset import read
from train.data.typed import typed


def sound(
    source: Source, indices: Sequence[int], known: Mapping[int, str] | None
) -> tuple[list[Example | None], dict[int, str]]:
    """The examples at `indices`, as `train.data.typed` gives them; None where one can't be read.

    Args:
        source: any.
        indices: of it.
        known: index -> name and reason of those not to be read again; None: there may be none.

    Returns:
        The examples, and those found unreadable: index -> name and reason.

    Raises:
        Unreadable: an example can't be read, and there may be none such.
        Refused: the set cannot be used.
    """
    if known is None:
        given = zip(indices, read(source, indices), strict=True)
        return [typed(source, i, example) for i, example in given], {}
    found: dict[int, str] = {}
    wanted = [i for i in indices if i not in known]
    try:
        together: dict[int, Example] | None = dict(zip(wanted, read(source, wanted), strict=True))
    except Unreadable:
        together = None  # which of them is not said: one by one

    def one(i: int) -> Example | None:
        if i in known or i in found:
            return None
        try:
            return typed(source, i, source[i] if together is None else together[i])
        except Unreadable as error:
            found[i] = f"{error.name}: {error.reason}"
            return None

    return [one(i) for i in indices], found
