import codecs
import hashlib
import os
import pickle

import numpy as np
import pytest
from image_files import palette, pixels, save, voc, voc_xml

from train.data.decode import Unreadable
from train.data.named import named
from train.data.voc import CLASSES
from train.data.voc import voc as open_voc
from train.refusal import Refused

OBJECTS = (("person", (1, 1, 500, 375), False), ("dog", (48.5, 240, 195, 371), True))
MASK = np.array([[0, 1, 20], [255, 0, 15]], np.uint8)


def test_corners_become_continuous(tmp_path):
    voc(tmp_path, ["a", "b"], OBJECTS)
    source = open_voc(tmp_path, "train")
    about = source.about
    assert (about.classes, about.mirror, about.shape) == (CLASSES, True, None)
    assert len(CLASSES) == 20
    assert list(CLASSES) == sorted(CLASSES)
    example = source[1]
    assert example["image"].shape == (375, 500, 3)
    truth = {
        "boxes": np.float32([[0, 0, 500, 375], [47.5, 239, 195, 371]]),
        "box_label": np.int32([14, 11]),
        "box_difficult": np.array([False, True]),
    }
    assert set(example) == {"image", *truth}
    for key, wanted in truth.items():
        np.testing.assert_array_equal(example[key], wanted, strict=True)
        np.testing.assert_array_equal(source.truth(0)[key], wanted, strict=True)
    assert set(pickle.loads(pickle.dumps(source))[0]) == {"image", *truth}
    with pytest.raises(IndexError):
        source[2]


def test_an_image_is_called_by_its_file(tmp_path):
    voc(tmp_path, ["a", "b"])
    source = open_voc(tmp_path, "train")
    assert source.name(1) == str(tmp_path / "JPEGImages" / "b.jpg")
    with pytest.raises(IndexError):
        source.name(2)


def test_no_object_is_no_box(tmp_path):
    voc(tmp_path, ["a"])
    truth = open_voc(tmp_path, "train").truth(0)
    np.testing.assert_array_equal(truth["boxes"], np.zeros((0, 4), np.float32), strict=True)
    np.testing.assert_array_equal(truth["box_difficult"], np.zeros(0, bool), strict=True)


def test_other_classes_are_the_callers(tmp_path):
    voc(tmp_path, ["a"], [("knife", (1, 1, 4, 3), False)], size=(3, 4))
    source = open_voc(tmp_path, "train", classes=("fork", "knife"))
    np.testing.assert_array_equal(source.truth(0)["box_label"], [1])
    assert source.about.mirror is None


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (voc_xml(4, 3, [("owl", (1, 1, 2, 2), 0)]), r"class 'owl' is none of the 20 of the set"),
        (voc_xml(4, 3, [("cat", (1, 1, 6, 3), 0)]), "box 0, .* lies outside its image"),
        (voc_xml(4, 3, [("cat", (4, 1, 2, 3), 0)]), "box 0, .* has no area"),
        (voc_xml(4, 3, [("cat", ("x", 1, 2, 3), 0)]), "could not convert"),
        (voc_xml(4, 3, []).replace("size", "siez"), "it has no <size/height>"),
        ("<annotation>", "no element|no closing"),
        ('<?xml version="1.0" encoding="odd"?><annotation/>', "unknown encoding: odd"),
        (voc_xml("9" * 400, 3, [("cat", (1, 1, 2, 2), 0)]), "too large|it says 99"),
        (None, "the file does not exist"),
    ],
)
def test_a_bad_annotation_names_its_file_and_index(tmp_path, xml, message):
    voc(tmp_path, ["a", "b"], size=(3, 4))
    source = open_voc(tmp_path, "train")
    path = tmp_path / "Annotations" / "b.xml"
    path.unlink()
    if xml is not None:
        path.write_text(xml)
    for read in (source.__getitem__, source.truth):
        with pytest.raises(Unreadable, match=rf"Annotations/b\.xml, example 1: .*({message})"):
            read(1)
        read(0)


def test_boxes_without_an_area_are_dropped_and_counted(tmp_path):
    # VOC's corners are inclusive: xmax = xmin - 1 is a box of no width.
    voc(tmp_path, ["a"], [("cat", (3, 1, 2, 3), 1), ("dog", (1, 1, 2, 2), 0)], size=(3, 4))
    source = open_voc(tmp_path, "train")
    truth = source.truth(0)
    np.testing.assert_array_equal(truth["boxes"], np.float32([[0, 0, 2, 2]]), strict=True)
    assert truth["box_difficult"].tolist() == [False]
    assert [CLASSES[c] for c in truth["box_label"]] == ["dog"]
    assert source.empty == {0: 1}


