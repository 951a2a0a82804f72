"""Every augmentation on one colour picture: python experiments/gallery.py

The picture is scikit-learn's china.jpg; where examples are mixed, its partner is flower.jpg. README
shows the one of --out docs/augmentations.jpg.
"""

import dataclasses
import pathlib
import sys

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image
from sklearn.datasets import load_sample_image

from experiments.show_data import OF_SIGNALS, STAGES, sheet
from train import augment
from train.cli import at_home
from train.data.source import About
from train.legible import legible
from train.results import save

COLUMNS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is drawn.

    Attributes:
        seed: of all random numbers; with the default one every coin falls so that it shows.
        side: pixels of a picture.
        out: the gallery.
    """

    seed: int = 408
    side: int = 128
    out: pathlib.Path = pathlib.Path("gallery.jpg")


def picture(name: str, side: int) -> np.ndarray:
    """(side, side, 3) uint8: the middle of one of scikit-learn's pictures."""
    image = Image.fromarray(load_sample_image(name))
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    square = image.crop((left, top, left + short, top + short))
    return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS))


def main(config: Config) -> Image.Image:
    """Draw the gallery and write it."""
    images = np.stack([picture(name, config.side) for name in ("china.jpg", "flower.jpg")])
    mean = tuple(images.reshape(-1, 3).mean(0).tolist())
    about = About("pictures", "", ("temple", "flower"), True, images.shape[1:], mean)
    batch = {
        "image": jnp.asarray(images),
        "label": jnp.arange(2, dtype=jnp.int32),
        "index": jnp.arange(2, dtype=jnp.int32),
        "epoch": jnp.ones(2, jnp.int32),  # one in which the first is mirrored by `alternating_flip`
    }
    shown = {"as it is": images[0]}
    for name in [name for name in STAGES if name not in OF_SIGNALS]:
        stages = STAGES[name]
        change = jax.jit(augment.chain(*stages(about), fill=mean))
        shown[name] = np.asarray(change(jax.random.key(config.seed), batch)["image"][0])
    cells = [
        (Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)), name)
        for name, pixels in shown.items()
    ]
    rows = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    drawn = sheet(rows, [""] * COLUMNS)
    out = at_home(config.out)
    save(drawn, out, field="out", quality=88)
    print(legible(f"{len(shown) - 1} augmentations: {out}"))
    return drawn


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
