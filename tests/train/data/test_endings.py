"""No picture is left out silently: its ending is read, or refused."""

from image_files import pixels, save
from PIL import Image

from train.data.endings import ENDINGS, UNREAD, ending, is_one


def test_every_ending_that_pillow_knows_is_read_or_refused():
    """But for data, films and documents, which are said as other files are."""
    said = {".bufr", ".grib", ".h5", ".hdf", ".iim", ".mpeg", ".mpg", ".pdf"}
    assert {*Image.registered_extensions()} - said <= ENDINGS | UNREAD
    assert not ENDINGS & UNREAD
    assert {".avif", ".ppm", ".jfif", ".jp2", ".mpo", ".apng", ".jpe"} <= ENDINGS
    assert not {".eps", ".pdf", ".txt", ".h5"} & ENDINGS
    assert {".heic", ".jxl", ".cr2", ".nef", ".svg", ".dcm"} <= UNREAD


def test_a_picture_by_its_content(tmp_path, monkeypatch):
    path = save(tmp_path / "x.png", pixels(8, 8))
    assert is_one(str(path))
    for pixels_at_most in (40, 20):  # Pillow warns, and refuses twice as many
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels_at_most)
        assert is_one(str(path))
    for content in (b"", b"Python", path.read_bytes()[:20]):
        path.write_bytes(content)
        assert not is_one(str(path))


def test_the_ending_of_a_name():
    names = ["a.JPG", "a.b.png ", "a", ".jpg", "a."]
    assert [*map(ending, names)] == [".jpg", ".png", "", "", "."]