def test_a_missing_image_and_one_of_another_size(tmp_path):
    voc(tmp_path, ["a"], size=(3, 4))
    source = open_voc(tmp_path, "train")
    path = save(tmp_path / "JPEGImages" / "a.jpg", pixels(4, 3))
    with pytest.raises(Unreadable, match=r"a\.xml, example 0: it says 4x3, .* is 3x4"):
        source[0]
    path.unlink()
    with pytest.raises(Unreadable, match=r"JPEGImages/a\.jpg, example 0: the file does not exist"):
        source[0]
    assert source.truth(0)["boxes"].shape == (0, 4)


def test_masks_are_the_palettes_indices(tmp_path):
    voc(tmp_path, ["a", "b"], size=(2, 3), mask=MASK)
    source = open_voc(tmp_path, "train", "mask")
    assert source.about.mask_classes == ("background", *CLASSES)
    example = source[1]
    assert set(example) == {"image", "mask"}
    np.testing.assert_array_equal(example["mask"], MASK, strict=True)
    np.testing.assert_array_equal(source.truth(0)["mask"], MASK, strict=True)
    save(tmp_path / "SegmentationClass" / "a.png", MASK[..., None])  # grey, not a palette
    np.testing.assert_array_equal(source.truth(0)["mask"], MASK, strict=True)


def test_the_colour_table_is_vocs(tmp_path):
    voc(tmp_path, ["a"], size=(2, 3), mask=MASK)
    colours = dict(enumerate(open_voc(tmp_path, "train", "mask").about.colours))
    # from the development kit's table
    assert colours[0] == (0, 0, 0)
    assert colours[1] == (128, 0, 0)
    assert colours[2] == (0, 128, 0)
    assert colours[9] == (192, 0, 0)
    assert colours[15] == (192, 128, 128)
    assert colours[20] == (0, 64, 128)
    assert len(colours) == 21


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (palette(np.full((2, 3), 21, np.uint8)), r"pixel \(0, 0\) is of class 21, outside the 21"),
        (palette(np.zeros((3, 2), np.uint8)), "the mask is 2x3, its image 3x2"),
        (pixels(2, 3), r"pixel \(0, 0\) has the colour \(\d+, \d+, \d+\), which is none of the 21"),
        (None, "the file does not exist"),
    ],
)
def test_a_bad_mask_names_its_file_and_index(tmp_path, mask, message):
    voc(tmp_path, ["a", "b"], size=(2, 3), mask=MASK)
    source = open_voc(tmp_path, "train", "mask")
    path = tmp_path / "SegmentationClass" / "b.png"
    if mask is None:
        path.unlink()
    else:
        save(path, mask)
    for read in (source.__getitem__, source.truth):
        with pytest.raises(Unreadable, match=rf"SegmentationClass/b\.png, example 1: .*{message}"):
            read(1)
        read(0)


def test_the_fingerprint_sees_annotations(tmp_path):
    for place in "abc":
        voc(tmp_path / place, ["a", "b"], OBJECTS[:1], size=(3, 4))
    (tmp_path / "c" / "Annotations" / "b.xml").write_text(voc_xml(4, 3, []))
    prints = [open_voc(tmp_path / place, "train").fingerprint for place in "abc"]
    assert prints[0] == prints[1] != prints[2]


def test_the_fingerprint_sees_content_and_runs_of_earlier_versions_are_known(tmp_path):
    for place in "ab":
        voc(tmp_path / place, ["x"], OBJECTS[:1], size=(3, 4))
    image = tmp_path / "b" / "JPEGImages" / "x.jpg"
    image.write_bytes(image.read_bytes()[::-1])
    sources = [open_voc(tmp_path / place, "train") for place in "ab"]
    assert sources[0].fingerprint != sources[1].fingerprint
    sizes = [image.stat().st_size, (tmp_path / "b" / "Annotations" / "x.xml").stat().st_size]
    classes = "\n".join(sources[0].about.classes)
    before = hashlib.sha256(f"{classes}\nx {sizes}".encode()).hexdigest()
    assert [source.earlier_fingerprint for source in sources] == [before, before]


