"""Exhausted: less memory, of a device or of the host, than is needed; said in one line."""

import contextlib
from collections.abc import Callable, Iterator

from train.refusal import Failed

EXHAUSTED = "RESOURCE_EXHAUSTED"
"""How XLA begins to say it."""


def exhausted(error: BaseException) -> str:
    """What is said of too little memory; "" of any other error."""
    # By its name: the command line looks at errors before JAX is imported.
    ours = type(error).__name__ == "JaxRuntimeError" and EXHAUSTED in str(error)
    if not ours and not isinstance(error, MemoryError):
        return ""
    return str(error).strip().partition("\n")[0].rstrip(".") or "MemoryError"


@contextlib.contextmanager
def enough_memory(who: str, instead: Callable[[], str]) -> Iterator[None]:
    """Inside, too little memory is said with what needs less.

    Args:
        who: needs it, in words: "2 seeds need".
        instead: what needs less, in words.

    Raises:
        Failed: it was too little.
    """
    try:
        yield
    except Exception as error:
        if not (why := exhausted(error)):
            raise
        raise Failed(f"{who} more memory than there is: {why}; {instead()}") from error
