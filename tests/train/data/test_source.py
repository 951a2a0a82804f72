"""What is said of a set."""

import pytest

from train.data.source import About, classes_said, extent_said


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((28, 30, 1), "28×30 grey images"),
        ((32, 32, 3), "32×32 colour images"),
        ((40, 1), "signals of 40 steps, 1 channel"),
        ((8, 6), "signals of 8 steps, 6 channels"),
        ((4, 4, 4, 1), "examples of shape (4, 4, 4, 1)"),
        (None, "examples of varying size"),
    ],
)
def test_how_large_examples_are(shape, said):
    assert extent_said(About("toy", "train", (), mirror=True, shape=shape)) == said


def test_what_there_is_to_learn():
    def about(**known):
        return About(**({"name": "toy", "split": "train", "classes": (), "mirror": True} | known))

    assert classes_said(about(classes=("a", "b"))) == "2 classes"
    assert classes_said(about(mask_classes=("a",))) == "masks of 1 classes"
    assert classes_said(about(targets=("age",))) == "1 target"
    assert classes_said(about(classes=("a", "b"), targets=("x", "y"))) == "2 classes, 2 targets"
    assert classes_said(about()) == "no classes"
