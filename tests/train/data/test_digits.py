import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from train.data.digits import digits, enlarge
from train.refusal import Refused


def test_cut_sizes_and_about():
    parts = {split: digits(split) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 1262,
        "validation": 180,
        "test": 355,
    }
    for split, part in parts.items():
        about = part.about
        assert (about.name, about.split, about.mirror) == ("digits", split, False)
        assert about.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
        assert about.shape == (32, 32, 1)
        assert np.bincount(part.labels, minlength=10).min() >= 17  # every class in every part
    assert len({part.fingerprint for part in parts.values()}) == 3


def test_the_kth_digit_of_a_class_goes_where_k_says():
    data = load_digits()
    ranks: dict[int, int] = {}
    expected: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for i, label in enumerate(data.target):
        k = ranks.get(label, 0)
        ranks[label] = k + 1
        expected["test" if k % 5 == 4 else "validation" if k % 10 == 3 else "train"].append(i)
    for split, indices in expected.items():
        source = digits(split)
        np.testing.assert_array_equal(source.labels, data.target[indices])
        for j in (0, 7, len(indices) - 1):
            image = enlarge(data.images[indices[j]][None].astype(int))[0]
            np.testing.assert_array_equal(source[j]["image"][..., 0], image)


def test_enlarging_is_pillows_bilinear_to_one_rounding():
    grids = load_digits().images[:200]
    ours = enlarge(grids.astype(int))
    assert ours.dtype == np.uint8
    assert ours.shape == (200, 32, 32)
    exact = np.stack(
        [
            np.asarray(
                Image.fromarray(grid.astype(np.float32)).resize((32, 32), Image.Resampling.BILINEAR)
            )
            for grid in grids
        ]
    ).astype(float) * (255 / 16)
    assert np.abs(ours - exact).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(ours, np.floor(exact + 0.5 + 1e-4))


def test_enlarging_by_hand():
    row = enlarge(np.array([[[0, 16], [0, 16]]]))[0, 0]
    # centres at -3/8, -1/8, 1/8, 3/8, 5/8, 7/8, 9/8, 11/8 of the way, clipped: eighths of 255
    np.testing.assert_array_equal(row, [0, 0, 32, 96, 159, 223, 255, 255])
    assert (enlarge(np.full((1, 8, 8), 16)) == 255).all()


@pytest.mark.parametrize(
    ("split", "fingerprint"),
    [
        ("train", "d0395a0a5afeb771"),
        ("validation", "be4dfdaf531019bc"),
        ("test", "610ba0248486e7e2"),
    ],
)
def test_contents_are_the_same_on_every_platform(split, fingerprint):
    assert digits(split).fingerprint[:16] == fingerprint


def test_an_unknown_split_is_refused():
    with pytest.raises(Refused, match="split='valid' is unknown; nearest: validation"):
        digits("valid")
