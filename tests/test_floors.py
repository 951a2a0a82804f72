"""Law 1: experiments/ -> train/ -> models/. Nothing imports upward, nothing in a circle."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FLOORS = ("models", "train", "experiments")
FOREIGN = {"optax", "orbax", "grain", "tensorflow", "tensorflow_datasets", "tensorboardX", "tyro"}
"""What a network has no business with (law 2)."""


def modules(root):
    """Dotted name -> file, of every module on the three floors."""
    found = {}
    for floor in FLOORS:
        for file in sorted((root / floor).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(name, file):
    """Dotted names that a module imports, wherever in it: `from a import b` is a.b."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(), file.name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *(node.module.split(".") if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def graph(root):
    """Module -> modules of the three floors that it imports."""
    known = modules(root)
    edges = {name: set() for name in known}
    for name, file in known.items():
        for target in imports(name, file):
            # What is no module is a name in one.
            while target and target not in known:
                target = target.rpartition(".")[0]
            edges[name] |= {target} - {"", name}
    return edges


def upward(root):
    """Pairs of a module and one of a higher floor that it imports."""
    return sorted(
        (name, target)
        for name, targets in graph(root).items()
        for target in targets
        if FLOORS.index(target.split(".")[0]) > FLOORS.index(name.split(".")[0])
    )


def circle(root):
    """Modules that import each other in a circle, or none."""
    try:
        graphlib.TopologicalSorter(graph(root)).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def foreign(root):
    """Pairs of a module of models/, weight files apart, and what it has no business with."""
    return sorted(
        (name, target)
        for name, file in modules(root).items()
        if name.startswith("models") and not name.startswith("models.pretrained")
        for target in imports(name, file)
        if target.split(".")[0] in FOREIGN
    )


def test_nothing_imports_upward():
    assert upward(ROOT) == []


def test_nothing_imports_in_a_circle():
    assert circle(ROOT) == []


def test_models_know_nothing_of_training_or_files():
    assert foreign(ROOT) == []


def test_the_modules_are_found():
    assert {"models", "models.layers.conv", "train.mesh", "train.data.source"} <= graph(ROOT).keys()
    assert "models.layers.norm" in graph(ROOT)["models.classification.resnet"]


@pytest.mark.parametrize(
    ("files", "check", "expected"),
    [
        ({"models/a.py": "import train.mesh"}, upward, [("models.a", "train.mesh")]),
        ({"models/a.py": "from train import mesh"}, upward, [("models.a", "train.mesh")]),
        ({"models/a.py": "def f():\n import train.mesh"}, upward, [("models.a", "train.mesh")]),
        ({"models/b/a.py": "from ...train import mesh"}, upward, [("models.b.a", "train.mesh")]),
        ({"train/a.py": "import experiments.x"}, upward, [("train.a", "experiments.x")]),
        ({"train/a.py": "from models import b"}, upward, []),
        ({"train/a.py": "from .mesh import m"}, upward, []),
        ({"experiments/a.py": "import train.mesh, models.b"}, upward, []),
        ({"models/a.py": "import training"}, upward, []),
        ({"train/a.py": "from train import b", "train/b.py": "import train.a"}, circle, 3),
        ({"train/a.py": "from . import b", "train/b.py": "from .a import f"}, circle, 3),
        ({"train/c/__init__.py": "from .d import f", "train/c/d.py": "import train.c"}, circle, 3),
        ({"train/a.py": "import train.b", "train/b.py": "import train.mesh"}, circle, 0),
        ({"models/a.py": "import optax"}, foreign, [("models.a", "optax")]),
        ({"models/pretrained/a.py": "import orbax", "train/a.py": "import optax"}, foreign, []),
    ],
)  # fmt: skip
def test_a_violation_is_noticed(tmp_path, files, check, expected):
    floors = {"models/__init__.py": "", "models/b/__init__.py": "", "train/mesh.py": ""}
    for name, text in (floors | {"experiments/x.py": ""} | files).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = check(tmp_path)
    assert (len(found) if isinstance(expected, int) else found) == expected


def test_floors_that_are_not_there_yet(tmp_path):
    assert upward(tmp_path) == circle(tmp_path) == foreign(tmp_path) == []
