"""What cannot be read: refused by default; else another stands in, or it counts as unreadable."""

import json

import flax.linen as nn
import jax
import numpy as np
import pytest

from train.data.decode import Unreadable
from train.data.gaps import Gaps, exceeds
from train.data.order import once, order
from train.data.resident import Resident
from train.data.source import About
from train.data.statistics import measured
from train.data.streaming import Streaming
from train.data.subset import subset
from train.evaluate import evaluate, evaluation_step
from train.mesh import compiled_evaluation, make_mesh
from train.refusal import Refused
from train.tasks.classification import classification

KEY = np.array([0, 7], np.uint32)
LENGTH = 40
BAD = (0, 7, 8, 39)
STANDS_IN = {0: 1, 7: 9, 8: 9, 39: 1}


def holed(bad=BAD, *, together=False):
    """A source of which some examples are damaged; local, so that it pickles by value."""

    class Holed:
        about = About("holed", "train", ("a", "b", "c"), mirror=True, shape=(2, 2, 3))
        fingerprint = "holed"

        def __init__(self):
            self.asked = []

        def __len__(self):
            return LENGTH

        def __getitem__(self, i):
            self.asked.append(i)
            if i in bad:
                raise Unreadable(f"{i}.jpg", i, "cannot be decoded")
            image = np.zeros((2, 2, 3), np.uint8)
            image[..., i % 3] = i + 100
            return {"image": image, "label": np.int32(i % 3)}

        def truth(self, i):
            return {"label": np.int32(i % 3)}

    class Together(Holed):
        def __getitems__(self, indices):
            return [self[i] for i in indices]

    return Together() if together else Holed()


def made(kind, source, gaps, devices=1, **request):
    mesh = make_mesh(jax.devices()[:devices])
    return kind(source, mesh=mesh, batch_size=8, gaps=gaps, **request)


