import hashlib
import json
import os
import pickle
import re

import numpy as np
import pytest
from image_files import COCO, coco, pixels, save

from train.data.boxes import clipped_said, empty_said
from train.data.coco import coco as open_coco
from train.data.decode import Unreadable
from train.data.example import Place, Shaper
from train.data.host import Host, Letterbox
from train.data.keys import Wanted
from train.data.named import named
from train.data.subset import image_id, subset
from train.refusal import Refused


def test_boxes_classes_and_ids(tmp_path):
    source = open_coco(*coco(tmp_path))
    about = source.about
    assert about.classes == ("person", "stop sign", "toothbrush")
    assert about.ids == (1, 13, 90)
    assert (about.mirror, about.shape, len(source)) == (None, None, 3)
    example = source[1]  # the second listed, in a folder of its own
    np.testing.assert_array_equal(example["image"], pixels(8, 6, seed=1), strict=True)
    truth = {
        "boxes": np.float32([[1, 2, 4, 6], [0, 0, 6, 8]]),
        "box_label": np.int32([1, 0]),
        "box_crowd": np.array([False, False]),
    }
    assert set(example) == {"image", *truth}
    for key, wanted in truth.items():
        np.testing.assert_array_equal(example[key], wanted, strict=True)
        np.testing.assert_array_equal(source.truth(1)[key], wanted, strict=True)
    # COCO's own boxes leave the image by fractions of a pixel
    np.testing.assert_array_equal(source.truth(0)["boxes"], np.float32([[0.5, 0, 20, 10]]))
    np.testing.assert_array_equal(source.truth(0)["box_crowd"], [True])
    assert about.ids[source.truth(0)["box_label"][0]] == 90
    found = source.results(1, truth["boxes"], truth["box_label"], np.float32([0.5, 0.25]))
    assert json.loads(json.dumps(found)) == [
        {"image_id": 3, "category_id": 13, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 3, "category_id": 1, "bbox": [0, 0, 6, 8], "score": 0.25},
    ]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[0]["image"], pixels(10, 20, seed=0))
    with pytest.raises(IndexError):
        source.truth(3)


def test_more_boxes_than_capacity_name_the_file(tmp_path):
    source = open_coco(*coco(tmp_path))
    part = subset(Wanted(source, "boxes"), [2, 1])
    assert part.name(1) == str(tmp_path / "train2017" / "sub" / "a.png")
    message = (
        r"example 1 of coco/train \(.*sub.a\.png\) has 2 boxes, more than capacity\['boxes'\]=1"
    )
    shaper = Shaper(part, {"boxes": 1}, Host(Letterbox(), ((8, 8),)))
    with pytest.raises(Refused, match=message):
        list(shaper.take([Place(0), Place(1)], (8, 8), replace=False))
    with pytest.raises(IndexError):
        source.name(3)


def test_an_image_without_annotations_is_kept(tmp_path):
    truth = open_coco(*coco(tmp_path))[2]
    np.testing.assert_array_equal(truth["boxes"], np.zeros((0, 4), np.float32), strict=True)
    np.testing.assert_array_equal(truth["box_label"], np.zeros(0, np.int32), strict=True)
    np.testing.assert_array_equal(truth["box_crowd"], np.zeros(0, bool), strict=True)


def box(*corners):
    return lambda given: given["annotations"][2].update(bbox=corners)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            box(0, 0, 7.5, 8),
            r"a\.png, example 1: box 1, .* outside its image.*annotations \[1, 5\]",
        ),
        (box(2, 2, -1, 3), r"a\.png, example 1: box 1, .* has no area"),
    ],
)
def test_a_bad_box_makes_its_example_unreadable_and_no_other(tmp_path, change, message):
    source = open_coco(*coco(tmp_path, [change]))
    for read in (source.__getitem__, source.truth):
        with pytest.raises(Unreadable, match=message):
            read(1)
        read(0)


def test_a_missing_file_and_one_of_another_size_name_file_and_index(tmp_path):
    file, images = coco(tmp_path)
    source = open_coco(file, images)
    save(images / "c.png", pixels(5, 6))
    with pytest.raises(
        Unreadable, match=r"c\.png, example 2: the upright image is 6x5, .* says 5x5"
    ):
        source[2]
    (images / "c.png").unlink()
    with pytest.raises(Unreadable, match=r"c\.png, example 2: the file does not exist"):
        source[2]
    source.truth(2)
    with pytest.raises(Unreadable, match=r"c\.png, example 0") as refused:
        subset(source, [2, 1])[0]
    assert refused.value.index == 0  # the part's own


