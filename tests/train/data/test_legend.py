import codecs

import pytest

from train.data.legend import (
    entries,
    legend_in,
    legend_of,
    listed,
    plain,
    without_background,
)
from train.refusal import Refused

NAMES = ("background", "road", "car")
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\ncar:0,0,142::\n"


@pytest.mark.parametrize(
    "content",
    [
        b"background\nroad\ncar\n",
        b"background\nroad\ncar",
        codecs.BOM_UTF8 + b"background\r\nroad\r\ncar\r\n\r\n \r\n",
        codecs.BOM_UTF16_LE + "background\nroad\ncar\n".encode("utf-16-le"),
        b"  background \n\troad\ncar  \n\n\n",
    ],
)
@pytest.mark.parametrize("name", ["classes.txt", "Classes.TXT", "class_names.txt"])
def test_a_list_is_a_name_a_line(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    legend = legend_in((), tmp_path)
    assert (legend.names, legend.values) == (NAMES, (0, 1, 2))
    assert legend.colours == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    assert legend.usual
    assert legend.origin == str(tmp_path / name)


def test_names_may_have_spaces_and_letters_of_any_script(tmp_path):
    (tmp_path / "classes.txt").write_text("traffic light\n道路\na:b\n", encoding="utf-8")
    assert listed(tmp_path)[0].names == ("traffic light", "道路", "a:b")


def test_a_labelmap_has_colours(tmp_path):
    (tmp_path / "labelmap.txt").write_text(LABELMAP + "ignored:224,224,192::\n")
    legend = legend_in((), tmp_path)
    assert legend.names == NAMES
    assert legend.colours == ((0, 0, 0), (128, 64, 128), (0, 0, 142))
    assert legend.painted
    assert legend.ignored == ((224, 224, 192),)


def test_colours_may_stand_first(tmp_path):
    (tmp_path / "label_colors.txt").write_text("0 0 0 background\n128 64 128\troad\n")
    legend = legend_in((), tmp_path)
    assert (legend.names, legend.colours[1]) == (("background", "road"), (128, 64, 128))


def test_colours_may_stand_in_a_table(tmp_path):
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nbackground,0,0,0\nroad, 128, 64,128\n")
    legend = legend_in((), tmp_path)
    assert (legend.names, legend.colours[1]) == (("background", "road"), (128, 64, 128))


def test_what_is_typed_counts_and_colours_are_those_of_the_file(tmp_path):
    (tmp_path / "labelmap.txt").write_text(LABELMAP)
    assert legend_in(("car", "road"), tmp_path).colours == ((0, 0, 142), (128, 64, 128))
    assert not legend_in(("car", "tree"), tmp_path).painted
    (tmp_path / "classes.txt").write_text("road\nbackground\ncar\n")
    legend = legend_in((), tmp_path)
    assert legend.names == ("road", "background", "car")
    assert legend.colours[0] == (128, 64, 128)


def test_entries_are_cut_at_commas_and_may_say_a_value_or_a_colour():
    assert entries("background, traffic light,car") == ("background", "traffic light", "car")
    assert entries("") == entries("  ") == ()
    legend = legend_of(entries("background,road=255"), "classes")
    assert (legend.names, legend.values, legend.said) == (("background", "road"), (0, 255), True)
    legend = legend_of(entries("background=#000000,road = #804080"), "classes")
    assert legend.colours == ((0, 0, 0), (128, 64, 128))
    assert (legend.painted, legend.values) == (True, (0, 1))
    assert legend_of(("a=b", "c"), "classes").names == ("a=b", "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("background,,car", "classes='background,,car': name 2 is empty"),
        ("background,road,", "name 3 is empty"),
        ("classes.txt", "beside the images, as classes.txt"),
    ],
)
def test_bad_entries_are_refused(text, message):
    with pytest.raises(Refused, match=message):
        entries(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"background\n\ncar\n", r"classes\.txt': name 2 is empty"),
        (b"road\ncar\nroad\n", "has the class 'road' twice"),
        (b"a\nb=0\n", "has the value 0 twice"),
        (b"a:1,1,1::\nb:1,1,1::\n", r"has the colour \(1, 1, 1\) twice"),
        (b"a:1,1,1::\nb\n", "'b' has no colour, and others have one"),
        (b"a:1,1,256::\n", "the colour of 'a', 1,1,256, is beyond 255"),
        (b"\r\n\n", "lists no class"),
        (b"stra\xdfe\n", "can't be read: 'utf-8'"),
    ],
)
def test_a_bad_list_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(Refused, match=message):
        legend_in((), tmp_path)


def test_no_list_is_none(tmp_path):
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "classes.txt").mkdir()
    assert legend_in((), tmp_path) is None


def test_boxes_have_no_background():
    assert without_background(("Background", "car")) == ("car",)
    assert without_background(("car", "background")) == ("car", "background")
    assert plain(("a", "b")).usual
