"""Agreement of class-conditional samples with an independent classifier of real images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Agreement(NamedTuple):
    """Share of samples that the classifier assigns to the class asked for; its own accuracy."""

    agreement: float
    test_accuracy: float
    classifier: str


def agreement(
    samples: np.ndarray,
    asked: np.ndarray,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
) -> Agreement:
    """Fit a support vector machine on real features `train` = (x (N, D), label), judge `samples`.

    The classifier knows nothing of the model; its accuracy on real held-out data is stated beside.
    """
    from sklearn.svm import SVC

    classifier = SVC(kernel="rbf", gamma="scale", C=10).fit(*train)
    share = float((classifier.predict(samples) == asked).mean())
    return Agreement(share, float(classifier.score(*test)), "SVC(rbf, gamma=scale, C=10)")
