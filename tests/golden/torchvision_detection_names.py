"""Writes torchvision_detection_names.npz: `python torchvision_detection_names.py`

Needs torchvision, which no test does. What torchvision_names.py writes, of the detectors with
COCO's 91 classes.
"""

import json
import pathlib

import numpy as np
import torch
import torchvision

NAMES = ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "retinanet_resnet50_fpn")
NAMES += ("retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn")


def main():
    shapes = {}
    for name in NAMES:
        with torch.device("meta"):
            network = torchvision.models.get_model(name, weights=None, weights_backbone=None)
        state = network.state_dict()
        shapes[name] = np.array(
            json.dumps({key: list(value.shape) for key, value in state.items()})
        )
    file = pathlib.Path(__file__).with_suffix(".npz")
    np.savez_compressed(file, **shapes)
    print(file.name, file.stat().st_size, [*shapes])


if __name__ == "__main__":
    main()
