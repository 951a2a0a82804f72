import pytest

from train.data.split_names import role


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("TRAIN", "train"),
        ("seg_train", "train"),
        ("train_set", "train"),
        ("train2017", "train"),
        ("val", "validation"),
        ("Valid", "validation"),
        ("validation", "validation"),
        ("dev", "validation"),
        ("Test", "test"),
        ("Testing", "test"),
        ("test-set", "test"),
        ("cat", None),
        ("trainers", None),
        ("train_val", None),
        ("trainval", None),
        ("test_tube", None),
        ("train_cars", None),
        ("set", None),
        ("", None),
    ],
)
def test_the_usual_words_in_any_case(name, split):
    assert role(name) == split
