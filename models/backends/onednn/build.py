"""Compiles the oneDNN extension: python -m models.backends.onednn

Needs Linux on x86-64, a C++17 compiler ($CXX, or g++, clang++, c++) and oneDNN's wheels, which the
extra `onednn` installs. Says in one line what it built, or why it built nothing. What is built and
can't be loaded (it is damaged, or of a machine with another C library) is built anew.
"""

import ctypes
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import cache
from typing import NamedTuple

import jax
import jaxlib

FOLDER = pathlib.Path(__file__).parent
SOURCES = tuple(sorted(FOLDER.glob("*.cc")))
HEADERS = tuple(sorted(FOLDER.glob("*.h")))
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-fopenmp",
    "-fPIC",
    "-shared",
)
COMMAND = "python -m models.backends.onednn"
TARGETS = ("Forward", "Data", "Weights", "NormForward", "NormBackward")
"""Functions that XLA calls."""
FUNCTIONS = (*TARGETS, "Implementation")
DIGEST = hashlib.sha256().digest_size
LOAD = """
import ctypes, sys
ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
extension = ctypes.CDLL(sys.argv[2])
for function in sys.argv[3:]:
    getattr(extension, function)
"""


class Impossible(Exception):
    """What is missing."""


class OneDNN(NamedTuple):
    """Where the wheels lie."""

    library: pathlib.Path
    headers: pathlib.Path


def onednn() -> OneDNN:
    """The installed wheels.

    Raises:
        Impossible: one of them is not installed.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Impossible(f"oneDNN is for Linux on x86-64, not {sys.platform} {platform.machine()}")
    return OneDNN(
        installed("onednn-cpu-gomp", "libdnnl.so.3"),
        installed("onednn-devel-cpu-gomp", "dnnl.hpp").parent,
    )


def installed(package: str, name: str) -> pathlib.Path:
    """A file of a package."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = pathlib.Path(str(file.locate()))
        if file.name == name and path.exists():
            return path.resolve()
    raise Impossible(f"oneDNN is not installed ({package}): pip install 'svertka[onednn]'")


@cache
def processor() -> str:
    """The features of this CPU, as the kernel lists them."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return next((line for line in text.splitlines() if line.startswith("flags")), "")


def computes_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16."""
    return "avx512_bf16" in processor() or "amx_bf16" in processor()


def name() -> str:
    """Of the compiled file: for these sources, this jaxlib and this kind of CPU alone."""
    parts = [
        "sealed",  # earlier files were not
        jaxlib.__version__,
        processor(),
        *FLAGS,
        *(path.read_text() for path in SOURCES + HEADERS),
    ]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return f"svertka-onednn-{digest}.so"


def folders() -> tuple[pathlib.Path, ...]:
    """Where the compiled file may lie: beside its sources, in the user's cache, or in a temporary
    folder of the user's own, which is for those who have no home, or none that can be written."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    user = pathlib.Path(cache) / "svertka"
    return tuple(path for path in (FOLDER, user, temporary()) if path.is_absolute())


def temporary() -> pathlib.Path:
    """A folder of this user's below the temporary directory; relative where there is none."""
    try:
        return pathlib.Path(tempfile.gettempdir(), f"svertka-{os.getuid()}")
    except OSError:
        return pathlib.Path()


def owned(folder: pathlib.Path) -> bool:
    """Whether what lies there is of nobody but this user: what is loaded from there is run."""
    if folder.parent != temporary().parent:
        return True
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def load() -> ctypes.CDLL:
    """The extension, of the first compiled file that can be loaded.

    Raises:
        Impossible: there is none for this machine, or none that can be loaded.
    """
    library, why = onednn().library, ""
    try:
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise Impossible(f"oneDNN's library can't be loaded: {error}") from None
    for path in built():
        try:
            if not whole(path):
                raise OSError(f"{path} is not as it was compiled")
            extension = ctypes.CDLL(str(path))
            for function in FUNCTIONS:
                getattr(extension, function)
            return extension
        except (OSError, AttributeError) as error:
            why = why or str(error)
    raise Impossible(f"the oneDNN extension can't be loaded ({why}): {COMMAND}")


def built() -> list[pathlib.Path]:
    """The compiled files for this machine, in the order in which they are tried.

    Raises:
        Impossible: there is none.
    """
    onednn()
    paths = [folder / name() for folder in folders() if owned(folder)]
    # `Path.is_file` raises where a folder may not be entered.
    if found := [path for path in paths if os.path.isfile(path)]:
        return found
    raise Impossible(f"the oneDNN extension is not built for this machine and jaxlib: {COMMAND}")


def whole(path: pathlib.Path) -> bool:
    """Whether a compiled file ends with the digest of what stands before it.

    The system would map one that was cut short, and end the process once it is touched.
    """
    content = path.read_bytes()
    return hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]


def faulty(path: pathlib.Path) -> str:
    """Why a compiled file can't be used; empty where it can. Another process loads it."""
    try:
        if not whole(path):
            return f"{path} is not as it was compiled"
    except OSError as error:
        return str(error)
    command = [sys.executable, "-c", LOAD, str(onednn().library), str(path), *FUNCTIONS]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    said = done.stderr.strip().splitlines() or [f"{path} ends a process with {done.returncode}"]
    return said[-1].strip() if done.returncode else ""


def compiler() -> str:
    """Of C++.

    Raises:
        Impossible: there is none.
    """
    for candidate in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if candidate and shutil.which(candidate):
            return candidate
    raise Impossible("there is no C++ compiler (g++, clang++ or $CXX)")


def build() -> pathlib.Path:
    """Compile, into the first folder that it can be written to and loaded from.

    A file appears there whole, in place of what stood there.

    Raises:
        Impossible: the compiler, the wheels or a place is missing, or it does not compile.
    """
    wheels, compile_with, why = onednn(), compiler(), ""
    for folder in folders():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not owned(folder):
                continue
            made = tempfile.TemporaryDirectory(dir=folder)
        except OSError:
            continue
        with made as work:
            out = pathlib.Path(work) / name()
            command = [compile_with, *FLAGS, *map(str, SOURCES), "-o", str(out)]
            command += ["-isystem", jax.ffi.include_dir(), "-isystem", str(wheels.headers)]
            done = subprocess.run(
                [*command, str(wheels.library)], capture_output=True, text=True, errors="replace"
            )
            if done.returncode:
                errors = [line for line in done.stderr.splitlines() if "error" in line]
                raise Impossible(f"{compile_with} failed: {(errors or [done.stderr])[0].strip()}")
            with out.open("r+b") as file:
                digest = hashlib.sha256(file.read()).digest()
                file.write(digest)
            why = faulty(out)  # from a file system that forbids it, for one
            if not why:
                return out.replace(folder / name())
    if why:
        raise Impossible(f"it is compiled, and can't be loaded: {why}")
    raise Impossible(f"none of {', '.join(map(str, folders()))} can be written")


def main() -> int:
    """Build, unless what is built can be loaded; 0 also where something is missing for that."""
    try:
        try:
            faults = {path: faulty(path) for path in built()}
        except Impossible:
            faults = {}
        usable = [path for path, fault in faults.items() if not fault]
        path = usable[0] if usable else build()
        again = f" (built anew: {next(iter(faults.values()))})" if faults and not usable else ""
        print(f"oneDNN extension: {path}{again}")
    except Impossible as error:
        print(f"No oneDNN extension (convolutions will be slower): {error}")
    return 0
