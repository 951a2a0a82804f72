import pytest
from image_files import classes

from train.data.named import named, with_validation
from train.refusal import Refused


@pytest.mark.parametrize(
    ("name", "want", "message"),
    [
        ("fodler:/data/pets", "label", "data='fodler' is unknown; nearest: folder"),
        ("fodler:pets", "label", "data='fodler:pets' is unknown; nearest: .*folder:PATH"),
        ("coco", "labels", "want='labels' is unknown; nearest: label"),
        ("folder:", "label", "data='folder:' is no folder; a path follows the colon"),
        ("digits", "boxes", "data='digits' has no boxes; it has label"),
        ("digit_scene", "boxes", "data='digit_scene' is unknown; nearest: digit_scenes"),
        ("digit_scenes", "label", "data='digit_scenes' has no label; it has boxes, mask"),
    ],
)
def test_wrong_names_are_refused_in_one_line(name, want, message):
    with pytest.raises(Refused, match=message) as refused:
        named(name, want)
    assert "\n" not in str(refused.value)


def test_a_wrong_path_names_the_nearest(tmp_path):
    classes(tmp_path / "pets" / "train", {"a": 1})
    with pytest.raises(Refused, match=r"is no folder; .*='pest' is unknown; nearest: pets"):
        named(f"folder:{tmp_path}/pest/x/y")
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match=r"is no folder; .*/file is a file"):
        named(f"coco:{tmp_path}/file", "boxes")
    with pytest.raises(Refused, match="has no boxes; it has label"):
        named(f"folder:{tmp_path}/pets", "boxes")


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    classes(tmp_path / "pets", {"a": 5})
    found = with_validation(named("folder:~/pets"), 0.25)
    assert [len(part) for part in found] == [3, 1, 1]