def test_an_upright_image_has_the_size_that_the_file_gives(tmp_path):
    def upright(given):
        given["images"][2].update(file_name="c.jpg", width=20, height=40)

    file, images = coco(tmp_path, [upright])
    save(images / "c.jpg", pixels(20, 40), 6)
    assert open_coco(file, images)[2]["image"].shape == (40, 20, 3)


@pytest.mark.parametrize("name", ["SUB/A.png", "sub\\a.png", "Sub/a.PNG", "./sub/a.png"])
def test_a_file_is_found_in_another_case_and_with_the_other_slash(tmp_path, name):
    file, images = coco(tmp_path, [lambda g: g["images"][1].update(file_name=name)])
    source = open_coco(file, images)
    assert source[1]["image"].shape == (8, 6, 3)
    assert os.path.samefile(source.name(1), images / "sub" / "a.png")
    before = source.fingerprint
    (images / "sub" / "a.png").write_bytes(b"of another size")
    assert open_coco(file, images).fingerprint != before


def test_a_file_of_which_there_are_two_is_not_guessed(tmp_path):
    file, images = coco(tmp_path, [lambda g: g["images"][2].update(file_name="C.png")])
    save(images / "c.PNG", pixels(5, 5))
    with pytest.raises(Unreadable, match=r"C\.png, example 2: the file does not exist"):
        open_coco(file, images)[2]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_fault(tmp_path, encoding):
    file, images = coco(tmp_path)
    file.write_bytes(file.read_text().encode(encoding))
    assert len(open_coco(file, images)) == 3


def test_boxes_that_leave_the_image_by_a_rounding_are_counted(tmp_path):
    source = open_coco(*coco(tmp_path))
    assert clipped_said(source) == ""
    for read in (source.__getitem__, source.truth):
        for i in range(3):
            read(i)
    assert source.clipped == {0: 1}
    part = subset(source, [2, 0])
    assert part.clipped == Wanted(part, "boxes").clipped == {1: 1}
    assert clipped_said(source) == (
        "Clipped: 1 box in 1 of the examples read, beyond the image by at most 1 pixel or 1 % of "
        f"its side; the first is in example 0 ({tmp_path}/train2017/b.png)."
    )


