"""Places: where prepared data sets and caches lie; TFDS is imported only if it may."""

import os
import pathlib
import tempfile


def data_dir() -> pathlib.Path:
    """Where prepared sets lie: TFDS_DATA_DIR, or TFDS's own default, see `at_home`."""
    default = os.path.expanduser("~/tensorflow_datasets")
    given = os.environ.get("TFDS_DATA_DIR") or (default if os.path.isdir(default) else "")
    return pathlib.Path(os.path.expanduser(given)) if given else at_home("tensorflow_datasets")


def lies(name: str) -> bool:
    """Whether a set `name`, `name/config` or `name:version` has a folder among prepared sets."""
    folder = name.partition("/")[0].partition(":")[0]
    return bool(folder) and os.path.isdir(data_dir() / folder)


def at_home(folder: str) -> pathlib.Path:
    """`~/folder` where it can be written, or made; else the same below `temporary()`.

    A container's user may have no home at all, or one that is not theirs to write.
    """
    path = pathlib.Path(os.path.expanduser(f"~/{folder}"))
    if not path.is_absolute():  # nobody knows of a home
        return temporary() / folder
    there = next(each for each in (path, *path.parents) if os.path.exists(each))
    return path if os.access(there, os.W_OK | os.X_OK) else temporary() / folder


def temporary() -> pathlib.Path:
    """A folder of this user's below the system's temporary directory; perhaps not made yet."""
    try:
        directory = tempfile.gettempdir()
    except OSError:  # none can be written
        directory = os.curdir
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return pathlib.Path(directory) / f"svertka-{user}"
