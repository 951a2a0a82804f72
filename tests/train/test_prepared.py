"""What a run needs before its first step: nothing is written, and seeds share it."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import toy_detector
from toy_detector import Config

from train import prepared as module
from train import workdir
from train.data.gaps import Gaps
from train.data.resident import Resident
from train.data.streaming import Streaming
from train.data.subset import subset
from train.prepared import prepare, stands_in, unreadable
from train.refusal import Refused

ONE = Config(devices=1)


@pytest.fixture(scope="module")
def prepared():
    return prepare(toy_detector, ONE)


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(toy_detector, replace(ONE, workdir=tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_what_fits_stays_on_the_device_and_what_does_not_streams(prepared, monkeypatch):
    assert isinstance(prepared.loader, Resident)
    asked = []

    def fits(needed, devices):
        asked.append((needed, devices))
        return False

    monkeypatch.setattr(module, "fits", fits)
    assert isinstance(prepare(toy_detector, ONE).loader, Streaming)
    ((needed, devices),) = asked
    # 96 + 21 + 37 images of 256 bytes, 3 boxes of 4 floats, 3 labels, 3 validities.
    assert needed == (96 + 21 + 37) * (256 + 48 + 12 + 3)
    assert devices == jax.devices()[:1]
    assert isinstance(prepare(toy_detector, replace(ONE, loader="resident")).loader, Resident)
    assert len(asked) == 1  # what is asked for is not decided


def test_workers_read_for_the_streaming_loader(prepared):
    assert isinstance(prepare(toy_detector, replace(ONE, workers=1)).loader, Streaming)


def test_another_seed_shares_data_and_functions(prepared):
    other = prepared.with_seed(7)
    assert other.config == replace(ONE, seed=7)
    assert other.experiment == "toy_detector"
    assert (other.step, other.start, other.assess) == (
        prepared.step,
        prepared.start,
        prepared.assess,
    )
    assert other.loader.data is prepared.loader.data
    streaming = prepare(toy_detector, replace(ONE, loader="streaming"))
    first, second = (
        np.asarray(next(one.loader.payloads(0))["index"])
        for one in (streaming, streaming.with_seed(7))
    )
    assert first.tolist() != second.tolist()
    alone = prepare(toy_detector, replace(ONE, loader="streaming", seed=7))
    assert np.asarray(next(alone.loader.payloads(0))["index"]).tolist() == second.tolist()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"devices": 9}, "devices=9, but there are 4 here"),
        (
            {"devices": 4, "accumulation": 3},
            r"can't be divided into 12 slices \(4 devices x accumulation=3\): take \d+( or \d+)?$",
        ),
        ({"batch_size": 100}, "batch_size=100 is larger than the data"),
    ],
)
def test_what_cannot_be_is_refused(fields, words):
    with pytest.raises(Refused, match=words):
        prepare(toy_detector, replace(Config(), **fields))


def test_shapes_are_of_the_state_and_nothing_is_computed(prepared):
    shapes = prepared.shapes()
    assert shapes.step.shape == ()
    assert shapes.params["head"]["kernel"].shape == (1, 1, 8, 5)
    assert isinstance(jax.tree.leaves(shapes)[0], jax.ShapeDtypeStruct)


def test_what_an_earlier_run_could_not_read_is_known(tmp_path):
    assert unreadable(ONE) == {"train": None, "validation": None, "test": None}
    skip = replace(ONE, on_corrupt="skip", corrupt_limit=0.2, workdir=tmp_path)
    (tmp_path / "unreadable_train.json").write_text('{"3": "a.jpg: ends early"}')
    found = unreadable(skip)
    assert found["train"].found == {3: "a.jpg: ends early"}
    assert found["test"].found == {}
    assert isinstance(found["test"], Gaps)
    assert found["test"].limit == 0.2


def test_what_is_left_open_follows_from_the_data_and_is_said():
    config = replace(
        ONE, steps=None, epochs=1.5, batch_size=None, warmup_steps=None, evaluate_every=None
    )
    prepared = prepare(toy_detector, config)
    # 96 squares: batches of a quarter, as a power of 2.
    expected = {"batch_size": 16, "steps": 9, "epochs": None, "evaluate_every": 6}
    assert prepared.config == replace(ONE, **expected, warmup_steps=1)
    assert prepared.said == (
        "For 96 training examples: batch_size=16, steps=9 (1.5 epochs), evaluate_every=6, "
        "warmup_steps=1.",
    )
    assert prepare(toy_detector, ONE).said == ()


def test_a_warm_up_as_long_as_the_run_is_refused_where_it_begins_and_not_where_it_goes_on(tmp_path):
    config = replace(ONE, steps=4, warmup_steps=4)
    with pytest.raises(Refused, match="warmup_steps=4 is not shorter than steps=4"):
        prepare(toy_detector, config)
    workdir.write_config(tmp_path, "toy_detector", config)
    prepare(toy_detector, replace(config, workdir=tmp_path))


@pytest.mark.parametrize("split", ["validation", "val"])  # a set's own name, or Pascal VOC's
def test_a_validation_split_that_is_tested_on_is_said(split):
    data = toy_detector.splits(Config())
    assert stands_in(data) == ""
    about = replace(data.test.about, name="pets", split=split)
    tested = subset(data.test, np.arange(5))
    tested.about = about
    assert stands_in(data._replace(test=tested)) == (
        "pets has no test split: its validation split, 5 examples, is the test."
    )
