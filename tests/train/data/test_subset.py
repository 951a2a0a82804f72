import pickle

import numpy as np
import pytest

from train.data.arrays import Arrays
from train.data.decode import Unreadable
from train.data.keys import Wanted
from train.data.named import named
from train.data.source import About
from train.data.subset import cut, cut_by_time, file_of, labels, read, subset, with_classes
from train.refusal import Refused

ABOUT = About(name="toy", split="train", classes=("a", "b", "c"), mirror=True, mean=(1.0,))


def toy(label):
    label = np.asarray(label)
    image = np.arange(len(label), dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), "u1")
    return Arrays({"image": image, "label": label}, ABOUT)


class OneByOne:
    """A source that has neither `labels` nor `__getitems__`."""

    about = ABOUT
    fingerprint = "x"

    def __init__(self, label):
        self.label = label

    def __len__(self):
        return len(self.label)

    def __getitem__(self, i):
        raise AssertionError("no image is decoded to read labels")

    def truth(self, i):
        return {"label": self.label[i]}


def test_index_and_truth_are_the_parts_own():
    part = subset(toy([0, 1, 2, 0, 1]), [4, 1, 1], split="some")
    assert len(part) == 3
    assert [int(part[i]["image"][0, 0, 0]) for i in range(3)] == [4, 1, 1]
    assert part.truth(0) == {"label": 1}
    np.testing.assert_array_equal(part.labels, [1, 1, 1])
    assert (part.about.split, part.about.name, part.about.mean) == ("some", "toy", (1.0,))
    assert [int(example["image"][0, 0, 0]) for example in read(part, [2, 0])] == [1, 4]
    for outside in (-1, 3):
        with pytest.raises(IndexError):
            part[outside]
        with pytest.raises(IndexError):
            part.truth(outside)


def test_sources_without_files_have_no_names():
    for source in (toy([0, 1]), subset(toy([0, 1]), [1]), Wanted(toy([0, 1]), "label")):
        assert file_of(source, 0) is None


def test_a_part_of_a_part():
    part = subset(subset(toy([0, 1, 2, 0, 1]), [4, 3, 2]), [2, 0])
    assert [int(part[i]["image"][0, 0, 0]) for i in range(2)] == [2, 4]
    np.testing.assert_array_equal(part.labels, [2, 1])
    assert part.about.split == "train"
    assert pickle.loads(pickle.dumps(part)).truth(0) == {"label": 2}


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([], "wanted: at least one integer"),
        ([0.5], "type float64"),
        ([[0]], r"shape \(1, 1\)"),
        ([0, 3], r"indices\[1\]=3 is outside 0..2"),
        ([-1], r"indices\[0\]=-1 is outside"),
    ],
)
def test_bad_indices_are_refused(indices, message):
    with pytest.raises(Refused, match=message):
        subset(toy([0, 1, 2]), indices)


def test_fingerprint_sees_source_indices_and_order():
    first, second = toy([0, 1, 2]), toy([0, 2, 1])
    parts = [subset(s, i) for s in (first, second) for i in ([0, 1], [1, 0], [0], [0, 1, 2])]
    found = {part.fingerprint for part in parts}
    assert len(found | {first.fingerprint, second.fingerprint}) == len(parts) + 2
    assert subset(toy([0, 1, 2]), np.array([0, 1], np.int16)).fingerprint == parts[0].fingerprint


def test_labels_one_by_one():
    assert labels(OneByOne([2, 0, 1])).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("counts", "fraction", "part"),
    [
        ((10, 20, 30), 0.1, (1, 2, 3)),
        ((10, 20, 30), 0.25, (3, 5, 7)),  # 2.5 5 7.5: one over, to the lower of the equal ones
        ((1, 1, 8), 0.3, (0, 0, 3)),  # 0.3 0.3 2.4: the one over goes to 2.4
        ((5, 5, 5), 1 / 3, (2, 2, 1)),
        ((3, 3, 4), 0.5, (2, 1, 2)),
    ],
)
def test_cut_is_stratified(counts, fraction, part):
    label = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], counts))
    rest, chosen = cut(toy(label), fraction, seed=3)
    assert len(chosen) == sum(part)
    assert np.bincount(chosen.labels, minlength=3).tolist() == list(part)
    assert (rest.about.split, chosen.about.split) == ("train", "validation")
    places = [[int(e["image"][0, 0, 0]) for e in read(s, range(len(s)))] for s in (rest, chosen)]
    assert sorted(places[0] + places[1]) == list(range(len(label)))
    assert all(place == sorted(place) for place in places)


def test_cut_depends_on_the_seed_and_on_nothing_else():
    source = toy(np.arange(60) % 3)
    first, again, other = (cut(source, 0.2, seed)[1] for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert cut(source, 0.2, 0)[0].fingerprint != first.fingerprint
    # pinned: the same on every platform and with every NumPy
    assert [int(e["image"][0, 0, 0]) for e in read(first, range(12))] == [
        0,
        1,
        2,
        9,
        11,
        13,
        20,
        21,
        25,
        38,
        43,
        54,
    ]


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        (0, "fraction=0 is not between"),
        (1.0, "fraction=1.0 is not between"),
        (-0.1, "fraction=-0.1"),
        (float("nan"), "fraction=nan"),
        (0.01, "fraction=0.01 of 10 examples leaves one side empty"),
        (0.99, "fraction=0.99 of 10 examples"),
    ],
)
def test_a_cut_that_leaves_nothing_is_refused(fraction, message):
    with pytest.raises(Refused, match=message):
        cut(toy([0] * 10), fraction, 0)


