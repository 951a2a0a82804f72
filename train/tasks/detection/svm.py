"""R-CNN's last stages on the host: linear SVMs with hard negatives, ridge regressors of boxes."""

import numpy as np

NORM = 20.0
"""Mean norm that features are scaled to, as in the authors' code: so penalties fit any network."""
COST = 1e-3
"""C of the SVMs, on features of that norm; positives weigh twice."""
MARGIN = -1.0
"""A negative is hard from this score on."""
FIRST = 2000
"""Negatives that the first SVM of a class is fitted to, drawn by a seed."""
RIDGE = 1000.0
"""Penalty of the regressors (Girshick et al. 2014, appendix C)."""


def hard_mined(
    features: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    *,
    seed: int,
    rounds: int = 3,
    chunk: int = 16_384,
) -> tuple[np.ndarray, float]:
    """One class's linear SVM, (D,) and its bias (Girshick et al. 2014, section 2.3).

    Fitted to the positives and some negatives, then again with all negatives that it finds hard,
    until there are no new ones. With the squared hinge, whose solver draws nothing.

    Args:
        features: (N, D) float32, an array or a memory map, read `chunk` rows at a time.
        positive: (N,) bool: the objects themselves.
        negative: (N,) bool: regions that overlap no object of the class by 0.3.
        seed: of the first negatives.
        rounds: most minings.
        chunk: rows.

    Returns:
        Without a positive region, or without a negative one, 0 and -1: a class never seen is none.
    """
    from sklearn.svm import LinearSVC  # a second of imports

    yes, no = np.flatnonzero(positive), np.flatnonzero(negative)
    if not len(yes) or not len(no):
        return np.zeros(features.shape[1], np.float32), -1.0
    scale = NORM / max(float(np.linalg.norm(features[yes], axis=1).mean()), 1e-12)
    rng = np.random.Generator(np.random.Philox(key=seed))
    cache = np.sort(no[np.argsort(rng.random(len(no)), kind="stable")[:FIRST]])
    weights, bias = np.zeros(features.shape[1]), 0.0
    for _ in range(1 + rounds):
        rows = np.concatenate([yes, cache])
        machine = LinearSVC(
            C=COST, dual=False, class_weight={1: 2.0, 0: 1.0}, intercept_scaling=10.0, max_iter=5000
        )
        machine.fit(features[rows].astype(np.float64) * scale, np.arange(len(rows)) < len(yes))
        weights, bias = machine.coef_[0] * scale, float(machine.intercept_[0])
        scored = [features[no[at : at + chunk]] @ weights + bias for at in range(0, len(no), chunk)]
        hard = np.union1d(cache, no[np.concatenate(scored) > MARGIN])
        if len(hard) == len(cache):
            break
        cache = hard
    return weights.astype(np.float32), bias


def box_regressor(
    pooled: np.ndarray, targets: np.ndarray, *, penalty: float = RIDGE
) -> tuple[np.ndarray, np.ndarray]:
    """One class's regressor of dx dy dw dh: (F, 4) and (4,) (appendix C).

    For the fit features are scaled to a mean norm of `NORM`; the weights are for those as they are.

    Args:
        pooled: (n, F), of proposals that overlap an object of the class by 0.6.
        targets: (n, 4), see `models.detection.boxes.encode`.
        penalty: of the squared weights, not of the bias.

    Returns:
        Zeros where there are no proposals: boxes stay.
    """
    from sklearn.linear_model import Ridge

    if not len(pooled):
        return np.zeros((pooled.shape[1], 4), np.float32), np.zeros(4, np.float32)
    scale = NORM / max(float(np.linalg.norm(pooled, axis=1).mean()), 1e-12)
    scaled = pooled.astype(np.float64) * scale
    fitted = Ridge(alpha=penalty).fit(scaled, targets.astype(np.float64))
    return (scale * fitted.coef_.T).astype(np.float32), fitted.intercept_.astype(np.float32)
