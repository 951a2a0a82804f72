"""What the order of the scores says, whatever the threshold."""

import math

import numpy as np


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """How often an example of class 1 has a higher score than one of class 0; a tie counts half.

    That is the area under the ROC curve (Hanley & McNeil 1982). A score that tells nothing has 0.5.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), higher for class 1: a probability, or a difference of logits.

    Returns:
        NaN where it is not defined: a class without examples, a score that is NaN.
    """
    from sklearn.metrics import roc_auc_score  # late: it takes a second

    labels, scores = np.asarray(labels), np.asarray(scores)
    if len(np.unique(labels)) < 2 or np.isnan(scores).any():
        return math.nan
    # Places in place of scores, of which scikit-learn refuses infinite ones.
    _, places = np.unique(scores, return_inverse=True)
    return float(roc_auc_score(labels, places))
