"""Code that changes under a run: it is said, and the run goes on."""

import json
import shutil

import commands
import pytest

SAID = "The program of a training step has changed since this run began"
WEIGHTS = "0.01 * of_count", "0.02 * of_count"
"""A number in the code of the toy detector's loss, and another."""


@pytest.mark.slow
def test_code_that_changed_under_a_run_is_said(tmp_path, tried):
    path, script = tmp_path / "run", tmp_path / "toy_detector.py"
    code = (commands.ROOT / "tests" / "making" / script.name).read_text()
    env = {"PYTHONPATH": str(commands.ROOT), "JAX_NUM_CPU_DEVICES": "2"}
    path.mkdir()

    def run(text, *asked):
        script.write_text(text)
        shutil.rmtree(path / "checkpoints" / "60", ignore_errors=True)
        end = commands.run([script, "--workdir", path, *asked], **env)
        commands.whole_end(end)
        return " ".join(end.out.split())

    run(code, "--devices", "1", "--backend", "xla")
    said = run(code, "--devices", "2", "--backend", "jax", "--loader", "streaming")
    assert "Going on from step 50" in said
    assert "program" not in said
    assert len({of["program"] for of in records(path)}) == 1

    assert code.count(WEIGHTS[0]) == 1
    said = run(code.replace(*WEIGHTS))
    assert 0 < said.index(SAID) < said.index("Going on from step 50")
    assert len({of["program"] for of in records(path)}) == 2
    tried("code changed between stop and resume", "nothing, it is said")


def records(path):
    """The provenance of each process."""
    first = json.loads((path / "provenance.json").read_text())
    return [first, *first.get("resumed", [])]
