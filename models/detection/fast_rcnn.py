"""Fast R-CNN (Girshick 2015, arXiv:1504.08083): one pass of the backbone, regions from elsewhere.

network = models.create("fastrcnn_vgg16", num_classes=21)
detections = network.apply(variables, image, extent, proposals, valid, method="detect")
"""

from functools import partial

import jax

from models.classification.resnet import ResNet18
from models.detection.box_head import Boxes, pooled
from models.detection.detections import Detections, whole
from models.detection.detector import detector
from models.detection.fpn import FPN
from models.detection.region_network import (
    ON_VGG16,
    VGG16,
    RegionNetwork,
)


class FastRCNN(RegionNetwork):
    """Images and regions of them to what is in these: `models.detection.box_head.Boxes`."""

    def __call__(
        self,
        image: jax.Array,
        proposals: jax.Array | None = None,
        proposal_valid: jax.Array | None = None,
        *,
        train: bool,
    ) -> Boxes:
        """Both steps.

        Args:
            image: (B, H, W, C) floats, normalised.
            proposals: (B, P, 4) x0 y0 x1 y1 in pixels; by default one of each image, all of it, so
                that images alone make every parameter.
            proposal_valid: (B, P) bool; the others are read too, and to be passed over.
            train: see `box_head`.
        """
        del proposal_valid
        if proposals is None:
            proposals = whole(image)[:, None]
        return self.box_head(self.features(image, train=train), proposals, train=train)

    def detect(
        self,
        image: jax.Array,
        extent: jax.Array,
        proposals: jax.Array,
        proposal_valid: jax.Array,
    ) -> Detections:
        """The objects in images.

        Args:
            image, proposals: as in a call.
            extent: (B, 4) x0 y0 x1 y1 of the picture in each, in pixels.
            proposal_valid: (B, P) bool.
        """
        boxes = self(image, proposals, train=False)
        return self.found(boxes, proposals, proposal_valid, extent)


# The threshold of suppression is that of the authors' code.
papers = partial(FastRCNN, **ON_VGG16, pool=pooled, nms_threshold=0.3)
fastrcnn_vgg16 = partial(detector, papers, VGG16)
# Regions of one map, at stride 16, to which the deepest one is added as in a pyramid.
on_resnet18 = partial(
    FastRCNN, maps=(2, 3), neck=partial(FPN, outputs=1), pool=pooled, nms_threshold=0.3
)
fastrcnn_resnet18 = partial(detector, on_resnet18, ResNet18)
