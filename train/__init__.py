"""How a network is fitted and measured."""

from importlib.util import find_spec
from pathlib import Path

_here = Path(__file__).resolve().parents[1]
_found = find_spec("models")
_where = _found and (_found.origin or ", ".join(_found.submodule_search_locations or ()))
if not _where or Path(_where).resolve() != _here / "models" / "__init__.py":
    raise ImportError(
        f"`models` is {_where}, and not {_here / 'models'}, which {__file__} needs: rename it, "
        "or work from Svertka's checkout (docs/running.md)"
    )