@pytest.mark.parametrize(("count", "fraction", "gap"), [(10, 0.3, 0), (10, 0.25, 2), (7, 0.5, 2)])
def test_a_cut_by_time_leaves_the_future_to_the_part(count, fraction, gap):
    rest, part = cut_by_time(toy([0] * count), fraction, gap, splits=("train", "test"))
    assert (rest.about.split, part.about.split) == ("train", "test")
    before, after = (
        [int(e["image"][0, 0, 0]) for e in read(s, range(len(s)))] for s in (rest, part)
    )
    assert len(after) == int(fraction * count + 0.5)
    assert before == list(range(before[-1] + 1))
    assert after == list(range(before[-1] + 1 + gap, count))  # none before, the gap in neither


@pytest.mark.parametrize(
    ("fraction", "gap", "message"),
    [
        (0, 0, "fraction=0 is not between"),
        (float("nan"), 0, "fraction=nan"),
        (0.01, 0, "fraction=0.01 of 10 examples leaves one side empty"),
        (0.99, 0, "fraction=0.99 of 10 examples"),
        (0.5, -1, "gap=-1 is negative"),
        (0.5, 5, "gap=5 leaves none of the 5 examples before the part"),
    ],
)
def test_a_cut_by_time_that_leaves_nothing_is_refused(fraction, gap, message):
    with pytest.raises(Refused, match=message):
        cut_by_time(toy([0] * 10), fraction, gap)


def test_a_source_without_labels_says_so():
    source = Arrays({"image": np.zeros((4, 2, 2, 1), np.uint8)}, ABOUT)
    for each in (source, subset(source, [1]), Broken()):
        with pytest.raises(Refused, match="has no label"):
            labels(each)


class Broken:
    """Boxes, of which example 2 cannot be read."""

    about = ABOUT
    fingerprint = "x"

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return self.truth(i)

    def truth(self, i):
        if i == 2:
            raise Unreadable("two.jpg", i, "is damaged")
        return {"boxes": np.zeros((0, 4), np.float32)}


def test_what_cannot_be_read_is_named_by_the_parts_own_index():
    part = subset(subset(Broken(), [5, 2, 3]), [2, 1])
    for ask in (part.__getitem__, part.truth, lambda i: read(part, [0, i])):
        with pytest.raises(Unreadable, match=r"two\.jpg, example 1: is damaged") as refused:
            ask(1)
        assert (refused.value.name, refused.value.index) == ("two.jpg", 1)


def test_a_source_without_labels_is_cut_by_its_words_alone():
    parts = cut(Broken(), 0.3, seed=5)
    words = np.random.Philox(key=5).random_raw(10)
    assert sorted(parts[1]._indices) == sorted(np.argsort(words)[:3])
    assert [len(part) for part in parts] == [7, 3]
    same = cut(toy([0] * 10), 0.3, seed=5)
    np.testing.assert_array_equal(parts[1]._indices, same[1]._indices)


# --- by what masks hold ------------------------------------------------------------------------

MASKED = About("toy", "train", (), mirror=True, mask_classes=("ground", "a", "b"))


def masked(rows):
    mask = np.array(rows, np.uint8)[:, None]
    image = np.zeros((*mask.shape, 1), np.uint8)
    image[:, 0, 0, 0] = np.arange(len(mask))
    return Arrays({"image": image, "mask": mask}, MASKED)


def test_those_with_fewer_classes_are_left_out():
    # 1, 2, 3, 2 and no classes: 255 is none.
    source = masked([[0, 0, 0], [2, 0, 0], [1, 0, 2], [255, 1, 2], [255, 255, 255]])
    for least, wanted in {0: range(5), 1: range(4), 2: (1, 2, 3), 3: (2,)}.items():
        kept = with_classes(source, least)
        assert [int(kept[i]["image"][0, 0, 0]) for i in range(len(kept))] == list(wanted)
    with pytest.raises(Refused, match="no mask of data='toy' holds 4 classes, the most is 3"):
        with_classes(source, 4)


def test_what_cannot_be_read_is_left_to_the_loader():
    class Torn(Arrays):
        def truth(self, i):
            if i == 1:
                raise Unreadable("1.png", 1, "torn")
            return super().truth(i)

    masks = np.array([[[0, 0]], [[0, 0]], [[0, 1]]], np.uint8)
    kept = with_classes(Torn({"image": masks[..., None], "mask": masks}, MASKED), 2)
    assert len(kept) == 2
    with pytest.raises(Unreadable) as found:
        kept.truth(0)
    assert found.value.index == 0


def test_scenes_of_many_digits():
    scenes = named("digit_scenes", "mask").validation
    kept = with_classes(scenes, 4)
    counts = [len(np.unique(scenes.truth(i)["mask"])) for i in range(len(scenes))]
    assert len(kept) == sum(count >= 4 for count in counts)
    np.testing.assert_array_equal(
        kept.truth(0)["mask"],
        scenes.truth(next(i for i, count in enumerate(counts) if count >= 4))["mask"],
    )
    assert kept.fingerprint != scenes.fingerprint
