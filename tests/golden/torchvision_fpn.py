"""Writes torchvision_fpn.npz: the maps of torchvision's feature pyramids, every value.

Needs torch and torchvision, which no test does: `python torchvision_fpn.py`.
"""

import collections
import pathlib

import numpy as np
import torch
from torch import nn
from torchvision.ops import feature_pyramid_network as pyramids
from torchvision_inputs import drawn, weights

SIZES = ((13, 22), (7, 11), (3, 6))
"""Height and width of the maps: odd ones too, and one that is not half of the one before."""
CHANNELS = (2, 3, 4)
WIDTH = 5
CASES = {
    "pool": (pyramids.LastLevelMaxPool, None),
    "from backbone": (lambda: pyramids.LastLevelP6P7(CHANNELS[-1], WIDTH), None),
    "from pyramid": (lambda: pyramids.LastLevelP6P7(WIDTH, WIDTH), nn.BatchNorm2d),
}


def main():
    """Writes the file beside this script."""
    given = [drawn(f"map{h}", (2, h, w, c)) for (h, w), c in zip(SIZES, CHANNELS, strict=True)]
    out = {}
    for name, (extra, norm) in CASES.items():
        network = pyramids.FeaturePyramidNetwork([*CHANNELS], WIDTH, extra(), norm).eval()
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        state = {key: torch.from_numpy(np.array(v)) for key, v in weights(shapes).items()}
        network.load_state_dict(state)
        maps = {str(n): torch.from_numpy(x).permute(0, 3, 1, 2) for n, x in enumerate(given)}
        with torch.no_grad():
            found = network(collections.OrderedDict(maps))
        for number, value in enumerate(found.values()):
            out[f"{name}/{number}"] = value.permute(0, 2, 3, 1).numpy()
    np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **out)


if __name__ == "__main__":
    main()