def same(key):
    return lambda given: given[key].append(dict(given[key][0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g["annotations"][0].update(image_id=4), "annotation 1 has image_id=4, which"),
        (lambda g: g["annotations"][1].update(category_id=2), "annotation 2 has category_id=2"),
        (same("images"), "image id 7 stands there twice"),
        (same("categories"), "category id 90 stands there twice"),
        (same("annotations"), "annotation id 1 stands there twice"),
        (lambda g: g.pop("categories"), "no 'categories' in some entry"),
        (lambda g: g["images"][0].pop("width"), "no 'width' in some entry"),
        (lambda g: g["annotations"][0].update(bbox=[1, 2]), "no JSON file of COCO's instances"),
        (lambda g: g.update(images=[], annotations=[]), "lists no image"),
        (lambda g: g["images"][0].update(width=10**30), "no JSON file of COCO's instances"),
        (lambda g: g["annotations"][0].update(bbox=[10**400] * 4), "no JSON file of COCO's"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, change, message):
    with pytest.raises(Refused, match=message) as refused:
        open_coco(*coco(tmp_path, [change]))
    assert not isinstance(refused.value, Unreadable)
    assert "instances_train2017.json" in str(refused.value)


def test_what_is_no_such_file_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name, message in (
        ("a.json", "is no JSON file"),
        ("deep.json", "is no JSON file"),
        ("b.json", "does not exist"),
    ):
        with pytest.raises(Refused, match=message):
            open_coco(tmp_path / name, tmp_path)


def test_boxes_without_an_area_are_dropped_and_counted(tmp_path):
    source = open_coco(*coco(tmp_path, [box(2, 2, 0, 3)]))
    for read in (source.truth, source.__getitem__):
        found = read(1)
        np.testing.assert_array_equal(found["boxes"], np.float32([[1, 2, 4, 6]]), strict=True)
        assert found["box_label"].tolist() == [1]
        assert found["box_crowd"].tolist() == [False]
    assert source.empty == {1: 1}
    assert source.clipped == {}
    part = subset(source, [2, 1])
    assert part.empty == {1: 1}
    assert "Empty: 1 box in 1 of the examples read" in empty_said(part)
    assert [image_id(part, i) for i in range(2)] == [source.image_id(2), 3]


def test_areas_are_those_of_the_file_or_of_the_boxes(tmp_path):
    def outlined(given):
        given["annotations"][2]["area"] = 30.5

    truth = open_coco(*coco(tmp_path, [outlined])).truth(1)
    np.testing.assert_array_equal(truth["box_area"], np.float32([12, 30.5]), strict=True)


@pytest.mark.parametrize(
    ("said", "crowd"), [(1, True), (0, False), (True, True), (0.0, False), (None, False)]
)
def test_a_crowd_is_said_in_one_of_two_ways(tmp_path, said, crowd):
    source = open_coco(*coco(tmp_path, [lambda g: g["annotations"][2].update(iscrowd=said)]))
    np.testing.assert_array_equal(source.truth(1)["box_crowd"], [False, crowd], strict=True)


@pytest.mark.parametrize("said", ["no", "0", 2, [], float("nan")])
def test_a_crowd_that_is_said_otherwise_is_refused(tmp_path, said):
    file, images = coco(tmp_path, [lambda g: g["annotations"][2].update(iscrowd=said)])
    words = f"annotation 5 has iscrowd={said!r}, which is neither 0 nor 1"
    with pytest.raises(Refused, match=re.escape(f"annotations={str(file)!r}: {words}")):
        open_coco(file, images)


def test_the_fingerprint_sees_annotations_and_files(tmp_path):
    prints = [open_coco(*coco(tmp_path / place)).fingerprint for place in "ab"]
    prints.append(open_coco(*coco(tmp_path / "c", [box(0, 0, 5, 5)])).fingerprint)
    file, images = coco(tmp_path / "d")
    (images / "c.png").unlink()
    prints.append(open_coco(file, images).fingerprint)
    file, images = coco(tmp_path / "e", [lambda g: g["images"][0].update(file_name="e" * 300)])
    assert len(open_coco(file, images).fingerprint) == 66  # a name that no file can have
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_the_fingerprint_sees_content_and_runs_of_earlier_versions_are_known(tmp_path):
    file, images = coco(tmp_path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    sizes = [(images / name).stat().st_size for name in ("b.png", "sub/a.png", "c.png")]
    before = hashlib.sha256((digest + "".join(f"{size} " for size in sizes)).encode()).hexdigest()
    first = open_coco(file, images)
    assert first.fingerprint.startswith("2:")
    (images / "c.png").write_bytes((images / "c.png").read_bytes()[::-1])
    again = open_coco(file, images)
    assert first.earlier_fingerprint == again.earlier_fingerprint == before
    assert first.fingerprint != again.fingerprint


def test_cocos_own_categories_may_be_mirrored(tmp_path):
    def eighty(given):
        given["categories"] = [{"id": i, "name": str(i)} for i in range(1, 91) if i % 9]
        given["categories"].append({"id": 90, "name": "toothbrush"})
        given["categories"] = given["categories"][-80:]
        given["annotations"] = []

    assert len({*range(1, 91)}) == 90
    source = open_coco(*coco(tmp_path, [eighty]))
    assert len(source.about.classes) == 80
    assert source.about.mirror


@pytest.mark.parametrize(
    ("places", "sizes"),
    [
        (
            {
                "annotations/instances_train2017.json": "train2017",
                "annotations/instances_val2017.json": "val2017",
            },
            (3, None, 3),
        ),
        (
            {
                "annotations/instances_train.json": "images/train",
                "annotations/instances_val.json": "images/val",
                "annotations/instances_test.json": "images/test",
            },
            (3, 3, 3),
        ),
        ({f"{s}/_annotations.coco.json": s for s in ("train", "valid", "test")}, (3, 3, 3)),
        (
            {f"{s}/_annotations.coco.json": s for s in ("Training", "Dev", "TEST")},
            (3, 3, 3),
        ),
        (
            {
                "Annotations/instances_Train.json": "train",
                "Annotations/instances_validation.json": "Images/Validation",
            },
            (3, None, 3),
        ),
        ({"annotations.json": "images"}, (2, None, 1)),
    ],
)
def test_usual_places(tmp_path, places, sizes):
    for file, images in places.items():
        coco(tmp_path, file=file, images=images)
    found = named(f"coco:{tmp_path}", want="boxes")
    assert tuple(None if part is None else len(part) for part in found) == sizes
    assert set(found.test[0]) == {"image", "boxes", "box_label", "box_crowd"}
    assert found.train.about.name == tmp_path.name


def test_no_usual_place_is_refused(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(COCO))
    with pytest.raises(Refused, match="has no training split: neither"):
        named(f"coco:{tmp_path}", want="boxes")
    with pytest.raises(Refused, match="has no mask; it has boxes"):
        named(f"coco:{tmp_path}", want="mask")
