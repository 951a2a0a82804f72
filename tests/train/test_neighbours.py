"""A mistyped work directory begins no new run, and one of its own is easily made."""

import json
import os
import pathlib

import pytest

from train import neighbours, workdir
from train.refusal import Refused


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """runs/resnet_cifar with three runs, and runs/studies/two with two seeds."""
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(
        (
            "runs/resnet_cifar/20260103-120000-cifar10",
            "runs/resnet_cifar/20260102-120000-digits",
            "runs/resnet_cifar/20260101-120000-digits",
            "runs/studies/two",
            "runs/studies/two/seed_0",
            "runs/studies/two/seed_1",
        )
    ):
        path = tmp_path / name
        path.mkdir(parents=True)
        config = path / workdir.CONFIG
        config.write_text(json.dumps({"experiment": "experiments.resnet_cifar"}))
        os.utime(config, (1e9 - age, 1e9 - age))
    return tmp_path / "runs"


def refused(path, check=neighbours.refuse_mistaken):
    with pytest.raises(Refused) as said:
        check(path)
    assert "\n" not in str(said.value)
    return str(said.value)


def test_a_mistyped_name_beside_runs_is_refused_with_the_nearest(runs):
    path = pathlib.Path("runs/resnet_cifar/20260101-120000-digitss")
    assert refused(path) == (
        f"workdir='{path}' does not exist; 'runs/resnet_cifar' holds 3 runs; nearest: "
        "runs/resnet_cifar/20260101-120000-digits, runs/resnet_cifar/20260102-120000-digits. "
        f"For a new run there, make its directory first: mkdir {path}"
    )
    assert "the newest: " in refused(runs / "resnet_cifar" / "quite another")
    assert "mkdir '" in refused(runs / "resnet_cifar" / "a b")


def test_what_it_names_is_what_then_begins_a_run(runs):
    for place in (runs / "resnet_cifar", runs.parent / "mine", runs.parent / "mine"):
        path = place / f"a{len([*place.glob('*')])}"
        path.mkdir(parents=True)
        neighbours.refuse_mistaken(path)
        workdir.write(path / workdir.CONFIG, {"experiment": "experiments.classify"})


@pytest.mark.parametrize("name", ["mine", "runs/mine", "runs/mine/first", "new/runs/first"])
def test_other_places_are_free(runs, name):
    neighbours.refuse_mistaken(pathlib.Path(name))
    neighbours.refuse_mistaken((runs.parent / name).absolute())


def test_a_folder_of_much_else_is_no_directory_of_runs(runs):
    home = runs / "resnet_cifar"
    for name in ("music", "papers", "src", "mail"):
        (home / name).mkdir()
    neighbours.refuse_mistaken(home / "mine")
    assert "nearest: " in refused(home / "20260101-120000-digit")  # still no name for a new run


def test_a_file_that_is_no_run_s_is_no_neighbour(runs):
    (runs.parent / "models" / "bert").mkdir(parents=True)
    for text in ('{"architectures": ["BertModel"]}', "[]", "{", "\udcff"):
        file = runs.parent / "models" / "bert" / workdir.CONFIG
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        neighbours.refuse_mistaken(runs.parent / "models" / "mine")
    (runs.parent / "models" / "bert" / "checkpoints").mkdir()  # one that is damaged
    assert "holds a run" in refused(runs.parent / "models" / "mine")


def test_a_folder_of_runs_is_refused_with_the_newest(runs):
    assert refused(pathlib.Path("runs/resnet_cifar")) == (
        "workdir='runs/resnet_cifar' is no run; 'runs/resnet_cifar' holds 3 runs; the newest: "
        "runs/resnet_cifar/20260103-120000-cifar10, runs/resnet_cifar/20260102-120000-digits, "
        "runs/resnet_cifar/20260101-120000-digits"
    )


def test_a_folder_of_folders_of_runs_is_refused_too(runs):
    assert refused(pathlib.Path("runs")) == (
        "workdir='runs' is no run; 'runs' holds 4 runs; the newest: "
        "runs/resnet_cifar/20260103-120000-cifar10, runs/resnet_cifar/20260102-120000-digits, "
        "runs/resnet_cifar/20260101-120000-digits"
    )


@pytest.mark.parametrize("name", ["seed_2", "mine", "checkpoints"])
def test_there_is_no_run_in_a_run(runs, name):
    assert "lies in" in refused(runs / "studies" / "two" / name)
    (runs / "studies" / "two" / name).mkdir()
    assert "which is a run itself" in refused(runs / "studies" / "two" / name)


@pytest.mark.parametrize("wrong", ["runs/resnet_cifr/", "run/resnet_cifar/"])
def test_a_mistyped_folder_of_a_run_that_exists(runs, wrong):
    name = "20260101-120000-digits"
    found = pathlib.Path("runs/resnet_cifar") / name
    said = refused(pathlib.Path(wrong) / name)
    assert said.endswith(f"does not exist; a run is in {found}")


def test_a_mistyped_folder_of_runs(runs):
    wrong = pathlib.Path("runs/resnet_cifr/another")
    said = refused(wrong)
    assert "does not exist, nor does 'runs/resnet_cifr'; 'runs/resnet_cifar' holds 3 runs" in said
    assert said.endswith("make its directory first: mkdir -p runs/resnet_cifr/another")
    neighbours.refuse_mistaken(pathlib.Path("somewhere/else"))
    wrong.mkdir(parents=True)
    neighbours.refuse_mistaken(wrong)


def test_who_reads_a_run_is_told_where_one_is(runs):
    reads = neighbours.refuse_no_run
    reads(runs / "resnet_cifar" / "20260101-120000-digits")
    assert "holds no run itself; " in refused(runs / "resnet_cifar", reads)
    assert "nearest: " in refused(runs / "resnet_cifar" / "20260101-120000-digit", reads)
    assert refused(runs / "none" / "none", reads).endswith("it does not exist")
    assert "holds no run itself; 'runs' holds 4 runs" in refused(pathlib.Path("runs"), reads)
    (runs / "a.txt").write_text("")
    assert refused(runs / "a.txt", reads).endswith("holds no run: it is no directory")
    (runs / "none").mkdir()
    assert "it has no config.json" in refused(runs / "none", reads)
