"""Compiled: what XLA has compiled for a command is kept on the disk for the next one.

JAX keeps its programs (`jax_compilation_cache_dir`), by what they compute, its version and its
flags. A folder here is of one kind of machine too, since what is compiled on a CPU runs on its like
alone, and homes are shared. Whoever sets JAX_COMPILATION_CACHE_DIR has JAX's own cache instead, and
JAX_ENABLE_COMPILATION_CACHE=0 keeps nothing.
"""

import contextlib
import hashlib
import importlib
import os
import pathlib
import platform
import warnings
import zlib
from typing import Any

import jax

from train.data.cache import directory

LIMIT = 10**9
"""Bytes of all programs; those that were used longest ago go first."""
WORTH = 0.05
"""Seconds of compiling that are worth a file."""
ENTRIES = "*-cache"
ZSTANDARD = b"\x28\xb5\x2f\xfd"
"""What a file begins with where the package zstandard is installed: JAX uses zlib elsewhere."""


def keep_programs() -> pathlib.Path | None:
    """From here on, compiled programs are read from the disk and kept there.

    A file that can't be read is compiled anew, one that can't be written is not kept, without a
    word; what was cut short by a killed process is removed.

    Returns:
        The folder; None where nothing is kept, since it can't be written, or is not of this user
        alone: a program is code.
    """
    now: Any = jax.config
    if now.jax_compilation_cache_dir or not now.jax_enable_compilation_cache:
        return None
    above = directory() / "programs"
    folder = above / machine()
    try:
        for each in (above, folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not all(map(ours, (above, folder))):
            return None
        remove_unsound(folder)
        shrink(above, LIMIT)
    except OSError:
        return None
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def machine() -> str:
    """A name for processors of one kind, and as many of them: what is compiled depends on both."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = platform.processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return hashlib.sha256(repr((platform.machine(), kind(text), cores)).encode()).hexdigest()[:16]


def kind(cpuinfo: str) -> list[str]:
    """Of the text of Linux's `/proc/cpuinfo`, the lines that say what code a processor takes.

    >>> kind("model name: Xeon\\ncpu MHz: 2100\\nflags: fpu avx\\nmodel name: Xeon")
    ['flags: fpu avx', 'model name: Xeon']
    """
    telling = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    lines = {line.strip() for line in cpuinfo.splitlines() if line.startswith(telling)}
    return sorted(lines) or [cpuinfo]


def ours(folder: pathlib.Path) -> bool:
    """Whether nobody but this user may write to it, where the system knows users."""
    status = folder.stat()
    return not hasattr(os, "getuid") or (
        status.st_uid == os.getuid() and not status.st_mode & 0o022
    )


def remove_unsound(folder: pathlib.Path) -> None:
    """Remove what a killed process has half written, among the files that are new since last time.

    JAX would compile such a program anew each time: it writes to no file that is there.

    Raises:
        OSError: the folder can't be written.
    """
    seen = folder / "seen"
    before = seen.stat().st_mtime_ns if seen.exists() else -1
    seen.touch(mode=0o600)
    for path in folder.glob(ENTRIES):
        with contextlib.suppress(FileNotFoundError):  # another process was here
            if path.stat().st_ctime_ns >= before and not sound(path.read_bytes()):
                path.unlink()


def sound(content: bytes) -> bool:
    """Whether what is compressed in a file is whole."""
    try:
        if content[:4] != ZSTANDARD:
            zlib.decompress(content)
        else:
            importlib.import_module("zstandard").ZstdDecompressor().decompress(content)
    except ImportError:
        return True  # JAX can't read it either, and says so to nobody
    except Exception:  # any that a wrong byte can cause
        return False
    return True


def shrink(above: pathlib.Path, limit: int) -> None:
    """Remove the programs that were used longest ago, until the others come to `limit` bytes."""
    found = []
    for path in above.glob(f"*/{ENTRIES}"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((max(status.st_atime_ns, status.st_mtime_ns), status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            break
        path.unlink(missing_ok=True)
        total -= size
