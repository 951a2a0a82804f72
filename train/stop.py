"""Stop requests: SIGTERM and Ctrl-C, heard once and acted on between two steps."""

import signal
from types import FrameType, TracebackType


class Stop:
    """While entered, the first SIGTERM or SIGINT is noted; a second one ends the process.

    Attributes:
        signal: the number of the one that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __call__(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> "Stop":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        # The next one ends the process at once: an exception inside XLA would crash it instead.
        for one in self._before:
            signal.signal(one, signal.SIG_DFL)
