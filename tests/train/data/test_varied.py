import numpy as np
import pytest

from train.data.arrays import Arrays
from train.data.decode import Unreadable
from train.data.named import named
from train.data.source import About
from train.data.varied import varied
from train.refusal import Refused

ABOUT = About("toy", "train", (), mirror=True, mask_classes=("ground", "a", "b"))


def toy(rows):
    mask = np.array(rows, np.uint8)[:, None]
    image = np.zeros((*mask.shape, 1), np.uint8)
    image[:, 0, 0, 0] = np.arange(len(mask))
    return Arrays({"image": image, "mask": mask}, ABOUT)


def test_those_with_fewer_classes_are_left_out():
    # 1, 2, 3, 2 and no classes: 255 is none.
    source = toy([[0, 0, 0], [2, 0, 0], [1, 0, 2], [255, 1, 2], [255, 255, 255]])
    for least, wanted in {0: range(5), 1: range(4), 2: (1, 2, 3), 3: (2,)}.items():
        kept = varied(source, least)
        assert [int(kept[i]["image"][0, 0, 0]) for i in range(len(kept))] == list(wanted)
    with pytest.raises(Refused, match="no mask of data='toy' holds 4 classes, the most is 3"):
        varied(source, 4)


def test_what_cannot_be_read_is_left_to_the_loader():
    class Torn(Arrays):
        def truth(self, i):
            if i == 1:
                raise Unreadable("1.png", 1, "torn")
            return super().truth(i)

    masks = np.array([[[0, 0]], [[0, 0]], [[0, 1]]], np.uint8)
    kept = varied(Torn({"image": masks[..., None], "mask": masks}, ABOUT), 2)
    assert len(kept) == 2
    with pytest.raises(Unreadable) as found:
        kept.truth(0)
    assert found.value.index == 0


def test_scenes_of_many_digits():
    scenes = named("digit_scenes", "mask").validation
    kept = varied(scenes, 4)
    counts = [len(np.unique(scenes.truth(i)["mask"])) for i in range(len(scenes))]
    assert len(kept) == sum(count >= 4 for count in counts)
    np.testing.assert_array_equal(
        kept.truth(0)["mask"],
        scenes.truth(next(i for i, count in enumerate(counts) if count >= 4))["mask"],
    )
    assert kept.fingerprint != scenes.fingerprint
