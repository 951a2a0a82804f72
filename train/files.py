"""Files of a run: written whole or not at all; where the disk is full, one line says so."""

import contextlib
import errno
import io
import os
import pathlib
import stat
from collections.abc import Callable, Iterable, Iterator

from train import processes
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


NOT_GIVEN = (
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM),
    *(errno.ESTALE, errno.ETIMEDOUT),
)
"""What is not said of a file, but of who reads it or of the way there: no descriptor, no memory, no
permission, a file server that does not answer."""


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

    It is on the disk when this returns. What stood there before stays where this fails. What is no
    file (a pipe, /dev/stdout) is written to as it is. Of several processes the first writes for
    all.

    Raises:
        WriteFailed: it could not be written; nothing is left behind.
    """
    if not processes.first():
        return
    path = pathlib.Path(path)
    data = content.encode() if isinstance(content, str) else content
    part = path.with_name(path.name + ".part")
    with writing(path):
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
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

    Nothing is held back: what was added outlives a process that is killed. Where somebody deletes
    the file meanwhile, it is put back with all that it held; where another one took its place, as
    an editor does it, that one is added to.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        say: Callable[[str], None] = lambda text: None,
        own_folder: bool = False,
    ):
        """Opens or creates it.

        Args:
            path: of the file.
            say: takes a line where somebody else has deleted, replaced or cut it.
            own_folder: its folder is put back too; else, where that is gone, the file can't be
                written any more. None above is ever made.

        Raises:
            WriteFailed: that can't be done.
        """
        self.path = pathlib.Path(path)
        self._say, self._own_folder = say, own_folder
        with writing(path):
            self._file = self._opened()
            self._size = os.fstat(self._file.fileno()).st_size

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
            self._stay()
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
            self._size = os.fstat(self._file.fileno()).st_size

    def _opened(self) -> io.FileIO:
        return self.path.open("a+b", buffering=0)  # read where it has to be put back

    def _stay(self) -> None:
        """See that the file is the one at its path, and holds what it held.

        The old one stays open until another is: it may be all that is left of what was added.
        """
        ours = os.fstat(self._file.fileno())
        if not stat.S_ISREG(ours.st_mode):
            return
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            self._file.seek(0)
            if self._own_folder:
                self.path.parent.mkdir(exist_ok=True)
            write(self.path, self._file.readall())
            what = "deleted, and is put back."
        else:
            if os.path.samestat(ours, there):
                if ours.st_size < self._size:
                    self._say(f"{self.path} was cut short by somebody else: what it held is lost.")
                return
            what = "replaced by another file, to which more is added."
        other = self._opened()
        self._file.close()
        self._file = other
        self._say(f"{self.path} was {what}")

    def close(self) -> None:
        """May be called twice."""
        with writing(self.path):
            self._file.close()


def cause(error: BaseException) -> str:
    """Why something failed, in one line.

    Where the disk, a limit or a quota is at fault, the system's words for it, even if a library
    only quotes them; else `brief`.
    """
    return stated(error, NO_ROOM) or brief(error)


def stated(error: BaseException, numbers: Iterable[int]) -> str | None:
    """The system's words for an error, or for the one that a library quotes in its own.

    Args:
        error: any.
        numbers: those of `errno` that count; None for an error of another.
    """
    text = str(error)
    for number in numbers:
        if getattr(error, "errno", None) == number or os.strerror(number) in text:
            return os.strerror(number)
    return None


def brief(error: BaseException) -> str:
    """The type of an error and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
