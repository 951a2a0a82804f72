"""The table of runs."""

import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

import pytest
from rich.console import Console

from train import runs, workdir

ROOT = pathlib.Path(__file__).parents[2]
EARLIER = ROOT / "tests" / "golden" / "runs_of_0_1.tar.gz"
HEAD = "name\tdata\tmodel\tstep\tscore\tbest\ttest\tstate\tsize"


def made(path, *, age=0, best=(), score="accuracy", summary=None, saved=(), **config):
    """A run's files, as far as the table reads them."""
    path.mkdir(parents=True)
    config = {"data": "digits", "model": "lenet5", "steps": 100, "seeds": []} | config
    file = path / workdir.CONFIG
    file.write_text(json.dumps({"experiment": "experiments.classify", **config}))
    os.utime(file, (1e9 - age, 1e9 - age))
    lines = [
        {"kind": "evaluation", "split": "validation", "step": 10 * n, "seconds": n, score: value}
        for n, value in enumerate(best, 1)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in saved:
        (path / "checkpoints" / str(step)).mkdir(parents=True)
    if summary is not None:
        (path / workdir.SUMMARY).write_text(json.dumps(summary))
    return path


@pytest.fixture
def some(tmp_path):
    root = tmp_path / "runs"
    one = root / "classify"
    made(one / "a", age=3, best=[0.5, 0.9, 0.8], saved=[20, 30], summary={"test/accuracy": 0.7})
    made(one / "b", age=1, best=[0.6], model="mlp", saved=[50])
    (made(one / "c", age=2, data="mnist") / "diverged.json").write_text('{"step": 3}')
    made(
        root / "rain" / "d", best=[3.0, 2.0, 4.0], score="rmse", saved=[100],
        summary={"test/rmse": 2.5, "test/loss": 1.0, "evaluated_step": 20},
    )  # fmt: skip
    return root


def table(capsys, *arguments):
    """The lines of the table in a pipe, and what is said beside it."""
    assert runs.main([str(each) for each in arguments]) == 0
    out, err = capsys.readouterr()
    head, *lines = out.splitlines() or [HEAD]
    assert head == HEAD
    return [line.split("\t") for line in lines], err


def test_what_it_says_of_each(some, capsys):
    lines, err = table(capsys, some)
    assert [line[:-1] for line in lines] == [
        ["classify/a", "digits", "lenet5", "30/100", "accuracy", "0.9", "0.7", "finished"],
        ["classify/b", "digits", "mlp", "50/100", "accuracy", "0.6", "-", "stopped"],
        ["classify/c", "mnist", "lenet5", "0/100", "-", "-", "-", "diverged"],
        ["rain/d", "digits", "lenet5", "100/100", "rmse", "2.0", "2.5", "finished"],
    ]
    for line in lines:
        files = [path for path in (some / line[0]).rglob("*") if path.is_file()]
        assert int(line[-1]) == sum(path.stat().st_size for path in files)
    assert err == ""


@pytest.mark.parametrize(
    ("by", "order"),
    [
        ("name", "abcd"), ("data", "abdc"), ("model", "acdb"), ("step", "dbac"), ("best", "abdc"),
        ("test", "adbc"), ("state", "cadb"), ("time", "dbca"),
    ],
)  # fmt: skip
def test_in_order(some, capsys, by, order):
    lines, _ = table(capsys, some, "--sort", by)
    assert "".join(line[0][-1] for line in lines) == order


def test_less_is_better_of_some(tmp_path, capsys):
    for name, value in (("a", 3.0), ("b", 2.0), ("c", None)):
        made(tmp_path / name, best=[value], score="rmse")
    lines, _ = table(capsys, tmp_path, "--sort", "best")
    assert [line[0] for line in lines] == ["b", "a", "c"]


def test_a_study_is_a_row_and_its_runs_below_it(tmp_path, capsys):
    spread = {"mean": 0.5, "std": 0.1, "values": [0.4, None, 0.6]}
    made(tmp_path / "z", summary={"test/accuracy": 0.1})
    study = made(tmp_path / "many", seeds=[0, 1, 2], summary={"test/accuracy": spread})
    for seed in (0, 1, 2):
        made(study / f"seed_{seed}", seed=seed, best=[seed / 10], summary={"test/accuracy": 0.5})
    lines, _ = table(capsys, tmp_path, "--sort", "test")
    assert [line[0] for line in lines] == ["many", *(f"many/seed_{s}" for s in range(3)), "z"]
    assert (lines[0][3], lines[0][6]) == ("10/100", "0.5")
    assert int(lines[0][8]) > sum(int(line[8]) for line in lines[1:4])
    out = io.StringIO()
    Console(file=out, width=200).print(runs.table(runs.runs(tmp_path, print), "name", 200))
    assert "50.00±14.14%" in out.getvalue()


def test_one_that_is_at_work(some, capsys):
    hold = "import pathlib, sys\nfrom train.lock import locked\n"
    hold += "with locked(pathlib.Path(sys.argv[1])):\n    print(flush=True)\n    input()\n"
    with subprocess.Popen(
        [sys.executable, "-c", hold, some / "classify" / "b"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        process.stdout.readline()
        lines, _ = table(capsys, some)
        assert [line[7] for line in lines] == ["finished", "running", "diverged", "finished"]
        process.communicate(b"\n")
    assert [line[7] for line in table(capsys, some)[0]][1] == "stopped"


STRANGE = {
    "half": '{"experiment": "experiments.cla',
    "no object": "[]",
    "somebody's": '{"architectures": ["BertModel"]}',
    "a number": '{"experiment": 3}',
    "no text": b"\xff\xfe",
}


@pytest.mark.parametrize("content", STRANGE.values(), ids=STRANGE)
def test_what_is_half_written_or_somebody_s_is_one_line(some, capsys, content):
    path = some / "odd"
    path.mkdir()
    text = content if isinstance(content, bytes) else content.encode()
    (path / workdir.CONFIG).write_bytes(text)
    lines, err = table(capsys, some)
    assert len(lines) == 4
    assert err.startswith("Left out: workdir=")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", ["{", "[1]", '{"test/accuracy": "high"}', "\0"])
def test_other_files_of_a_run_may_be_strange(some, capsys, name, content):
    (some / "classify" / "a" / name).write_text(content)
    lines, err = table(capsys, some)
    assert len(lines) + err.count("\n") in (4, 5)
    assert [line[0] for line in lines][-3:] == ["classify/b", "classify/c", "rain/d"]


def test_fields_of_odd_types(tmp_path, capsys):
    made(tmp_path / "a", data=["x"], model=None, steps="many", summary={"test/accuracy": {"a": 1}})
    made(tmp_path / "b\nb", data="a\tb\x1b[31m")
    lines, _ = table(capsys, tmp_path)
    assert lines[0][:8] == ["a", "['x']", "None", "-", "accuracy", "-", "-", "finished"]
    assert lines[1][:2] == ["b\\nb", "a\\tb\\x1b[31m"]


def test_a_loop_of_links(some, capsys):
    (some / "classify" / "again").symlink_to(some)
    (some / "classify" / "gone").symlink_to(some / "none")
    assert len(table(capsys, some)[0]) == 4


def test_a_run_itself_and_none(some, tmp_path, capsys, monkeypatch):
    lines, _ = table(capsys, some / "classify" / "a")
    assert [line[0] for line in lines] == ["."]
    (tmp_path / "empty").mkdir()
    lines, err = table(capsys, tmp_path / "empty")
    assert (lines, err) == ([], f"There are no runs in {tmp_path / 'empty'}.\n")
    assert runs.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"error: there is no directory '{tmp_path / 'none'}'\n"
    monkeypatch.chdir(tmp_path)
    assert len(table(capsys)[0]) == 4  # runs/
    with pytest.raises(SystemExit) as ended:
        runs.main(["--sort", "colour"])
    assert ended.value.code == 2


def test_runs_of_an_earlier_version(tmp_path, capsys):
    with tarfile.open(EARLIER) as file:
        file.extractall(tmp_path, filter="data")
    lines, err = table(capsys, tmp_path)
    assert [line[:5] for line in lines] == [
        ["mlp_vs_cnn", "digits", "cnn", "6/6", "accuracy"],
        ["segment", "digit_scenes", "unet", "0/6", "miou"],
    ]
    assert err == ""


def test_a_narrow_terminal_keeps_names_whole(some):
    found = runs.runs(some, print)
    out = io.StringIO()
    Console(file=out, width=60).print(runs.table(found, "name", 60))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert [line.split()[0] for line in lines[1:]] == [run.name for run in found]
    assert "size" not in lines[0]
    assert lines[0].split()[-2:] == ["test", "state"]


def test_a_run_without_a_test_has_no_score(tmp_path):
    made(tmp_path / "stopped")
    (found,) = runs.runs(tmp_path, print)
    assert found.test == []
    assert "finite" not in " ".join(runs.cells(found, plain=False))


def test_on_a_terminal_and_in_a_closed_pipe(some):
    out = io.StringIO()
    Console(file=out, width=100).print(runs.table(runs.runs(some, print), "name", 100))
    shown = out.getvalue()
    assert "90.00%" in shown
    assert max(map(len, shown.splitlines())) <= 100
    command = f"{sys.executable} -m train.runs {some} | true; echo ${{PIPESTATUS[0]}}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout in ("141\n", "0\n")  # it may have been quicker


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has it")
def test_on_a_full_disk(some):
    command = [sys.executable, "-m", "train.runs", some]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, env=env, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: the output could not be written: No space left on device\n"
