"""Worker processes of the loader, from the training process's side."""

import contextlib
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import cloudpickle

from train.data.loader import LoaderFailed
from train.data.wire import receive
from train.data.worker import LENGTH
from train.files import brief
from train.refusal import Refused
from train.stop import HEARD

GRACE = 5.0
"""Seconds that the system is given to end a process which it has been told to end."""
MAIN = "import sys; sys.path[:] = {path!a}; from train.data.worker import main; main()"


class Items(Protocol):
    """What can be asked by index; it pickles."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Any: ...


class _Line(NamedTuple):
    """A socket to a thread of a worker."""

    connection: socket.socket
    process: subprocess.Popen[bytes]


class Workers:
    """A source of the same items as another, which processes make, as many as are asked at once.

    They are started when it is entered and killed when it is left; they also end, at once, with
    the process that started them. What they hold are anonymous files of memory, nothing that could
    stay behind. No signal of `train.stop.HEARD`, which terminals and schedulers send to all
    processes of a run, ends one: the training process may want its batches still, and ends it in
    its own time.
    """

    def __init__(self, source: Items, processes: int, threads: int):
        """Starts nothing yet.

        Args:
            source: pickled when this is entered.
            processes: at least 1.
            threads: in each process; at least 1.
        """
        self._source = source
        self._size = processes, threads
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lines: list[_Line] = []
        self._idle: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()

    def __len__(self) -> int:
        return len(self._source)

    def __enter__(self) -> "Workers":
        processes, threads = self._size
        try:
            source = cloudpickle.dumps(self._source)
        except Exception as error:
            raise Refused(
                f"workers={processes}: the data can't be given to a process: {brief(error)}"
            ) from error
        try:
            for _ in range(processes):
                self._start(threads)
            for process in self._processes:
                assert process.stdin is not None
                with contextlib.suppress(BrokenPipeError):  # it has ended: who asks it will hear
                    _write(process.stdin, len(source).to_bytes(LENGTH) + source)
        except OSError as error:
            self.__exit__()
            raise LoaderFailed(
                f"a worker process of the loader can't be started: {error.strerror}"
            ) from error
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for line in self._lines:  # who waits for an answer gets none
            with contextlib.suppress(OSError):
                line.connection.shutdown(socket.SHUT_RDWR)
        for _line in self._lines:
            held = self._idle.get()
            assert held is not None
            held.connection.close()
        self._idle.put(None)
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)

    def __getitem__(self, index: int) -> Any:
        """Item `index`, or the error that it raised; any thread may ask.

        Raises:
            LoaderFailed: the worker has ended.
        """
        line = self._idle.get()
        if line is None:
            self._idle.put(None)
            raise LoaderFailed("the loader is closed")
        try:
            line.connection.sendall(index.to_bytes(LENGTH))
            good, answer = receive(line.connection)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise _ended(line.process) from None
        except OSError as error:
            raise LoaderFailed(f"a batch of a worker process can't be taken: {error}") from error
        finally:
            self._idle.put(line)
        if not good:
            raise answer
        return answer

    def check(self) -> None:
        """See that all live.

        Raises:
            LoaderFailed: one has ended.
        """
        for process in self._processes:
            if process.poll() is not None:
                raise _ended(process)

    def _start(self, threads: int) -> None:
        pairs = [socket.socketpair() for _ in range(threads)]
        theirs = [one.fileno() for _, one in pairs]
        command = [sys.executable, "-c", MAIN.format(path=[*map(str, sys.path)]), *map(str, theirs)]
        try:
            with _blocked(*HEARD):
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, bufsize=0, pass_fds=theirs
                )
        except BaseException:
            for ours, _ in pairs:
                ours.close()
            raise
        finally:
            for _, one in pairs:
                one.close()
        self._processes.append(process)
        for ours, _ in pairs:
            line = _Line(ours, process)
            self._lines.append(line)
            self._idle.put(line)


def _ended(process: subprocess.Popen[bytes]) -> LoaderFailed:
    """What is said of a process that has ended."""
    try:
        code = process.wait(GRACE)
    except subprocess.TimeoutExpired:
        return LoaderFailed("a worker process of the loader doesn't answer any more")
    if code >= 0:
        return LoaderFailed(f"a worker process of the loader ended (exit code {code})")
    why = ""
    if -code == signal.SIGKILL:
        why = "; the system kills one where memory runs out: fewer workers take less"
    return LoaderFailed(f"a worker process of the loader ended (signal {-code}){why}")


@contextlib.contextmanager
def _blocked(*numbers: int) -> Iterator[None]:
    """Processes that this thread starts meanwhile don't hear these signals, from their first
    moment on; other threads do.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _write(file: Any, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
