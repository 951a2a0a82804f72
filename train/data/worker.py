"""A worker process of the loader: `main`, which makes items of a source until it is ended.

Nothing but the standard library is imported before the process knows when to end.
"""

import contextlib
import os
import pickle
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any

LENGTH = 8
"""Bytes of a number on the way to a worker."""


def main() -> None:
    """Serve the sockets that the arguments name, a thread each.

    Standard input brings the pickled source; it ends when the training process closes it or is
    gone, which may be killed at any moment, and this process ends with it at once.
    """
    source = sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(LENGTH)))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sockets = [socket.socket(fileno=int(number)) for number in sys.argv[1:]]
    made = _load(source)
    threads = [threading.Thread(target=serve, args=(made, one)) for one in sockets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def serve(source: Sequence[Any] | Exception, connection: socket.socket) -> None:
    """Answer each index with (True, the item) or (False, the error), until the other side ends."""
    from train.data.wire import exactly, send

    while True:
        try:
            index = int.from_bytes(exactly(connection, LENGTH))
        except (EOFError, OSError):
            return
        try:
            if isinstance(source, Exception):
                raise source
            answer = True, source[index]
        except BaseException as error:  # SystemExit would end this thread: nobody would answer
            answer = False, _crossing(error)
        try:
            send(connection, answer)
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:  # no memory for the arrays, no descriptor, what doesn't pickle
            send(connection, (False, _crossing(error)))


def _load(pickled: bytes) -> Sequence[Any] | Exception:
    """The source, or why there is none."""
    from train.memory import keep_pages

    # Pictures are blocks of memory that would be mapped and cleared anew for each, a third of the
    # time.
    keep_pages()
    try:
        return pickle.loads(pickled)
    except Exception as error:
        return _crossing(error)


def _crossing(error: BaseException) -> Exception:
    """The error, with where it arose as a note, in a form that pickles.

    What is no `Exception`, such as SystemExit, must not end who asked: it becomes a RuntimeError.
    """
    note = f"In a worker process of the loader:\n{traceback.format_exc()}"
    crossing: Exception = RuntimeError("".join(traceback.format_exception_only(error)).strip())
    if isinstance(error, Exception):
        with contextlib.suppress(Exception):
            pickle.loads(pickle.dumps(error))
            crossing = error
    crossing.add_note(note)
    return crossing


def _end_with_parent() -> None:
    """End this process when its standard input ends."""
    while os.read(0, 1):
        pass
    os._exit(0)
