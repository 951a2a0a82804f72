"""The figure about imbalance: what it says, and that it says it twice alike."""

import numpy as np
import pytest
from PIL import Image

from experiments import imbalance
from experiments.imbalance import METRICS, SHARES, Classifier, main, measured, subset


def test_the_figure_and_its_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(imbalance, "DRAWS", 5)
    path = tmp_path / "new" / "imbalance.png"
    found = main(path)
    assert found.shape == (3, len(SHARES), len(METRICS))
    never, middle, low = (dict(zip(METRICS, one.T, strict=True)) for one in found)
    np.testing.assert_allclose(never["accuracy"], 1 - np.array(SHARES), atol=2e-3)
    for metric, value in (("balanced accuracy", 0.5), ("ROC-AUC", 0.5), ("recall", 0), ("F1", 0)):
        np.testing.assert_allclose(never[metric], value)
    # The warning: at 1 of 100 the better classifier has the lower accuracy, and it alone.
    assert low["accuracy"][0] < never["accuracy"][0]
    for metric in METRICS[1:]:
        assert (low[metric] > never[metric]).all()
    np.testing.assert_array_equal(low["ROC-AUC"], middle["ROC-AUC"])
    with Image.open(path) as image:
        assert image.size == (1425, 840)
    assert "always no" in capsys.readouterr().out
    before = path.read_bytes()
    np.testing.assert_array_equal(main(path), found)
    assert path.read_bytes() == before


def test_six_numbers_by_hand():
    scores = np.array([0.9, 0.1, 0.6, 0.2, 0.3])
    truth = np.array([True, True, False, False, False])
    found = measured(Classifier("c", scores, 0.5, "", "", ""), truth, np.arange(5))
    assert found == pytest.approx([3 / 5, (1 / 2 + 2 / 3) / 2, 1 / 2, 1 / 2, 1 / 2, 3 / 6])


@pytest.mark.parametrize(("share", "yes", "no"), [(0.5, 10, 10), (0.1, 10, 90), (0.01, 1, 90)])
def test_a_set_has_its_share(share, yes, no):
    truth = np.arange(100) < 10
    drawn = subset(truth, share, np.random.default_rng(0))
    assert len(set(drawn)) == len(drawn)
    assert (truth[drawn].sum(), (~truth[drawn]).sum()) == (yes, no)
