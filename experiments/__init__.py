"""What is run: one recipe a script."""

from importlib.util import find_spec
from pathlib import Path

_here = Path(__file__).resolve().parents[1]
for _name in ("models", "train"):
    _found = find_spec(_name)
    _where = _found and (_found.origin or ", ".join(_found.submodule_search_locations or ()))
    if not _where or Path(_where).resolve() != _here / _name / "__init__.py":
        raise ImportError(
            f"`{_name}` is {_where}, and not {_here / _name}, which {__file__} needs: rename it, "
            "or work from Svertka's checkout (docs/running.md)"
        )
