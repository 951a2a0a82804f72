"""How regions are sampled by the kind of network."""

import pytest

import models
from train.tasks.detection import losses
from train.tasks.detection.regions import BOX_HEAD, FAST_RCNN, FASTER_RCNN, RCNN_BATCH


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("rcnn_resnet18", RCNN_BATCH),
        ("fastrcnn_vgg16", FAST_RCNN),
        ("fasterrcnn_vgg16", FASTER_RCNN),
        ("fasterrcnn_resnet18_fpn", BOX_HEAD),
    ],
)
@pytest.mark.parametrize("regions", [0, 7])
def test_regions_are_sampled_as_the_paper_or_torchvision_does(monkeypatch, name, how, regions):
    network = models.create(name, num_classes=3)
    kind = type(network)
    loss = lambda network, box_head: box_head  # noqa: E731
    monkeypatch.setitem(losses.SAMPLED, kind, (loss, losses.SAMPLED[kind][1]))
    assert losses.loss_of(network, regions) == how._replace(number=regions or how.number)
