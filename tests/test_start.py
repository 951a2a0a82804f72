"""`--help` answers at once: what a command does not need, it does not import.

The graph of imports is looked at, not seconds.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LATE = {
    "array_record", "chex", "cv2", "grain", "jinja2", "matplotlib", "orbax", "pandas", "scipy",
    "skimage", "sklearn", "tensorboardX", "tensorflow", "tensorflow_datasets",
    "torch",
}  # fmt: skip
"""Packages that take long to import, each imported where it is used."""

ASK = """
import json, runpy, sys
script, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = script
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as end:
    code = end.code
print("\\n" + json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def imported(script, *arguments):
    """Exit code, and the packages that a command has imported."""
    out = subprocess.run(
        [sys.executable, "-c", ASK, script, *arguments],
        cwd=ROOT,
        env={**os.environ, "TFDS_DATA_DIR": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in out.stderr
    return json.loads(out.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "name",
    [
        "resnet_cifar", "classify", "segment", "lenet_mnist", "mlp_vs_cnn", "show_data", "predict",
        "evaluate",
    ],
)  # fmt: skip
def test_help_imports_nothing_that_it_does_not_need(name):
    code, packages = imported(f"experiments/{name}.py", "--help")
    assert code == 0
    assert sorted(LATE & set(packages)) == []
    assert {"jax", "tyro"} <= set(packages)


def test_a_refused_request_neither():
    code, packages = imported("experiments/classify.py", "--model", "none_such")
    assert code == 2
    assert sorted(LATE & set(packages)) == []
