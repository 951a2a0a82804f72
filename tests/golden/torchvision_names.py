"""Writes torchvision_names.npz, what torchvision calls its tensors: `python torchvision_names.py`

Needs torchvision, which no test does. NAME -> JSON, name -> shape of each tensor of the state_dict
with ImageNet's 1000 classes, or PASCAL VOC's 21 for segmentation, and with the auxiliary heads.
"""

import json
import pathlib

import numpy as np
import torch
import torchvision

FAMILIES = ("alexnet", "vgg", "googlenet", "inception", "resnet", "resnext", "wide_resnet")
NAMES = [
    name
    for name in torchvision.models.list_models(module=torchvision.models)
    if name.startswith(FAMILIES)
]
SEGMENTATION = [
    name
    for name in torchvision.models.list_models(module=torchvision.models.segmentation)
    if "resnet" in name
]
INITIALISED = ("googlenet", "inception_v3")


def main():
    shapes = {}
    for name in NAMES + SEGMENTATION:
        fields = {"init_weights": False} if name in INITIALISED else {}
        if name in SEGMENTATION:
            fields = {"weights_backbone": None, "aux_loss": True}
        with torch.device("meta"):
            state = torchvision.models.get_model(name, **fields).state_dict()
        shapes[name] = np.array(
            json.dumps({key: list(value.shape) for key, value in state.items()})
        )
    file = pathlib.Path(__file__).with_suffix(".npz")
    np.savez_compressed(file, **shapes)
    print(file.name, file.stat().st_size, [*shapes])


if __name__ == "__main__":
    main()
