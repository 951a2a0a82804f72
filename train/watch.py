"""Watch: each process sees in the work directory whether the others still go on, or ends.

Where one of them is killed, stopped or stuck, the others would wait for it inside a collective, for
ever or until JAX's runtime ends them without a word of ours. So each writes to a file of its own,
once a second, how far it has come, and a thread of it reads what the others write. Whose file does
not change is silent; who is behind, and stays at one place, is stuck. No clock is compared with
another's: only whether a file changes, by the clock that runs here.
"""

import contextlib
import json
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from train import last_words, processes
from train.files import writing
from train.last_words import FOLDER, file_of, read
from train.refusal import Refused

ALL, OWN, UNKNOWN = "all", "own", "unknown"
"""Whose an error is: of all; of this process; perhaps another's, as where a collective fails."""
TOKEN = "token"
"""File that the first process writes, to see that all have the same directory."""
TOUCH = 1.0
"""Seconds from one writing to the next."""
SILENT = 30.0
"""Seconds after which a process whose file does not change has ended or stands still."""
SILENT_AFTER_ERROR = 8.0
"""The same once a collective has failed here, which says that one has ended."""
GRACE = 2.0
"""Seconds from when another has said why it can't go on to when this one ends."""
STUCK = 45.0
"""Seconds that a process may be behind at one place."""
SLOWER = 3
"""The same, times the longest that it took from one place to the next: a save, a slow disk."""
LONG = 1800.0
"""The same of what takes long: compiling, reading data, writing a report."""
SEEN = 60.0
"""Seconds in which a file that one machine writes must be seen by another."""


class Watch:
    """Of one process of several: writes where it is, and watches the others.

    Args:
        path: the work directory.
        token: of this start; files of an earlier one say nothing.
        again: the command that goes on with the run.
        end: what ends the process, with an exit code.
    """

    def __init__(
        self,
        path: pathlib.Path,
        token: str,
        *,
        again: str = "",
        end: Callable[[int], Any],
    ):
        self.folder, self.token = path / FOLDER, token
        self.own = {"token": token, "who": processes.name(), "ended": None}
        self.limit = SILENT
        self._again, self._end = again, end
        self._place, self._patience = 0, LONG
        self._came, self._usual, self._longest = 0.0, False, 0.0
        self._ticks = 0
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._seen: dict[int, Seen] = {
            index: Seen() for index in range(processes.HERE.count) if index != processes.HERE.index
        }
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to write and to watch."""
        self._write()
        self._thread.start()

    def beat(self, patience: float = STUCK) -> None:
        """This process has come to its next place, as the others do or will: it has given what the
        others wait for, or goes to work on what takes long.

        Args:
            patience: seconds that it may take to the place after; more where a place took long.
        """
        now = time.monotonic()
        with self._lock:
            if self._usual:
                self._longest = max(self._longest, now - self._came)
            self._place += 1
            self._came, self._usual = now, patience == STUCK
            self._patience = max(patience, SLOWER * self._longest if self._usual else 0)

    def ended(self, why: str) -> None:
        """This process can't go on: the others end as soon as they read it."""
        with self._lock:
            self.own["ended"] = why
        self._write()

    def stop(self) -> None:
        """Watch no more."""
        self._done.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def blamed(self) -> None:
        """A collective has failed: wait until it is clear whose fault it is, which ends this one.

        Returns where it is nobody's.
        """
        self.limit = SILENT_AFTER_ERROR
        self._done.wait(2 * SILENT_AFTER_ERROR)

    def _watch(self) -> None:
        while not self._done.wait(TOUCH):
            self._write()
            for index, seen in self._seen.items():
                seen.look(read(self.folder, index, self.token))
                why = self._why(seen)
                if why is not None and not self._done.is_set():
                    self._fail(index, seen, why)
                    return

    def _why(self, seen: "Seen") -> str | None:
        now = time.monotonic()
        if seen.ended is not None:
            # What ends both is said by each in its own words, a moment later.
            return f"can't go on: {seen.told['ended']}" if now - seen.ended > GRACE else None
        if now - seen.changed > self.limit:
            return f"has been silent for {now - seen.changed:.0f} s: it was killed or stands still"
        with self._lock:
            place = self._place
        if seen.place >= place:
            seen.behind = now
            return None
        since = max(seen.moved, seen.behind)
        if now - since > seen.told.get("patience", LONG):
            return f"is stuck: it has come no further for {now - since:.0f} s, and the others wait"
        return None

    def _fail(self, index: int, seen: "Seen", why: str) -> None:
        if self.own["ended"] is not None:  # this one came first, and waits for the others to end
            print(f"error: {self.own['ended']}", file=sys.stderr, flush=True)
            self._end(1)
            return
        self.ended(f"process {index} {why}")  # else this one is blamed for being silent
        who = seen.told.get("who")
        again = (
            f"\nTo go on, start all again, this one with\n  {self._again}" if self._again else ""
        )
        print(
            f"error: process {index}{f' ({who})' if who else ''} {why}. This process, "
            f"{processes.HERE.index}, ends too; the last checkpoint stays.{again}",
            file=sys.stderr,
            flush=True,
        )
        self._end(1)

    def _write(self) -> None:
        with self._lock:
            self._ticks += 1
            told = {
                **self.own,
                "tick": self._ticks,
                "place": self._place,
                "patience": self._patience,
            }
        # A disk that is full is no reason to end while this process goes on.
        file = file_of(self.folder, processes.HERE.index)
        part = file.with_suffix(".part")
        try:
            part.write_text(json.dumps(told))
            part.replace(file)
        except OSError:
            with contextlib.suppress(OSError):
                os.utime(file)  # a sign of life, for which no room is needed


