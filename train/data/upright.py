"""Which side of a picture is up, by its EXIF or XMP; what of that cannot be read turns nothing."""

from PIL import ExifTags, Image, ImageFile

from models.pretrained.picture import TURNS

SIDEWAYS = frozenset(TURNS[i] for i in (5, 6, 7, 8))


def turn(image: Image.Image) -> Image.Transpose | None:
    """What makes the pixels of a file upright; None where they are, or it does not say.

    A TIFF is turned by Pillow itself as it is loaded, and then says nothing more. A PNG may have
    its EXIF behind its pixels: load it first.
    """
    try:
        # Not a PNG's own, which would load it.
        return TURNS.get(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # of bytes that are no EXIF: OSError, SyntaxError, struct.error, ...
        return None


def size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """(height, width) of the upright picture, of one that is opened and not loaded."""
    if ExifTags.Base.Orientation in getattr(image, "tag_v2", ()):
        return image.height, image.width  # of a TIFF that says so, Pillow gives it upright
    return image.size if turn(image) in SIDEWAYS else image.size[::-1]
