"""Bars: work that takes a while, shown; a bar where there is a terminal, plain lines elsewhere."""

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from train.files import WriteFailed
from train.progress import heard
from train.terminal import Terminal, duration

BETWEEN_LINES = 10.0
"""Seconds from one plain line of the same work to the next."""
BETWEEN_FRAMES = 0.1
"""Seconds from one picture of a bar to the next."""
WIDTH = 30
"""Of a bar, in columns."""


@contextlib.contextmanager
def shown(console: Console | None = None) -> Iterator[None]:
    """Within it, work that takes a while is shown.

    Args:
        console: to show it on; the standard output by default.
    """
    with heard(Bars(console or Console())):
        yield


class Bars:
    """A `train.progress.Listener`. Of several works at once the innermost is the bar."""

    def __init__(self, console: Console):
        self.console = console
        self.lock = threading.RLock()
        self.bar: Bar | None = None
        """The work whose bar stands there."""
        self._failed: WriteFailed | None = None

    def begin(self, what: str, total: int | None, after: float) -> "Bar":
        """See `train.progress.working`."""
        return Bar(self, what, total, after)

    @property
    def beside(self) -> bool:
        """Whether another console's live line stands there, such as that of training."""
        return self.bar is None and isinstance(sys.stdout, FileProxy)

    def line(self, text: str) -> None:
        """One that stays; above a live line."""
        with self.writing():
            if self.beside:
                print(text)  # which that console has taken over
            else:
                Terminal(self.console, 0).say(text)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A timer writes too, where an error would be lost: it is kept for who works."""
        try:
            yield
        except WriteFailed as error:
            self._failed = error
        except OSError as error:
            self._failed = WriteFailed("the output", error)
        except SystemExit:  # what rich makes of a closed pipe
            closed = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            self._failed = WriteFailed("the output", closed)

    def check(self) -> None:
        """In the thread that works.

        Raises:
            WriteFailed: the output could not be written.
        """
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed


class Bar:
    """A `train.progress.Work`."""

    def __init__(self, bars: Bars, what: str, total: int | None, after: float):
        self.what, self.total, self.done = what[:1].upper() + what[1:], total, 0
        self.began = time.monotonic()
        self._bars = bars
        self._live: Live | None = None
        self._shown: float | None = None
        """When it last was; None before `after`."""
        self._ended = False
        # A first part may take long, and what has none too.
        self._timer = threading.Timer(after, self._first)
        self._timer.daemon = True
        self._timer.start()

    def advance(self, count: int) -> None:
        """So many more of its parts are done."""
        with self._bars.lock:
            self.done += count
            if self._shown is None or self._ended:
                return
            now = time.monotonic()
            if now - self._shown >= (BETWEEN_LINES if self._live is None else BETWEEN_FRAMES):
                self._shown = now
                self._draw()
        self._bars.check()

    def end(self) -> None:
        """It is done, or it failed; a bar goes, and plain lines say how long it took."""
        self._timer.cancel()
        with self._bars.lock:
            self._ended = True
            if self._live is not None:
                live, self._live, self._bars.bar = self._live, None, None
                with self._bars.writing():
                    live.stop()
            elif self._shown is not None and self.done == self.total:
                self._bars.line(f"{self.what}: done in {duration(time.monotonic() - self.began)}")
        self._bars.check()

    def _first(self) -> None:
        with self._bars.lock:
            if self._ended:
                return
            self._shown = time.monotonic()
            alone = self._bars.bar is None and not self._bars.beside
            if self.total and self._bars.console.is_interactive and alone:
                # Without its thread: pictures come from who works.
                console = self._bars.console
                live = Live(_Picture(self), console=console, auto_refresh=False, transient=True)
                self._live, self._bars.bar = live, self
                with self._bars.writing():
                    live.start()
                    console.show_cursor(True)  # Ctrl-C may end the process here
            self._draw()

    def _draw(self) -> None:
        if self._live is None:
            self._bars.line(f"{self.what}: {self.said()}" if self.total else f"{self.what}…")
            return
        with self._bars.writing():
            self._live.refresh()

    def said(self) -> str:
        """How far it is: "1,200 of 20,000, 2:31 left"."""
        said = f"{self.done:,} of {self.total:,}"
        if not self.done or self.total is None:
            return said
        pace = (time.monotonic() - self.began) / self.done
        return f"{said}, {duration(pace * (self.total - self.done))} left"


class _Picture:
    """One line: the bar, and what it is of; never wider than the terminal."""

    def __init__(self, bar: Bar):
        self._bar = bar

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bar = self._bar
        text = Text(f"{bar.what}: ", style="dim").append(bar.said(), style="not dim")
        width = options.max_width - 1  # some terminals wrap when the last column is written to
        room = min(width - text.cell_len - 2, WIDTH)
        row = Table.grid(padding=(0, 2, 0, 0))
        if room >= 8:
            row.add_column(width=room)
            row.add_column(no_wrap=True)
            row.add_row(ProgressBar(bar.total, bar.done, width=room), text)
        else:
            text.truncate(width, overflow="ellipsis")
            row.add_column(no_wrap=True)
            row.add_row(text)
        yield from console.render(row, options.update(width=width))
