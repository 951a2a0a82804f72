"""R-CNN's regions: how many of which kind, what is left out, and a step that learns."""

import jax
import jax.numpy as jnp
import numpy as np

from models.classification.plain import PlainCNN
from models.detection.detections import Images
from models.detection.rcnn import rcnn
from train.tasks.detection.rcnn_loss import batch_sample, rcnn_loss
from train.tasks.detection.regions import RCNN_BATCH
from train.tasks.detection.task import PROPOSALS, detection, first_variables
from train.tasks.detection.truth import Truth


def truth(valid=True, ignored=False):
    return Truth(
        jnp.array([[[0.0, 0, 8, 8]], [[4, 4, 12, 12]]]),
        jnp.array([[1], [0]]),
        jnp.full((2, 1), valid),
        jnp.full((2, 1), ignored),
        jnp.array([True, True]),
    )


NEAR = jnp.array(
    [[[0.0, 0, 8, 7], [8, 8, 16, 16], [0, 0, 2, 2]], [[0, 0, 3, 3], [4, 4, 12, 11], [0, 0, 0, 0]]]
)
THERE = jnp.array([[True, True, True], [True, True, False]])


def drawn(objects, count=6, positives=3):
    how = RCNN_BATCH._replace(number=count, fraction=positives / count)
    return batch_sample(jax.random.key(0), NEAR, THERE, objects, how)[1:]


def test_positive_regions_have_their_objects_class_and_negative_ones_the_background():
    labels, found = drawn(truth())
    assert found.valid.tolist() == [True] * 6
    assert found.positive.tolist() == [True] * 3 + [False] * 3
    kinds = {0: 2, 3: 2, 5: 1, 7: 1}  # region -> class: of an image three proposals, its object
    assert labels[:3].tolist() == [kinds[i] for i in found.indices[:3].tolist()]
    assert sorted(found.indices[3:].tolist()) == [1, 2, 4]
    assert not np.any(labels[3:])


def test_what_overlaps_an_ignored_object_is_no_background():
    """Nor what lies within one: region 2."""
    _, found = drawn(truth(valid=False, ignored=True))
    assert sorted(found.indices[found.valid].tolist()) == [1, 4]


def test_gradients_are_finite_and_0_where_nothing_is_there():
    net = rcnn(PlainCNN, num_classes=3, size=8, context=1, widths=(4,), stages=(1,), channels=(4,))
    variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    image = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    images = Images(image, jnp.array([[0.0, 0, 16, 16]] * 2))
    loss = rcnn_loss(net, box_head=RCNN_BATCH._replace(number=8))

    @jax.jit
    def gradient(objects, there):
        def of(params):
            both = {**variables, "params": params}
            return loss(both, images, objects, jax.random.key(2), NEAR, there)

        return jax.value_and_grad(of, has_aux=True)(variables["params"])

    (value, aux), found = gradient(truth(), THERE)
    assert value > 0
    assert aux.sums["positive_regions"].total == 2
    assert aux.sums["loss"].weight == 5  # two positive, three negative ones are all there are
    assert np.any(found["head"]["kernel"])
    none = truth(valid=False)._replace(counted=jnp.zeros(2, bool))
    (value, _), found = gradient(none, THERE)
    assert value == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found))


def test_as_a_task():
    net = rcnn(PlainCNN, num_classes=3, size=8, context=1, widths=(4,), stages=(1,), channels=(4,))
    task = detection(
        net, loss=rcnn_loss(net), num_classes=2, mean=(9,) * 3, std=(1,) * 3, reads=PROPOSALS
    )
    batch = {
        "image": jnp.full((2, 16, 16, 3), 9, jnp.uint8),
        "boxes": truth().boxes,
        "box_label": truth().labels,
        "box_valid": truth().valid,
        "valid": jnp.array([True, True]),
        "proposals": NEAR,
        "proposal_valid": THERE,
    }
    inputs = task.inputs(batch)
    variables = first_variables(net, jax.random.key(0), inputs)
    value, aux = jax.jit(task.loss)(variables, batch, jax.random.key(1))
    assert value > 0
    assert aux.sums["loss"].weight == 7  # all but the proposal that is none
    found = jax.eval_shape(task.predict, variables, inputs)
    assert found["boxes"].shape == (2, net.limit, 4)
