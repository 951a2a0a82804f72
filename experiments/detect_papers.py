"""What papers train detectors by, from a classifier's weights: fields of `detect.Config`.

| model | source |
|---|---|
| `rcnn_alexnet` | Girshick et al. 2014, section 2.3, and the authors' rates of biases |
| `fastrcnn_vgg16` | Girshick 2015, sections 2.3 and 4.5 |
| `fasterrcnn_vgg16` | Ren et al. 2015, section 3.1.3 |
| `fasterrcnn_resnet50_fpn` | torchvision's reference: Lin et al. 2017, arXiv:1612.03144 |
| `retinanet_resnet50_fpn` | torchvision's reference: Lin et al. 2017, arXiv:1708.02002 |
| `fcos_resnet50_fpn` | torchvision's reference: Tian et al. 2019, arXiv:1904.01355 |

Epochs are the papers' steps on their sets: 40,000 of 2 images and 80,000 of 1 on VOC 2007, whose
training images are 5,011; torchvision's are its own on COCO. R-CNN's are those of any detector
here: its regions are sampled from many images at once. Weight decay is of kernels alone, as
everywhere here.
"""

from typing import Any

DESCENT: dict[str, Any] = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "schedule": "steps",
    "ema": 0.0,
    "zoom": 1.0,
    "move": 0.0,
    "colour": 0.0,
}
"""Of all: stochastic gradient descent, and of augmentation mirror images alone."""

ON_VGG16: dict[str, Any] = {
    **DESCENT,
    # All below conv3_1 keeps its weights.
    "freeze": ",".join(f"backbone/stage{stage}_conv{i}" for stage in (1, 2) for i in (1, 2)),
    "bias_rate": 2.0,
    "learning_rate": 1e-3,
    "weight_decay": 5e-4,
    "drops": (0.75,),
    "warmup_steps": 0,
    "epochs": 16.0,
}
ON_RESNET50: dict[str, Any] = {
    **DESCENT,
    # The stem and the first stage: torchvision's `trainable_backbone_layers=3`.
    "freeze": ",".join(["backbone/stem", *(f"backbone/stage1_block{i}" for i in (1, 2, 3))]),
    "frozen_norm": True,
    "learning_rate": 0.01,
    "weight_decay": 1e-4,
    "drops": (16 / 26, 22 / 26),
    "batch_size": 16,
    "epochs": 26.0,
}
PAPERS: dict[str, dict[str, Any]] = {
    # The new last layer at ten times the rate: 0.01, as ImageNet's classifier began.
    "rcnn_alexnet": {
        **DESCENT,
        "learning_rate": 1e-3,
        "head_rate": 10.0,
        "bias_rate": 2.0,
        "weight_decay": 5e-4,
        "most_proposals": 2000,
    },
    "fastrcnn_vgg16": {**ON_VGG16, "batch_size": 2, "regions": 64, "most_proposals": 2000},
    "fasterrcnn_vgg16": {**ON_VGG16, "batch_size": 1, "regions": 128},
    "fasterrcnn_resnet50_fpn": {**ON_RESNET50, "learning_rate": 0.02},
    "retinanet_resnet50_fpn": ON_RESNET50,
    "fcos_resnet50_fpn": ON_RESNET50,
}
"""By the model."""
