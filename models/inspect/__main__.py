"""The layer table of a network by its name: python -m models.inspect resnet50 --size 224."""

import argparse
import sys
from collections.abc import Callable

from rich.console import Console

import models
from models.inspect.layers import layer_table, rendered


def number(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def numbers(text: str) -> list[int]:
    """One of them, or two with an x between."""
    found = [number(one) for one in text.split("x")]
    if len(found) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is neither one number nor two")
    return found


def main() -> int:
    """Print it; 2 where the network or its input can't be had."""
    parser = argparse.ArgumentParser("python -m models.inspect", description=__doc__)
    parser.add_argument("network", help="one of models.names()")
    sizes = (
        "of the image: 224, or 480x640; of a series, its steps; without it 224, or the next size"
    )
    parser.add_argument("--size", type=numbers, help=f"{sizes} that the network takes")
    parser.add_argument("--channels", type=number, default=3, help="of image or series")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--train", action="store_true", help="as in training: a batch of 2")
    parser.add_argument("--depth", type=int, help="fold what lies deeper in the path")
    chosen = parser.parse_args()
    try:
        network = models.create(chosen.network, num_classes=chosen.classes)
        fitting: Callable[[int], int] = getattr(network, "input_size", int)
        size = chosen.size or [fitting(224)]
        edges = size[:1] if chosen.network in models.names("sequence") else [size[0], size[-1]]
        shape = (2 if chosen.train else 1, *edges, chosen.channels)
        rows = layer_table(network, shape, train=chosen.train, depth=chosen.depth)
    except (TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(rendered(rows, f"{chosen.network} on {' x '.join(map(str, shape))}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
