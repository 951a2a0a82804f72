"""Exhausted: a run needs more memory, of a device or of the host, than there is."""

import contextlib
from collections.abc import Callable, Iterator

import jax

from train.refusal import Failed

EXHAUSTED = "RESOURCE_EXHAUSTED"
"""How XLA begins to say it."""


@contextlib.contextmanager
def enough_memory(who: str, instead: Callable[[], str]) -> Iterator[None]:
    """Inside, too little memory is said in one line.

    Args:
        who: needs it, in words: "2 seeds need".
        instead: what needs less, in words.

    Raises:
        Failed: it was too little.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and EXHAUSTED not in str(error):
            raise
        why = str(error).strip().partition("\n")[0].rstrip(".") or "MemoryError"
        raise Failed(f"{who} more memory than there is: {why}; {instead()}") from None
