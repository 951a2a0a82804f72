"""Files of weights -> NumPy arrays by name. Nothing in a file is ever executed."""

import contextlib
import os
import pathlib
import shlex
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

TORCH = (2, 10)
"""The first version whose `weights_only` no known file gets round (CVE-2025-32434: below 2.6,
CVE-2026-24747: below 2.10)."""
AROUND = ("state_dict", "model_state_dict", "model")
"""What training scripts call the weights in a checkpoint that holds more than these."""
BEFORE_ZIP = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How torch's files began before version 1.6: a pickle of its magic number."""


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a file, by its ending.

    Args:
        path: `.safetensors`, read as it is; `.pth` or `.pt`, a `state_dict` that torch saved, or a
            checkpoint that holds one, read by torch with `weights_only=True`.

    Returns:
        Name -> array. Floats in a torch file come as float32 (NumPy has no bfloat16).

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: a torch file, and no torch, or one that is too old to be safe; the command that
            converts the file elsewhere is named.
        ValueError: the ending is another one, or the file is none of its kind, or holds other than
            named tensors, or several groups of them, none called as in `AROUND`.
    """
    path = pathlib.Path(os.path.expanduser(path))
    readers = {".safetensors": read_safetensors, ".pth": read_torch, ".pt": read_torch}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: a file of weights ends in one of {', '.join(readers)}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file of weights")
    if not path.is_file():
        raise ValueError(f"{path}: is no file")
    return readers[path.suffix.lower()](path)


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file."""
    try:
        return load_file(path)
    # The last three: numbers of a type that NumPy lacks.
    except (SafetensorError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{path}: is no safetensors file that NumPy reads ({error})") from error


def read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a `state_dict` that torch saved."""
    # Before torch is asked for: whatever it would do with another file, and where there is none.
    if not looks_like_torch(path):
        with path.open("rb") as file:
            raise ValueError(f"{path}: is no whole file of torch's; it begins {file.read(16)!r}")
    torch = import_torch(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in as many ways as there are files
        raise ValueError(
            f"{path}: torch reads no weights from it ({first_words(error)})"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, expected a state_dict")
    try:
        weights = state_dict(content, torch.is_tensor)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return {name: as_array(path, name, tensor) for name, tensor in weights.items()}


def state_dict(content: dict[Any, Any], is_tensor: Callable[[Any], bool]) -> dict[str, Any]:
    """The named tensors in a checkpoint, which may hold much beside.

    Raises:
        ValueError: there are none; or there are several groups of them.
    """
    others = {k: v for k, v in content.items() if not (isinstance(k, str) and is_tensor(v))}
    if not others:
        return content
    inside: dict[Any, dict[str, Any]] = {}
    for key, value in others.items():
        if isinstance(value, dict) and value:
            with contextlib.suppress(ValueError):
                inside[key] = state_dict(value, is_tensor)
    named = [key for key in AROUND if key in inside] or [*inside]
    if len(named) == 1:
        return inside[named[0]]
    if named:
        groups = few([repr(key) for key in named])
        raise ValueError(f"holds the weights of several networks: {groups}; keep those of one")
    found = few([f"{k!r}: {type(v).__name__}" for k, v in others.items()])
    raise ValueError(f"a state_dict holds tensors alone; found {found}")


def few(words: list[str]) -> str:
    """At most five of them, and how many more there are."""
    more = f" and {len(words) - 5} more" if len(words) > 5 else ""
    return ", ".join(words[:5]) + more


def as_array(path: pathlib.Path, name: str, tensor: Any) -> np.ndarray:
    """One of torch's tensors.

    Raises:
        ValueError: it is of a kind that NumPy has none of: sparse, quantised, without data.
    """
    try:
        return (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{path}: {name} is no plain tensor ({first_words(error)})") from error


def looks_like_torch(path: pathlib.Path) -> bool:
    """Whether a file is what torch writes: a whole ZIP archive with a pickle, or its older form."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    with path.open("rb") as file:
        return file.read(len(BEFORE_ZIP)) == BEFORE_ZIP


def import_torch(path: pathlib.Path) -> Any:
    """The module torch.

    Raises:
        ImportError: there is none, or it is older than `TORCH`.
    """
    needed = "{}.{}".format(*TORCH)
    try:
        import torch
    except ImportError:
        found = "which is not installed"
    else:
        if tuple(int(part) for part in torch.__version__.split(".")[:2]) >= TORCH:
            return torch
        found = f"not {torch.__version__}"
    raise ImportError(
        f"{path}: reading it needs torch {needed} or newer, {found}. "
        f"Where there is one, and safetensors, this converts the file:\n{conversion(path)}"
    )


def conversion(path: pathlib.Path) -> str:
    """A shell command that writes a torch file's tensors beside it as safetensors.

    As `read`, it takes those of a checkpoint from under the first name in `AROUND` that there is.
    """
    program = (
        "import sys, torch, safetensors.torch as s; "
        f"f = lambda w: next((f(w[k]) for k in {AROUND} if isinstance(w.get(k), dict)), w); "
        "w = f(torch.load(sys.argv[1], map_location='cpu', weights_only=True)); "
        "s.save_file({k: v.detach().clone().contiguous() for k, v in w.items() "
        "if torch.is_tensor(v)}, sys.argv[2])"
    )
    files = shlex.join([str(path), str(path.with_suffix(".safetensors"))])
    return f'python -c "{program}" {files}'


def first_words(error: Exception) -> str:
    """The first sentence of what torch says; the next ones advise to trust the file."""
    words = str(error).partition("\n")[0].partition(". ")[0]
    return f"{type(error).__name__}: {words}"