def test_by_name_with_and_without_an_annotated_test_split(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for split, names in (("train", "ab"), ("val", "c"), ("test", "def")):
        voc(root, [*names], OBJECTS[:1], split=split)
    (root / "ImageSets" / "Main" / "cat_train.txt").write_text("a -1\n")
    found = named(f"voc:{tmp_path}", want="boxes")
    assert [len(part) for part in found] == [2, 1, 3]
    assert found.train.about.name == "VOC2007"
    for name in "def":
        (root / "Annotations" / f"{name}.xml").unlink()
    found = named(f"voc:{root}", want="boxes")
    assert (found.validation, len(found.test), found.test.about.split) == (None, 1, "val")
    with pytest.raises(Refused, match=r"no lists of images: no file .*Segmentation/\*\.txt"):
        named(f"voc:{root}", want="mask")
    with pytest.raises(Refused, match="has no label; it has boxes, mask"):
        named(f"voc:{root}")
    (tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets").mkdir(parents=True)
    with pytest.raises(Refused, match=r"it has .*VOC2007, .*VOC2012: name one"):
        named(f"voc:{tmp_path}", want="boxes")


@pytest.mark.parametrize("end", [".JPG", ".Jpeg", ".bmp", ".PNG", ".webp", ".tif", ".ppm"])
@pytest.mark.parametrize("of_mask", [".png", ".PNG", ".bmp", ".tiff"])
def test_images_and_masks_end_as_they_like(tmp_path, end, of_mask):
    voc(tmp_path, ["a"], size=(2, 3), mask=MASK)
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    (tmp_path / "SegmentationClass" / "a.png").unlink()
    image = save(tmp_path / "JPEGImages" / f"a{end}", pixels(2, 3), **LOSSLESS.get(end, {}))
    save(tmp_path / "SegmentationClass" / f"a{of_mask}", MASK[..., None])
    source = open_voc(tmp_path, "train", "mask")
    assert source.name(0) == str(image)
    example = source[0]
    if end.lower() not in (".jpg", ".jpeg"):
        np.testing.assert_array_equal(example["image"], pixels(2, 3))
    for mask in (example["mask"], source.truth(0)["mask"]):
        np.testing.assert_array_equal(mask, MASK, strict=True)


def test_an_image_of_a_format_that_is_not_read_is_said_by_its_name(tmp_path):
    voc(tmp_path, ["a"])
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    (tmp_path / "JPEGImages" / "a.HEIC").write_bytes(b"x")
    with pytest.raises(Unreadable, match=r"a\.HEIC, example 0: .*no picture of a format that is"):
        open_voc(tmp_path, "train")[0]


LOSSLESS = {".webp": {"lossless": True}}


def test_annotations_end_in_any_case_too(tmp_path):
    voc(tmp_path, ["a"], OBJECTS[:1], size=(375, 500))
    os.rename(tmp_path / "Annotations" / "a.xml", tmp_path / "Annotations" / "A.XML")
    os.rename(tmp_path / "JPEGImages" / "a.jpg", tmp_path / "JPEGImages" / "A.JPG")
    for listed in ("a", "A", "a.jpg", "A.JPG"):
        (tmp_path / "ImageSets" / "Main" / "train.txt").write_text(listed)
        assert len(open_voc(tmp_path, "train")[0]["boxes"]) == 1


def test_a_name_with_a_dot_is_no_ending(tmp_path):
    voc(tmp_path, ["scan.tif", "v1.2"], OBJECTS[:1])
    source = open_voc(tmp_path, "train")
    assert [os.path.basename(source.name(i)) for i in range(2)] == ["scan.tif.jpg", "v1.2.jpg"]
    for i in range(2):
        assert len(source[i]["boxes"]) == 1


def test_two_images_or_masks_of_a_name_are_refused(tmp_path):
    voc(tmp_path, ["a", "b"], size=(2, 3), mask=MASK)
    save(tmp_path / "JPEGImages" / "b.PNG", pixels(2, 3))
    source = open_voc(tmp_path, "train", "mask")
    for read in (source.__getitem__, source.truth):
        with pytest.raises(Unreadable, match=r"example 1: .*one of 2 .*: b\.PNG, b\.jpg"):
            read(1)
        read(0)
    lines = tmp_path / "ImageSets" / "Segmentation" / "train.txt"
    lines.write_text("a\nb.PNG\n")  # which of them is said
    source = open_voc(tmp_path, "train", "mask")
    np.testing.assert_array_equal(source[1]["image"], pixels(2, 3))
    save(tmp_path / "SegmentationClass" / "b.bmp", MASK[..., None])
    with pytest.raises(Unreadable, match=r"example 1: .*one of 2 .*: b\.bmp, b\.png"):
        open_voc(tmp_path, "train", "mask")[1]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("a", "a"),
        ("  a  ", "a"),
        ("a  1", "a"),
        ("a -1", "a"),
        ("a\t0", "a"),
        ("two words", "two words"),
        ("two words -1", "two words"),
        ("frame 1", "frame 1"),
        ("frame 1 1", "frame 1"),
        ("frame 2", "frame 2"),
        ("a other", "a"),
        ("a.jpg", "a"),
        ("two words.JPG 1", "two words"),
        ("gone with words", "gone with words"),
        ("gone -1", "gone"),
    ],
)
def test_a_line_names_the_file_that_there_is(tmp_path, line, name):
    voc(tmp_path, ["a", "two words", "frame 1"], size=(3, 4))
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text(line + "\n")
    assert open_voc(tmp_path, "train").name(0) == str(tmp_path / "JPEGImages" / f"{name}.jpg")


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n", "\r\n \r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_a_list_is_read_as_every_editor_writes_it(tmp_path, mark, end, last):
    voc(tmp_path, ["ä", "b"], size=(3, 4))
    text = end.join(["ä", "b"]) + (end if last else "")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_bytes(mark + text.encode())
    source = open_voc(tmp_path, "train")
    assert len(source) == 2
    assert [source[i]["image"].shape for i in range(2)] == [(3, 4, 3)] * 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_list_in_utf_16_is_refused_by_name(tmp_path, encoding):
    voc(tmp_path, ["a"], size=(3, 4))
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_bytes("a\n".encode(encoding))
    with pytest.raises(Refused, match=r"train\.txt' is in UTF-16; wanted: UTF-8"):
        open_voc(tmp_path, "train")


