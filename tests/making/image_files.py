"""Small sets of image files written by hand: `import image_files` in a test."""

import io
import json
import struct
import zlib

import numpy as np
from PIL import Image

ORIENTATION = 0x0112
"""EXIF's tag."""


def pixels(height, width, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def save(path, image, orientation=None, **options):
    """Writes an array or a Pillow image; the folder is made, the format is the name's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    if orientation:
        options["exif"] = Image.Exif()
        options["exif"][ORIENTATION] = orientation
    image.save(path, **options)
    return path


def exif(orientation):
    found = Image.Exif()
    found[ORIENTATION] = orientation
    return found


def chunk(kind, body):
    """Of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(png, *chunks, behind=False):
    """A PNG with chunks before its pixels, or behind them."""
    at = png.index(b"IEND" if behind else b"IDAT") - 4
    return png[:at] + b"".join(chunks) + png[at:]


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def classes(root, counts, size=(3, 4)):
    """root/CLASS/K.png; counts: class -> how many."""
    for c, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for k in range(count):
            save(root / name / f"{k}.png", pixels(*size, seed=100 * c + k))


def jpegs(root, splits, classes=3, sizes=(20, 70)):
    """root/SPLIT/CLASS/K.jpg of many sizes, in colours by which their classes can be told.

    splits: name -> how many of each class. Classes are named as ImageNet's.
    """
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 200, (classes, 3))
    for split, count in splits.items():
        for c, name in enumerate(wnids(classes)):
            for k in range(count):
                shape = (*rng.integers(*sizes, 2, endpoint=True), 3)
                image = np.uint8(colours[c] + rng.integers(0, 56, shape))
                save(root / split / name / f"{name}_{k:02}.jpg", image, quality=90)
    return root


def wnids(count):
    """Names as ImageNet's classes have."""
    return [f"n{1000 + c:08}" for c in range(count)]


COCO = {
    "images": [
        {"id": 7, "file_name": "b.png", "width": 20, "height": 10},
        {"id": 3, "file_name": "sub/a.png", "width": 6, "height": 8},
        {"id": 9, "file_name": "c.png", "width": 5, "height": 5},
    ],
    "categories": [
        {"id": 90, "name": "toothbrush"},
        {"id": 1, "name": "person"},
        {"id": 13, "name": "stop sign"},
    ],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 13, "bbox": [1, 2, 3, 4], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 90, "bbox": [0.5, 0, 19.7, 10.25], "iscrowd": 1},
        {"id": 5, "image_id": 3, "category_id": 1, "bbox": [0, 0, 6, 8]},
    ],
}


def coco(root, changes=(), file="annotations/instances_train2017.json", images="train2017"):
    """A set in COCO's folders; changes: functions of the JSON's contents."""
    given = json.loads(json.dumps(COCO))
    for change in changes:
        change(given)
    for i, one in enumerate(COCO["images"]):
        save(root / images / one["file_name"], pixels(one["height"], one["width"], seed=i))
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(given))
    return root / file, root / images


def voc_xml(width, height, objects):
    """objects: (name, corners as VOC has them, difficult)."""
    said = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"
        "</bndbox></part>"
        + "<bndbox>"
        + "".join(f"<{k}>{v}</{k}>" for k, v in zip(CORNERS, corners, strict=True))
        + "</bndbox></object>"
        for name, corners, difficult in objects
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{said}</annotation>"


CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc(root, names, objects=(), size=(375, 500), mask=None, split="train"):
    """A set in VOC's folders: images of one size with the same objects, or with the same mask."""
    height, width = size
    kind = "Main" if mask is None else "Segmentation"
    lists = root / "ImageSets" / kind
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "Annotations").mkdir(exist_ok=True)
    for i, name in enumerate(names):
        save(root / "JPEGImages" / f"{name}.jpg", pixels(height, width, seed=i))
        if mask is None:
            (root / "Annotations" / f"{name}.xml").write_text(voc_xml(width, height, objects))
        else:
            save(root / "SegmentationClass" / f"{name}.png", palette(mask))


def palette(mask):
    """A mask as VOC stores it: indices into a palette."""
    image = Image.fromarray(mask).convert("P")
    image.putdata(mask.ravel().tolist())
    image.putpalette([(37 * k + 11) % 256 for k in range(768)])
    return image
