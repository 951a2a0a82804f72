"""Gaps: the examples of a source that cannot be read, where a run goes on without them.

In training the next sound example stands in (the next index, the last one's next being 0): a
function of the index and of the set alone, whoever finds the gap and when. In evaluation nothing
stands in: the example is not valid.
"""

import json
import pathlib
from collections.abc import Callable, Mapping

from train import processes
from train.files import write
from train.refusal import Refused

LIMIT = 0.01
"""Share of the set above which training stops."""


class Gaps:
    """What is known of one source's unreadable examples; a loader adds what it finds.

    Attributes:
        found: index -> name and reason.
        limit: share of the set, 0..1, that may be unreadable in training.
    """

    def __init__(self, *, limit: float = LIMIT, file: pathlib.Path | None = None):
        """Nothing is known, or what an earlier run has kept.

        Args:
            limit: see above.
            file: of an earlier run; it need not be there.

        Raises:
            Refused: the limit is no share, or the file holds something else.
        """
        if not 0 <= limit < 1:
            raise Refused(f"corrupt_limit={limit} is not in [0, 1)")
        self.limit = limit
        self.found: dict[int, str] = {}
        self._file: pathlib.Path | None = None
        self._say: Callable[[str], None] = lambda text: None
        self._said: set[int] = set()
        if file is not None:
            self.found = _kept(file)
            self._said = set(self.found)

    def keep(self, file: pathlib.Path, say: Callable[[str], None]) -> None:
        """From now on what is found is written to `file` and said, once; what is known, now.

        What the file holds already, of the same data, is known from here on.

        Raises:
            Refused: the file holds something else.
        """
        kept = _kept(file)
        self.found = dict(sorted({**self.found, **kept}.items()))
        self._file, self._say, self._said = file, say, set(kept)
        self._tell()

    def add(self, found: Mapping[int, str]) -> None:
        """Note examples, index -> name and reason; known ones change nothing."""
        new = {index: words for index, words in found.items() if index not in self.found}
        if new:
            self.found = dict(sorted({**self.found, **new}.items()))
            self._tell()

    def check(self, length: int, name: str) -> None:
        """Whether a set of so many examples is still worth training on.

        Raises:
            Refused: more than `limit` of them are unreadable; names some.
        """
        if exceeds(len(self.found), self.limit, length):
            raise too_many(self.found, self.limit, length, name)

    def _tell(self) -> None:
        new = [index for index in self.found if index not in self._said]
        if self._file is None or not new:
            return
        self._said.update(new)
        write(self._file, json.dumps(self.found, indent=1) + "\n")
        for index in new:
            self._say(f"Example {index} can't be read and is left out: {self.found[index]}")


def share(gaps: Gaps | None) -> None:
    """Note what any of the processes has found; all must ask."""
    if gaps is not None:
        for found in processes.gathered("what can't be read", gaps.found):
            gaps.add(found)


def _kept(file: pathlib.Path) -> dict[int, str]:
    """Index -> name and reason, as an earlier run has kept them; {} where it kept none."""
    if not file.exists():
        return {}
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return {int(index): str(words) for index, words in kept.items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise Refused(f"{file} can't be read: {error}") from None


def exceeds(count: int, limit: float, length: int) -> bool:
    """Whether `count` of `length` is more than the share `limit`; one is not, unless it is 0."""
    return count > max(limit * length, 1 if limit else 0)


def too_many(found: Mapping[int, str], limit: float, length: int, name: str) -> Refused:
    """What to raise where they are."""
    some = "; ".join(f"{index}: {words}" for index, words in sorted(found.items())[:5])
    return Refused(
        f"{len(found)} of the {length} examples of {name} can't be read, more than "
        f"corrupt_limit={limit:g} of them: {some}{'; …' if len(found) > 5 else ''}"
    )