@pytest.mark.parametrize(
    "written",
    [
        lambda xml: codecs.BOM_UTF8 + xml.encode(),
        lambda xml: xml.encode("utf-16"),
        lambda xml: b'<?xml version="1.0" encoding="ISO-8859-1"?>' + xml.encode("latin-1"),
        lambda xml: b'\n\n<?xml version="1.0" encoding="utf-8"?>\r\n' + xml.encode(),
    ],
    ids=["mark", "UTF-16", "latin-1", "blank lines before it"],
)
def test_an_annotation_is_read_in_any_encoding(tmp_path, written):
    voc(tmp_path, ["a"], size=(3, 4))
    xml = voc_xml(4, 3, [("Käse", (1, 1, 4, 3), False)])
    (tmp_path / "Annotations" / "a.xml").write_bytes(written(xml))
    source = open_voc(tmp_path, "train", classes=("Käse",))
    np.testing.assert_array_equal(source[0]["boxes"], [[0, 0, 4, 3]])


def test_boxes_that_leave_the_image_by_a_rounding_are_clipped_and_counted(tmp_path):
    """xmin 0 is a pixel out, xmax 505 of 500 is 1 %."""
    objects = [("dog", (0, 1, 505, 375), False), ("cat", (1, 1, 9, 9), False)]
    voc(tmp_path, ["a", "b"], objects)
    (tmp_path / "Annotations" / "b.xml").write_text(voc_xml(500, 375, objects[1:]))
    source = open_voc(tmp_path, "train")
    assert source.clipped == {}
    for _ in range(2):
        np.testing.assert_array_equal(source[0]["boxes"], [[0, 0, 500, 375], [0, 0, 9, 9]])
        source.truth(1)
        assert source.clipped == {0: 1}
    far = voc_xml(500, 375, [("dog", (1, 1, 506, 375), False)])
    (tmp_path / "Annotations" / "b.xml").write_text(far)
    with pytest.raises(Unreadable, match=r"example 1: box 0, .* lies outside its image"):
        source[1]


def test_bad_requests_are_refused(tmp_path):
    voc(tmp_path, ["a"])
    with pytest.raises(Refused, match="split='tarin' is unknown; nearest: train"):
        open_voc(tmp_path, "tarin")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("\n")
    with pytest.raises(Refused, match=r"train\.txt' lists no image"):
        open_voc(tmp_path, "train")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xe9t\xe9\n")
    with pytest.raises(Refused, match=r"train\.txt' can't be read: 'utf-8' codec"):
        open_voc(tmp_path, "train")


def test_a_name_that_no_file_can_have_is_one_example_s_fault(tmp_path):
    voc(tmp_path, ["a", "b"], size=(3, 4))
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n" + "b" * 300)
    source = open_voc(tmp_path, "train")
    assert len(source.fingerprint) == 66
    assert source[0]["image"].shape == (3, 4, 3)
    with pytest.raises(Unreadable, match="example 1: no name of a file: File name too long"):
        source[1]
