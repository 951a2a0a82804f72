"""Exhausted: less memory than is needed, or fewer descriptors; said in one line."""

import contextlib
import errno
from collections.abc import Callable, Iterator

from train.files import stated
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


def lacking(error: BaseException) -> str:
    """What is said of too little memory, or too few descriptors; "" of any other error."""
    if why := exhausted(error):
        return f"more memory is needed than there is: {why}"
    # Imports need descriptors too, wherever they come, and say so by an ImportError.
    if words := stated(error, (errno.ENFILE, errno.EMFILE)):
        return f"{getattr(error, 'filename', None) or 'a file'} could not be opened: {words}"
    return ""


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
