import pickle

import numpy as np
import pytest
from image_files import pixels, save, voc, voc_xml

from train.data.decode import Unreadable
from train.data.mask_folder import splits
from train.data.named import named
from train.data.voc import CLASSES
from train.refusal import Refused

MASK = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
NAMES = ("background", "road", "car")


def pairs(images, masks, names="abcde", ending="jpg", behind="", mask=MASK):
    """Images, and masks that differ in their last pixel."""
    for i, name in enumerate(names):
        save(images / f"{name}.{ending}", pixels(*mask.shape, seed=i))
        own = mask.copy()
        own[-1, -1] = i % 2
        save(masks / f"{name}{behind}.png", own[..., None])


def names_of(source):
    return [source.name(i).rpartition("/")[2] for i in range(len(source))]


def test_images_and_masks_side_by_side(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks")
    (tmp_path / "classes.txt").write_text("background\nroad\ncar\n")
    found = named(f"folder:{tmp_path}", "mask")
    assert [len(part) if part else None for part in found] == [4, None, 1]
    about = found.train.about
    assert (about.name, about.split, about.mask_classes) == (tmp_path.name, "train", NAMES)
    assert (about.classes, about.shape, found.train.notes) == ((), None, ())
    assert about.colours == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    whole = sorted(names_of(found.train) + names_of(found.test))
    assert whole == [f"{name}.jpg" for name in "abcde"]
    for part in (found.train, found.test):
        for i in range(len(part)):
            example = part[i]
            assert example["image"].shape == (2, 3, 3)
            last = ord(part.name(i)[-5]) - ord("a")
            assert example["mask"][-1, -1] == last % 2
            np.testing.assert_array_equal(example["mask"], part.truth(i)["mask"], strict=True)
    again = pickle.loads(pickle.dumps(found.train))
    np.testing.assert_array_equal(again[0]["mask"], found.train[0]["mask"])


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"),
        ("Images", "Labels"),
        ("imgs", "annotations"),
        ("img", "mask"),
        ("JPEGImages", "SegmentationClass"),
        ("IMAGE", "GT"),
    ],
)
def test_the_usual_names(tmp_path, images, masks):
    pairs(tmp_path / images, tmp_path / masks, "ab")
    found = splits(tmp_path)
    assert [path.name for path in found["train"].images] == ["a.jpg", "b.jpg"]
    assert [path.name for path in found["train"].masks] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "dev", "Test")],
)
@pytest.mark.parametrize("above", [True, False])
def test_splits_above_or_below(tmp_path, train, val, test, above):
    for split, names in {train: "abc", val: "de", test: "f"}.items():
        if above:
            pairs(tmp_path / split / "images", tmp_path / split / "masks", names)
        else:
            pairs(tmp_path / "images" / split, tmp_path / "masks" / split.lower(), names)
    found = named(f"folder:{tmp_path}", "mask", NAMES)
    assert [names_of(part) for part in found] == [
        ["a.jpg", "b.jpg", "c.jpg"],
        ["d.jpg", "e.jpg"],
        ["f.jpg"],
    ]
    assert [part.about.split for part in found] == ["train", "validation", "test"]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("train", "train_masks"),
        ("Train", "trainannot"),
        ("train_images", "train_labels"),
        ("images_train", "masks_train"),
        ("training", "training-gt"),
    ],
)
def test_folders_called_by_split(tmp_path, images, masks):
    pairs(tmp_path / images, tmp_path / masks, "abc")
    pairs(tmp_path / "val", tmp_path / "val_labels", "de")
    found = named(f"folder:{tmp_path}", "mask", NAMES)
    assert names_of(found.train) + names_of(found.test) == [f"{n}.jpg" for n in "abcde"]
    assert found.train.notes == ()
    pairs(tmp_path / "val_mask", tmp_path / "x", "de")
    refuse("has two folders for validation: val_labels and val_mask", tmp_path)


