"""Files of a run: written whole or not at all; where the disk is full, one line says so."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

from train.refusal import Failed

NO_ROOM = (
    errno.ENOSPC,
    errno.EFBIG,
    errno.EDQUOT,
    errno.EMFILE,
    errno.ENFILE,
    errno.EROFS,
    errno.EIO,
    errno.EPIPE,
)
"""The system's or its administrator's part: disk full, file too large, quota, descriptors, …"""


class WriteFailed(Failed):
    """A file of the run could not be written; says which and why, in one line."""

    def __init__(self, what: str | os.PathLike, error: BaseException):
        super().__init__(f"{os.fspath(what)} could not be written: {cause(error)}")


@contextlib.contextmanager
def writing(what: str | os.PathLike) -> Iterator[None]:
    """An `OSError` inside is raised as the `WriteFailed` of `what`, a path or words for it."""
    try:
        yield
    except OSError as error:
        raise WriteFailed(what, error) from error


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Put `content` (text as UTF-8) in place of what the file held, whole or not at all.

    It is on the disk when this returns. What stood there before stays where this fails.

    Raises:
        WriteFailed: it could not be written; nothing is left behind.
    """
    path = pathlib.Path(path)
    data = content.encode() if isinstance(content, str) else content
    part = path.with_name(path.name + ".part")
    with writing(path):
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise


class Growing:
    """A file to which more is added; each addition is there whole or not at all.

    Nothing is held back: what was added outlives a process that is killed.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens or creates it.

        Raises:
            WriteFailed: that can't be done.
        """
        self.path = pathlib.Path(path)
        with writing(path):
            self._file = self.path.open("ab", buffering=0)

    def add(self, content: str | bytes, *, durable: bool = False) -> None:
        """Write at the end (text as UTF-8).

        Args:
            content: what to add.
            durable: return when it is on the disk, which takes about 2 ms: it then outlives the
                machine too.

        Raises:
            WriteFailed: it could not be; the file is as long as it was.
        """
        data = memoryview(content.encode() if isinstance(content, str) else content)
        with writing(self.path):
            size = os.fstat(self._file.fileno()).st_size
            try:
                while data:  # a disk that fills up takes a part first
                    data = data[self._file.write(data) :]
                if durable:
                    os.fsync(self._file.fileno())
            except BaseException:
                with contextlib.suppress(OSError):
                    self._file.truncate(size)
                raise

    def close(self) -> None:
        """May be called twice."""
        with writing(self.path):
            self._file.close()


def cause(error: BaseException) -> str:
    """Why something failed, in one line.

    Where the disk, a limit or a quota is at fault, the system's words for it, even if a library
    only quotes them; else `brief`.
    """
    text = str(error)
    for number in NO_ROOM:
        if getattr(error, "errno", None) == number or os.strerror(number) in text:
            return os.strerror(number)
    return brief(error)


def brief(error: BaseException) -> str:
    """The type of an error and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
