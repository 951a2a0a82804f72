"""Regions of a map in a fixed size: RoI pooling and RoIAlign, on one map or on a pyramid.

| | source |
|---|---|
| `roi_pool` | Girshick 2015, arXiv:1504.08083, section 2.1: a maximum over whole pixels |
| `roi_align` | He et al. 2017, arXiv:1703.06870, section 3: bilinear samples, averaged |
| `multiscale_roi_align` | Lin et al. 2017, arXiv:1612.03144, equation 1: a level by its area |

Values and gradients are torchvision's. Regions are (B, R, 4), x0 y0 x1 y1 in pixels of the image,
of which image b's are read from map b. No gradient goes to them.
"""

from models.detection.roi.alignment import (
    area_steps,
    inferred_scales,
    multiscale_roi_align,
    roi_align,
)
from models.detection.roi.pooling import roi_pool

__all__ = ["area_steps", "inferred_scales", "multiscale_roi_align", "roi_align", "roi_pool"]