class Seen:
    """What is known of another process."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self.place = 0
        self.ended: float | None = None
        self.changed = self.moved = self.behind = time.monotonic()

    def look(self, told: dict[str, Any]) -> None:
        """What its file holds now; {} where that can't be read."""
        now = time.monotonic()
        if told and told != self.told:
            if told["place"] != self.place:
                self.place, self.moved = told["place"], now
            if told["ended"] and self.ended is None:
                self.ended = now
            self.told, self.changed = told, now


class Alone:
    """The watch of a run of one process."""

    def beat(self, patience: float = STUCK) -> None:
        """Nobody waits."""


@contextlib.contextmanager
def watching(path: pathlib.Path, *, again: str = "") -> Iterator[Watch | Alone]:
    """Within it the processes of a run watch each other; each ends where another has.

    Args:
        path: the work directory, which is there.
        again: the command that goes on with the run.

    Raises:
        Refused: it is not the same directory for all.
    """
    if not processes.several():
        yield Alone()
        return
    token = shared_token(path)
    child = last_words.listening(
        path / FOLDER, processes.HERE.index, processes.HERE.count, token, again
    )

    def end(code: int) -> None:
        last_words.quiet(child)
        os._exit(code)

    watch = Watch(path, token, again=again, end=end)
    watch.start()
    processes.HERE.came, processes.HERE.gave = partial(watch.beat, LONG), watch.beat
    try:
        yield watch
    except BaseException as error:
        leave(watch, error)
        raise
    else:
        processes.gathered("the end of the run")
    finally:
        processes.HERE.came = processes.HERE.gave = lambda: None
        watch.stop()
        last_words.quiet(child)


@contextlib.contextmanager
def told(watch: Watch | Alone) -> Iterator[None]:
    """What is raised within is told the others at once: to close files may wait for them."""
    try:
        yield
    except BaseException as error:
        if isinstance(watch, Watch) and blame(error) == OWN:
            watch.ended(processes.said(error))
        raise


def blame(error: BaseException) -> str:
    """Whose an error is."""
    import jax

    if getattr(error, "common", False):
        return ALL
    runtime = any(isinstance(one, jax.errors.JaxRuntimeError) for one in causes(error))
    return UNKNOWN if runtime else OWN


def leave(watch: Watch, error: BaseException) -> None:
    """End with an error: with the others, where it is theirs too, or in front of them.

    In the last case this returns once they can know.
    """
    whose = blame(error)
    if whose == ALL:
        processes.gathered("the end of the run")
        return
    if whose == UNKNOWN:
        watch.blamed()  # which does not return where another process has ended
    watch.ended(processes.said(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def shared_token(path: pathlib.Path) -> str:
    """A word that the first process writes into the directory, once all have read it there.

    Raises:
        Refused: one does not find it: checkpoints would be written to several places.
    """
    folder = path / FOLDER

    def written() -> str:
        token = os.urandom(8).hex()
        with writing(folder / TOKEN):
            folder.mkdir(exist_ok=True)
            (folder / TOKEN).write_text(token)
        return token

    token = processes.same("the token", written)
    until = time.monotonic() + SEEN
    while not (there := token_in(folder) == token) and time.monotonic() < until:
        time.sleep(0.2)
    for index, (seen, who) in enumerate(
        processes.gathered("who sees the token", (there, processes.name()))
    ):
        if not seen:
            raise Refused(
                f"workdir={str(path)!r} is not one directory for all processes: process {index} "
                f"({who}) does not see what process 0 has written there; give one that they share"
            )
    return token


def token_in(folder: pathlib.Path) -> str | None:
    """What stands there; None where nothing does."""
    try:
        return (folder / TOKEN).read_text()
    except OSError:
        return None
