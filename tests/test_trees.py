"""Scripts run the tree that they stand in, whatever is installed; what shadows it is named."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
WRITES = """
import os
with open(os.environ["SEEN"], "a") as _file:
    _file.write(f"{os.getpid()} {__file__}\\n")
"""


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def python(*arguments, cwd, **env):
    """This checkout stands for the one that is installed."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **{k: str(v) for k, v in env.items()}},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another checkout, whose `train` says when it is imported; with a commit of its own."""
    tree = tmp_path_factory.mktemp("trees") / "other"
    for name in ("models", "train", "experiments"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    with (tree / "train" / "__init__.py").open("a") as file:
        file.write(WRITES)
    (tree / ".gitignore").write_text("__pycache__\n")
    git(tree, "init")
    git(tree, "add", ".")
    git(tree, "commit", "-m", "another")
    return tree


def test_a_script_and_its_workers_run_the_tree_that_it_stands_in(other, tmp_path):
    done = python(
        other / "experiments" / "classify.py",
        "--data", "digits", "--model", "lenet5", "--steps", 1,
        "--loader", "streaming", "--workers", 1, "--workdir", "run",
        cwd=tmp_path, SEEN=tmp_path / "seen",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
    assert {path for _, path in seen} == {str(other / "train" / "__init__.py")}
    assert len({pid for pid, _ in seen}) == 2
    record = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert record["git"] == {"commit": git(other, "rev-parse", "HEAD"), "dirty": False}


@pytest.mark.parametrize("how", ["script", "module"])
def test_either_way_of_starting(other, tmp_path, how):
    script = other / "experiments" / "classify.py"
    call = ["-m", "experiments.classify"] if how == "module" else [script]
    cwd = other if how == "module" else tmp_path
    done = python(*call, "--model", "nonesuch", cwd=cwd, SEEN=tmp_path / "seen")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert str(other) in (tmp_path / "seen").read_text()
    assert str(ROOT) not in (tmp_path / "seen").read_text()


def test_every_script_does_so_before_it_imports_ours():
    """One line, the same in each."""
    line = re.compile(
        r'^if __name__ == "__main__":  # .*\n'
        r"    sys\.path\.insert\(0, str\((?:pathlib\.)?Path\(__file__\)\.resolve\(\)"
        r"\.parents\[1\]\)\)$",
        re.MULTILINE,
    )
    scripts = [
        path
        for path in (ROOT / "experiments").glob("*.py")
        if re.search("^if __name__ == .__main__", path.read_text(), re.MULTILINE)
    ]
    assert len(scripts) >= 8
    for path in scripts:
        text = path.read_text()
        found = line.search(text)
        assert found, path
        ours = re.search(r"^(?:from|import) (?:models|train|experiments)\b", text, re.MULTILINE)
        assert found.start() < ours.start(), path


@pytest.mark.parametrize(
    ("shadow", "imports"),
    [
        ("models.py", "train.refusal"),
        ("models/__init__.py", "experiments.classify"),
        ("train.py", "experiments.classify"),
    ],
)
def test_what_shadows_ours_beside_a_user_s_script_is_named(tmp_path, shadow, imports):
    file = tmp_path / shadow
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise SystemExit('it ran')\n")
    (tmp_path / "mine.py").write_text(f"import {imports}\n")
    done = python("mine.py", cwd=tmp_path)
    assert done.returncode == 1
    name = shadow.partition(".")[0].partition("/")[0]
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: `{name}` is {file}, and not {ROOT / name}, which ")
    assert last.endswith("(docs/running.md)")


def test_what_shadows_ours_in_the_directory_of_a_command_does_not(tmp_path):
    for name in ("train.py", "models.py"):
        (tmp_path / name).write_text("raise SystemExit('it ran')\n")
    script = ROOT / "experiments" / "classify.py"
    done = python(script, "--model", "nonesuch", cwd=tmp_path)
    assert "error: model='nonesuch' is unknown" in done.stderr