def batches(loader, count=None, start=0, seed=0):
    step = jax.jit(loader.device)
    payloads = loader.payloads(start)
    try:
        taken = payloads if count is None else (next(payloads) for _ in range(count))
        return [jax.device_get(step(loader.data, p, np.uint32(seed), KEY)) for p in taken]
    finally:
        payloads.close()


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(
    ("kind", "how"), [(Resident, {}), (Streaming, {}), (Streaming, {"workers": 2})]
)
def test_the_next_sound_example_stands_in(kind, how, together):
    gaps = Gaps(limit=0.2)
    loader = made(kind, holed(together=together), gaps, 2, seed=5, **how)
    for step, batch in enumerate(batches(loader, 10, seed=5)):
        asked = order(5, step * 8 // LENGTH, np.arange(step * 8, step * 8 + 8) % LENGTH, LENGTH)
        expected = [STANDS_IN.get(int(i), int(i)) for i in asked]
        assert batch["index"].tolist() == expected
        assert batch["replaced"].tolist() == [int(i) in BAD for i in asked]
        assert batch["valid"].all()
        assert batch["label"].tolist() == [i % 3 for i in expected]
        assert batch["image"].max((1, 2, 3)).tolist() == [i + 100 for i in expected]
    assert gaps.found == {i: f"{i}.jpg: cannot be decoded" for i in BAD}


def test_what_is_found_is_said_once_and_kept(tmp_path):
    said, file = [], tmp_path / "unreadable.json"
    gaps = Gaps(limit=0.2)
    loader = made(Streaming, holed(), gaps)
    assert gaps.found.keys() == {0}  # the first is read at once
    gaps.keep(file, said.append)
    plain = batches(loader, 10)
    assert sorted(said) == sorted(
        f"Example {i} can't be read and is left out: {i}.jpg: cannot be decoded" for i in BAD
    )
    assert [*json.loads(file.read_text())] == [str(i) for i in BAD]
    assert not [*tmp_path.glob("*.part")]

    source, told = holed(), []
    again = Gaps(limit=0.2, file=file)
    again.keep(file, told.append)
    for this, that in zip(batches(made(Streaming, source, again), 10), plain, strict=True):
        for key in this:
            np.testing.assert_array_equal(this[key], that[key])
    assert not told
    assert not {*source.asked} & {*BAD}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("order", ["shuffled", "once"])
def test_by_default_the_first_one_stops_the_run(order, workers):
    how = {"order": once} if order == "once" else {}
    with pytest.raises(Refused, match=r"7\.jpg, example 7: cannot be decoded"):
        made(Resident, holed((7,)), None, **how)
    loader = made(Streaming, holed((7,)), None, workers=workers, **how)
    with pytest.raises(Refused, match=r"7\.jpg, example 7: cannot be decoded"):
        batches(loader, 5)
    with pytest.raises(Unreadable):
        measured(holed((7,)))


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_stop_the_run(workers):
    refusal = r"of the 40 examples of holed/train can't be read, more than corrupt_limit=0.05"
    with pytest.raises(Refused, match="3 " + refusal):
        made(Resident, holed((7, 8, 20)), Gaps(limit=0.05))
    with pytest.raises(Refused, match="3 " + refusal):
        batches(made(Streaming, holed((7, 8, 20)), Gaps(limit=0.05), workers=workers), 5)
    assert len(batches(made(Streaming, holed((7, 20)), Gaps(limit=0.05)), 5)) == 5
    # A long row of them is left before the end of the set.
    source = holed(range(5, 40))
    with pytest.raises(Refused, match=refusal):
        batches(made(Streaming, source, Gaps(limit=0.05)), 5)
    assert len({*source.asked}) < 40
    with pytest.raises(Refused, match="40 of the 40"):
        made(Streaming, holed(range(40)), Gaps(limit=0.05))


class Channel(nn.Module):
    """The logits are the pixels of one corner."""

    @nn.compact
    def __call__(self, x, *, train):
        return x[:, 0, 0]


@pytest.mark.parametrize(("kind", "workers"), [(Resident, None), (Streaming, 0), (Streaming, 1)])
@pytest.mark.parametrize("bad", [(), BAD, tuple(range(2, 40))])
def test_in_evaluation_nothing_stands_in_and_all_is_accounted_for(kind, workers, bad):
    source, gaps = holed(bad), Gaps()
    how = {} if workers is None else {"workers": workers}
    loader = made(kind, source, gaps, 2, order=once, **how)
    everything = batches(loader)
    index = np.concatenate([batch["index"] for batch in everything])
    valid = np.concatenate([batch["valid"] for batch in everything])
    assert index.tolist() == [*range(LENGTH)]
    assert index[~valid].tolist() == [*bad]
    assert not any(batch["replaced"].any() or batch["epoch"].any() for batch in everything)
    assert not any(batch["image"][~batch["valid"]].any() for batch in everything)

    task = classification(Channel(), num_classes=3, mean=(0,) * 3, std=(1,) * 3)
    measure = compiled_evaluation(evaluation_step(task, loader), loader.mesh)
    (summary,) = evaluate(measure, task, loader, source, {"params": {}})
    assert summary.scalars["unreadable"] == len(bad)
    assert summary.scalars["count"] + summary.scalars["unreadable"] == LENGTH
    assert summary.scalars["accuracy"] == 1


def test_where_none_may_be_missing_a_summary_says_nothing_of_it():
    source = holed(())
    loader = made(Resident, source, None, order=once)
    task = classification(Channel(), num_classes=3, mean=(0,) * 3, std=(1,) * 3)
    measure = compiled_evaluation(evaluation_step(task, loader), loader.mesh)
    (summary,) = evaluate(measure, task, loader, source, {"params": {}})
    assert "unreadable" not in summary.scalars


@pytest.mark.parametrize("together", [False, True])
def test_statistics_are_those_of_what_can_be_read(together):
    gaps = Gaps(limit=0.2)
    about = measured(holed(together=together), gaps=gaps)
    sound = [i for i in range(LENGTH) if i not in BAD]
    pixels = np.array([holed()[i]["image"] for i in sound], float)
    np.testing.assert_allclose(about.mean, pixels.mean((0, 1, 2)))
    np.testing.assert_allclose(about.std, pixels.std((0, 1, 2)))
    assert gaps.found.keys() == {*BAD}
    with pytest.raises(Refused, match="none of 40 examples"):
        measured(holed(range(40)), gaps=Gaps())


def test_an_index_is_that_of_the_part():
    part = subset(holed(), [3, 7, *range(10, 24)])
    gaps = Gaps(limit=0.2)
    batches(made(Streaming, part, gaps), 2)
    assert gaps.found == {1: "7.jpg: cannot be decoded"}


@pytest.mark.parametrize("text", ["[]", "{", '{"a": "b"}', "[" * 100_000])
def test_a_file_that_is_no_record_of_gaps_is_refused(tmp_path, text):
    file = tmp_path / "unreadable.json"
    file.write_text(text)
    with pytest.raises(Refused, match=r"unreadable\.json can't be read"):
        Gaps(file=file)


@pytest.mark.parametrize("limit", [-0.1, 1.0])
def test_a_limit_is_a_share(limit):
    with pytest.raises(Refused, match="corrupt_limit="):
        Gaps(limit=limit)


def test_runs_that_share_a_source_keep_a_file_each_and_read_it_again(tmp_path):
    """As the runs of several seeds do."""
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    other.write_text(json.dumps({"3": "c: c"}))
    gaps, said = Gaps(), []
    gaps.keep(one, said.append)
    gaps.add({7: "a: a"})
    gaps.keep(other, said.append)  # that of a run which goes on
    assert gaps.found == {3: "c: c", 7: "a: a"}
    assert json.loads(one.read_text()) == {"7": "a: a"}
    assert json.loads(other.read_text()) == {"3": "c: c", "7": "a: a"}
    assert len(said) == 2  # 7, by each run; 3 was said by the earlier part
    gaps.keep(one, said.append)
    assert len(said) == 3
    assert json.loads(one.read_text()) == {"3": "c: c", "7": "a: a"}
    (tmp_path / "bad.json").write_text("[")
    with pytest.raises(Refused, match=r"bad\.json can't be read"):
        gaps.keep(tmp_path / "bad.json", said.append)


@pytest.mark.parametrize(
    ("count", "limit", "length", "over"),
    [
        (1, 0.01, 20, False),  # of few, one is let pass
        (2, 0.01, 20, True),
        (1, 0.0, 20, True),
        (2, 0.01, 200, False),
        (3, 0.01, 200, True),
    ],
)
def test_how_many_are_too_many(count, limit, length, over):
    assert exceeds(count, limit, length) == over