def test_case_tells_names_apart_or_not(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks", ("IMG_1", "Img_2"))
    for name in ("IMG_1", "Img_2"):
        mask = tmp_path / "masks" / f"{name}.png"
        mask.rename(mask.with_name(f"{name.lower()}_Mask.png"))
    found = splits(tmp_path)["train"]
    assert [path.name for path in found.masks] == ["img_1_Mask.png", "img_2_Mask.png"]
    pairs(tmp_path / "x" / "images", tmp_path / "x" / "masks", ("a", "A"))
    assert [path.name for path in splits(tmp_path / "x")["train"].masks] == ["A.png", "a.png"]


def test_a_test_split_without_masks_is_said(tmp_path):
    for split, names in {"train": "abc", "val": "de"}.items():
        pairs(tmp_path / split / "images", tmp_path / split / "masks", names)
    pairs(tmp_path / "test" / "images", tmp_path / "unused" / "x", "fg")
    found = named(f"folder:{tmp_path}", "mask", NAMES)
    assert found.validation is None
    assert names_of(found.test) == ["d.jpg", "e.jpg"]
    assert found.train.notes == (f"Not used in {tmp_path}: test, unused.",)


@pytest.mark.parametrize("behind", ["_mask", "_seg", "_L", "_P", "-label", ".mask", " mask"])
def test_masks_may_have_one_thing_behind_their_names(tmp_path, behind):
    pairs(tmp_path / "images", tmp_path / "masks", ("1", "11", "a_1"), behind=behind)
    found = splits(tmp_path)["train"]
    assert [path.stem for path in found.images] == ["1", "11", "a_1"]
    assert [path.stem for path in found.masks] == [f"{n}{behind}" for n in ("1", "11", "a_1")]


def test_endings_don_t_count(tmp_path):
    for name in ("a.JPG", "b.jpeg", "c.PNG", "d.bmp", "e.tif", "f.webp", "g.ppm"):
        save(tmp_path / "images" / name, pixels(2, 3))
    for name in ("a.PNG", "b.png", "c.bmp", "d.tif", "e.Tiff", "f.bmp", "g.pgm"):
        save(tmp_path / "masks" / name, MASK[..., None])
    (tmp_path / "masks" / "notes.txt").write_text("")
    (tmp_path / "images" / ".hidden.jpg").write_text("")
    found = named(f"folder:{tmp_path}", "mask", NAMES)
    assert len(found.train) + len(found.test) == 7
    assert found.train.notes == ()
    for part in (found.train, found.test):
        for i in range(len(part)):
            np.testing.assert_array_equal(part[i]["mask"], MASK)


def test_folders_below_are_of_the_name(tmp_path):
    for place in ("x", "y/z"):
        pairs(tmp_path / "images" / place, tmp_path / "masks" / place, "ab")
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images")
    found = splits(tmp_path)["train"]
    assert [str(path.relative_to(tmp_path / "masks")) for path in found.masks] == [
        "x/a.png",
        "x/b.png",
        "y/z/a.png",
        "y/z/b.png",
    ]


def test_what_has_no_partner_is_counted_by_name(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks", "abcdefgh")
    for name in "abcd":
        (tmp_path / "masks" / f"{name}.png").unlink()
    (tmp_path / "images" / "e.jpg").unlink()
    found = named(f"folder:{tmp_path}", "mask", NAMES)
    assert len(found.train) + len(found.test) == 3
    assert found.train.notes == (
        f"Left out: 4 images have no mask in {tmp_path}/masks: a.jpg, b.jpg, c.jpg, ….",
        f"Left out: 1 mask has no image in {tmp_path}/images: e.png.",
    )


def test_a_link_to_nothing_is_said_when_it_is_read(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks", "abc")
    (tmp_path / "masks" / "b.png").unlink()
    (tmp_path / "masks" / "b.png").symlink_to(tmp_path / "gone.png")
    found = named(f"folder:{tmp_path}", "mask", NAMES)
    parts = [part for part in (found.train, found.test) if "b.jpg" in names_of(part)]
    i = names_of(parts[0]).index("b.jpg")
    with pytest.raises(Unreadable, match=rf"masks/b\.png, example {i}: the file does not exist"):
        parts[0][i]


def refuse(message, tmp_path, **how):
    with pytest.raises(Refused, match=message) as refused:
        named(f"folder:{tmp_path}", "mask", **how)
    assert "\n" not in str(refused.value)


def test_layouts_that_are_none_are_refused_with_what_is_wanted(tmp_path):
    pairs(tmp_path / "data" / "images", tmp_path / "data" / "masks")
    refuse(r"holds no images/ and masks/; .*/data does: name that", tmp_path)


def test_a_folder_of_classes_is_none_of_masks(tmp_path):
    save(tmp_path / "cat" / "a.png", pixels(2, 3))
    refuse("holds no folders of images and masks: wanted are .*; its folders: cat", tmp_path)


def test_what_is_not_clear_is_refused(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks", "ab")
    save(tmp_path / "images" / "a.png", pixels(2, 3))
    refuse(r"images/a\.jpg and .*images/a\.png have one name", tmp_path)
    (tmp_path / "images" / "a.png").unlink()
    pairs(tmp_path / "gone", tmp_path / "labels", "ab")
    refuse("holds both labels and masks: which", tmp_path)


def test_empty_label_folders_are_no_second(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks", "ab")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 1 1")
    assert len(splits(tmp_path)["train"].masks) == 2


def test_two_folders_of_one_split_are_refused(tmp_path):
    for split in ("train", "val", "valid"):
        pairs(tmp_path / split / "images", tmp_path / split / "masks", "ab")
    refuse("has two folders for validation: val and valid", tmp_path)


def test_names_that_have_nothing_in_common_are_refused(tmp_path):
    pairs(tmp_path / "images", tmp_path / "x", "ab")
    pairs(tmp_path / "y", tmp_path / "masks", "cd")
    refuse(
        r"no image in .* has a mask in .*: their names differ, such as a\.jpg and c\.png", tmp_path
    )


def test_masks_a_folder_further_down_are_named_with_it(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks" / "trimaps", "ab")
    refuse(r"their names differ, such as a\.jpg and trimaps/a\.png", tmp_path)


def test_a_test_split_is_never_trained_on(tmp_path):
    for split in ("trainval", "test"):
        pairs(tmp_path / "images" / split, tmp_path / "masks" / split, "ab")
    refuse(
        "has no training split: neither .*/images/train nor .*/masks/train; it has test$", tmp_path
    )


def test_links_above_are_not_entered(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks")
    (tmp_path / "images" / "up").symlink_to(tmp_path)
    assert splits(tmp_path)["train"].notes == ()


@pytest.mark.parametrize("split", [".", "train"])
def test_images_and_masks_are_no_classes(tmp_path, split):
    pairs(tmp_path / split / "Images", tmp_path / split / "labels", "ab")
    with pytest.raises(Refused, match=r"in Images and labels, and no classes: .*segment\.py takes"):
        named(f"folder:{tmp_path}")


def test_one_class_is_refused(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks", "ab", mask=MASK * 0)
    with pytest.raises(Refused, match=r"classes='road': .* --classes background,road"):
        named(f"folder:{tmp_path}", "mask", ("road",))
    (tmp_path / "classes.txt").write_text("road\n")
    refuse(r"/classes\.txt': masks of one class", tmp_path)


def test_a_mask_of_another_class_or_size_is_its_examples_fault(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks", "ab")
    save(tmp_path / "images" / "c.png", pixels(2, 3))
    save(tmp_path / "masks" / "c.png", MASK[..., None])
    save(tmp_path / "masks" / "b.png", MASK.T[..., None])
    found = named(f"folder:{tmp_path}", "mask", ("background", "road", "car")[:2])
    said = []
    for part in (found.train, found.test):
        for i in range(len(part)):
            with pytest.raises(Unreadable) as caught:
                part[i]
            said.append(str(caught.value))
    assert sum("of class 2, outside the 2 classes 0..1" in each for each in said) == 2
    assert sum("the mask is 2x3, its image 3x2" in each for each in said) == 1


def test_the_fingerprint_sees_classes_and_files(tmp_path):
    for place in "abc":
        pairs(tmp_path / place / "images", tmp_path / place / "masks")
    (tmp_path / "c" / "images" / "a.jpg").rename(tmp_path / "c" / "images" / "z.jpg")
    (tmp_path / "c" / "masks" / "a.png").rename(tmp_path / "c" / "masks" / "z.png")
    prints = [
        named(f"folder:{tmp_path / place}", "mask", classes).train.fingerprint
        for place, classes in [
            ("a", NAMES),
            ("b", NAMES),
            ("c", NAMES),
            ("a", (*NAMES, "tree")),
            ("a", ("background", "road", "car=255")),
        ]
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_without_a_list_the_classes_are_the_values(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks")
    train = named(f"folder:{tmp_path}", "mask").train
    assert train.about.mask_classes == ("0", "1", "2")
    assert "No list of classes: they are the values that all 5 training masks" in train.notes[0]


def test_binary_masks_of_255(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks", "a")
    for name in "bcd":
        save(tmp_path / "images" / f"{name}.jpg", pixels(2, 3))
        save(tmp_path / "masks" / f"{name}.png", (MASK % 2 * 255)[..., None])
    (tmp_path / "images" / "a.jpg").unlink()
    (tmp_path / "masks" / "a.png").unlink()
    for classes, names in (((), ("0", "255")), (("ground", "road"), ("ground", "road"))):
        train = named(f"folder:{tmp_path}", "mask", classes).train
        assert train.about.mask_classes == names
        np.testing.assert_array_equal(train[0]["mask"], [[0, 1, 0], [0, 1, 0]])
        assert len(train.notes) == 1


# --- VOC's folders with other classes ----------------------------------------------------------


def test_voc_folders_with_own_classes(tmp_path):
    root = tmp_path / "mine"
    voc(root, "abc", size=(2, 3), mask=MASK)
    with pytest.raises(Refused, match=r"mine' is not VOC itself.*--classes background,NAME,… does"):
        named(f"voc:{root}", "mask")
    found = named(f"voc:{root}", "mask", NAMES).train
    assert (found.about.mask_classes, found.about.mirror) == (NAMES, None)
    np.testing.assert_array_equal(found[0]["mask"], MASK)
    (root / "labelmap.txt").write_text("# label:color_rgb\nground:0,0,0::\na:9,9,9::\nb:7,8,9::\n")
    about = named(f"voc:{root}", "mask").train.about
    assert about.mask_classes == ("ground", "a", "b")
    assert about.colours[2] == (7, 8, 9)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    assert named(f"voc:{root}", "mask").train.about.mask_classes == ("background", *CLASSES)


def test_voc_itself_needs_no_list(tmp_path):
    voc(tmp_path / "VOCdevkit" / "VOC2012", "abc", size=(2, 3), mask=MASK)
    about = named(f"voc:{tmp_path}", "mask").train.about
    assert (about.mask_classes, about.mirror) == (("background", *CLASSES), True)
    voc(tmp_path / "copy", "abc", size=(2, 3), mask=MASK)
    lists = tmp_path / "copy" / "ImageSets" / "Main"
    lists.mkdir()
    (lists / "aeroplane_train.txt").write_text("a -1\n")
    assert named(f"voc:{tmp_path / 'copy'}", "mask").train.about == about.__class__(
        **{**about.__dict__, "name": "copy"}
    )


def test_an_earlier_run_goes_on_with_its_classes(tmp_path):
    root = tmp_path / "mine"
    voc(root, "abc", size=(2, 3), mask=MASK)
    vocs = ("background", *CLASSES)
    before = named(f"voc:{root}", "mask", vocs).train
    later = named(f"voc:{root}", "mask", earlier=vocs).train
    assert later.about.mask_classes == vocs
    assert later.fingerprint == before.fingerprint
    assert named(f"voc:{root}", "mask", earlier=NAMES).train.about.mask_classes == NAMES
    (root / "classes.txt").write_text("a\nb\nc\n")
    about = named(f"voc:{root}", "mask", earlier=vocs).train.about
    assert about.mask_classes == ("a", "b", "c")


@pytest.mark.parametrize("listed", ["background\nroad\ncar", None])
def test_a_run_whose_list_is_gone_goes_on(tmp_path, listed):
    mask = MASK if listed else np.where(MASK == 2, np.uint8(200), MASK % 255)
    pairs(tmp_path / "images", tmp_path / "masks", mask=mask)
    if listed:
        (tmp_path / "classes.txt").write_text(listed)
    before = named(f"folder:{tmp_path}", "mask").train
    (tmp_path / "classes.txt").unlink(missing_ok=True)
    later = named(f"folder:{tmp_path}", "mask", earlier=before.about.mask_classes).train
    assert later.about.mask_classes == (NAMES if listed else ("0", "1", "200"))
    assert later.fingerprint == before.fingerprint
    np.testing.assert_array_equal(later[0]["mask"], before[0]["mask"])


def test_boxes_have_the_classes_of_the_list(tmp_path):
    root = tmp_path / "mine"
    voc(root, "abc", [("knife", (1, 1, 3, 2), False)], size=(2, 3))
    for classes in (("background", "fork", "knife"), ("fork", "knife")):
        found = named(f"voc:{root}", "boxes", classes).train
        assert found.about.classes == ("fork", "knife")
        assert found[0]["box_label"].tolist() == [1]
    (root / "classes.txt").write_text("fork\nknife\n")
    assert named(f"voc:{root}", "boxes").train.about.classes == ("fork", "knife")
    (root / "classes.txt").unlink()
    (root / "Annotations" / "a.xml").write_text(voc_xml(3, 2, []))
    assert named(f"voc:{root}", "boxes").train.about.classes == CLASSES


@pytest.mark.parametrize(
    ("lists", "sizes"),
    [
        ({"default": "abcde"}, [4, None, 1]),
        ({"trainval": "abc", "test": "de"}, [3, None, 2]),
        ({"Train": "abc", "Val": "d", "Test": "e"}, [3, 1, 1]),
        ({"train": "abc", "val": "d", "trainval": "abcd"}, [3, None, 1]),
    ],
)
def test_the_lists_of_exporters(tmp_path, lists, sizes):
    for split, names in lists.items():
        voc(tmp_path, names, size=(2, 3), mask=MASK, split=split)
    found = named(f"voc:{tmp_path}", "mask", NAMES)
    assert [None if part is None else len(part) for part in found] == sizes


@pytest.mark.parametrize("name", ["digits", "coco:{}", "folder:{}"])
def test_classes_of_a_set_that_has_its_own_are_refused(tmp_path, name):
    with pytest.raises(Refused, match=r"classes='a,b': label of .* has its own classes"):
        named(name.format(tmp_path), "label", ("a", "b"))
