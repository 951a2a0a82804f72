"""What a person sees of a run: one live line where there is a terminal, plain lines elsewhere."""

import contextlib
import errno
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from train.files import WriteFailed
from train.metrics.quantities import RATE, ordered, quantity, readable, show

Value = float | int | Sequence[float | int]
"""A number, or one a seed."""

SECONDS_BETWEEN_LINES = 5.0
"""Plain lines of training come no faster than this."""

# Where the line is too narrow, what stands first here goes first; then what else is measured, from
# the end, and the time that is left.
LEAST_IMPORTANT = ("examples_per_second", "epoch", "learning_rate")


class Terminal:
    """Prints. Interactive or not is the console's own finding (`Console.is_interactive`)."""

    def __init__(self, console: Console, steps: int):
        self._console = console
        self._steps = steps
        self._live: Live | None = None
        self._first: tuple[int, float] | None = None
        self._printed = -math.inf

    def say(self, text: str) -> None:
        """Paragraphs; a line that begins with a space (a command, a path) is never broken."""
        for line in text.splitlines() or [""]:
            self._print(Text(line), whole=line.startswith(" "))

    def heading(self, text: str) -> None:
        """A line across, with words in it."""
        with self._writing():
            self._console.rule(text)

    def show(self, table: Table) -> None:
        """A table as it stands."""
        with self._writing():
            self._console.print(table)

    def train(self, step: int, values: Mapping[str, Value], epoch: float) -> None:
        """One logged interval: redraws the live line, or prints a plain one every few seconds."""
        now = time.monotonic()
        # The first interval holds the compilation, so the pace is measured from its end.
        self._first = self._first or (step, now)
        pieces = self._pieces(step, values, epoch, now)
        if self._console.is_interactive:
            with self._writing():
                if self._live is None:
                    # Without its thread: lines come from this one alone.
                    live = Live(console=self._console, auto_refresh=False, transient=True)
                    live.start()
                    self._live = live
                self._live.update(_Line(pieces, step, self._steps), refresh=True)
        elif now - self._printed >= SECONDS_BETWEEN_LINES or step >= self._steps:
            self._printed = now
            self._print(Text("  ").join(pieces.values()), whole=True)

    def evaluation(self, step: int, split: str, scalars: Mapping[str, Value]) -> None:
        """One line that stays: on a terminal as many of the scalars as fit it, what ranks first."""
        line = Text(f"step {step}", style="dim").append(f"  {split}", style="bold not dim")
        for name in ordered(scalars):
            piece = _label(readable(name), show(name, scalars[name], digits=4))
            if self._console.is_terminal and line.cell_len + piece.cell_len + 2 > self._width:
                break
            line = Text("  ").join([line, piece])
        self._print(line, whole=True)

    def close(self) -> None:
        """Ends the live line and gives the cursor back; more may be said afterwards."""
        if self._live is not None:
            live, self._live = self._live, None
            with self._writing():
                live.stop()

    @property
    def _width(self) -> int:
        # One column is kept free: some terminals wrap when the last one is written to.
        return self._console.width - 1

    def _print(self, text: Text, *, whole: bool) -> None:
        # An unprintable character must not end a run of hours.
        encoding = self._console.encoding
        if text.plain.encode(encoding, "replace").decode(encoding) != text.plain:
            text = Text(text.plain.encode(encoding, "replace").decode(encoding))
        whole = whole or not self._console.is_terminal
        with self._writing():
            self._console.print(text, soft_wrap=whole)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Where the output can't be written (a full disk, in most cases), one line says so."""
        try:
            yield
        except OSError as error:
            # Python would try again at its end, and complain at length.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._console.file.fileno())
            raise WriteFailed("the output", error) from error
        except SystemExit as error:  # what rich makes of a closed pipe
            closed = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            raise WriteFailed("the output", closed) from error

    def _pieces(
        self, step: int, values: Mapping[str, Value], epoch: float, now: float
    ) -> dict[str, Text]:
        """Quantity -> what is shown, in the order of the line."""
        pieces = {"step": _label("step", f"{step}/{self._steps}")}
        pieces["epoch"] = _label("epoch", f"{epoch:.1f}")
        for name in ordered(values):
            known = quantity(name)
            if known.unit == RATE:
                number = show(name, values[name], digits=4)
                pieces[name] = Text(number).append(f" {known.short}", style="dim")
            elif known.short:
                pieces[name] = _label(known.short, show(name, values[name], digits=3))
        if self._first is not None and step > self._first[0]:
            pace = (now - self._first[1]) / (step - self._first[0])
            left = duration(pace * max(self._steps - step, 0))
            pieces["left"] = Text(left).append(" left", style="dim")
        return pieces


class _Line:
    """One line of exactly the console's width: what fits, and a bar in the room that is left."""

    def __init__(self, pieces: dict[str, Text], step: int, steps: int):
        self._pieces, self._step, self._steps = pieces, step, steps

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width - 1  # the last column is kept free here too
        text = self._fit(width)
        room = min(width - text.cell_len - 2, 30)
        row = Table.grid(padding=(0, 2, 0, 0))
        if room >= 8:
            row.add_column(width=room)
            row.add_column(no_wrap=True)
            row.add_row(ProgressBar(self._steps, self._step, width=room), text)
        else:
            row.add_column(no_wrap=True)
            row.add_row(text)
        yield from console.render(row, options.update(width=width))

    def _fit(self, width: int) -> Text:
        pieces = dict(self._pieces)
        others = [name for name in pieces if name not in (*LEAST_IMPORTANT, "step", "loss", "left")]
        for drop in ("", *LEAST_IMPORTANT, *reversed(others), "left"):
            pieces.pop(drop, None)
            full = list(pieces.values())
            bare = [pieces["step"][len("step ") :], *full[1:]]
            for gap, shown in (("  ", full), (" ", full), (" ", bare)):
                text = Text(gap).join(shown)
                if text.cell_len <= width:
                    return text
        text.truncate(width, overflow="ellipsis")
        return text


def duration(seconds: float) -> str:
    """0:59, 12:34, 3h 04m, 2d 03h."""
    total = round(seconds)
    days, rest = divmod(total, 86400)
    hours, minutes = divmod(rest // 60, 60)
    if days:
        return f"{days}d {hours:02d}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}:{rest % 60:02d}"


def _label(name: str, value: str) -> Text:
    style = "bold red" if "not finite" in value else ""
    return Text(f"{name} ", style="dim").append(value, style=f"not dim {style}")
