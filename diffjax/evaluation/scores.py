"""Scores of samples by a classifier or a text-image network, in float64 on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax, xlogy

from diffjax.evaluation.beforehand import Counts, checked, counting, needing
from diffjax.evaluation.resampling import FEWEST, Rows, extrapolated, with_intervals
from diffjax.evaluation.samples import Real, Samples, lacks
from diffjax.files import reason


def score(logits: np.ndarray) -> float:
    """Return exp E KL(p(y | x) | p(y)) for logits (N, K) of p(y | x) (arXiv:1606.03498, sec. 4)."""
    log_p = log_softmax(np.asarray(logits, np.float64), axis=1)
    p = np.exp(log_p)
    mean = p.mean(0)
    return float(np.exp((p * log_p).sum(1).mean() - xlogy(mean, mean).sum()))


def _parts(counts: Counts, splits: int = 10, **_: Any) -> None:
    """Raise ValueError for parts of fewer than two samples, and for no line in 1 / N."""
    if counts.samples < (least := max(2 * splits, FEWEST)):
        raise ValueError(
            f"splits={splits}: there are {counts.samples} samples; needs at least {least}"
        )


@counting(_parts)
@needing("logits")
def inception_score(
    real: Real, samples: Samples, splits: int = 10, resamples: int = 20
) -> dict[str, Any]:
    """Compute the Inception score (arXiv:1606.03498), with the logits of Inception.

    It is high where each sample is of a recognised class and there are many classes. The value is
    the mean over `splits` random parts, with its `deviation`; `infinity` is the extrapolation to
    infinitely many samples (arXiv:1911.07023). Raises ValueError for an extractor without logits,
    and for too many splits.

    >>> import functools
    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    >>> inception_score(real, Samples(real.train.x, None))
    Traceback (most recent call last):
    ValueError: features=pixels: ...
    """
    logits = real.need(samples, "logits")
    if not 0 < 2 * splits <= len(logits):
        raise ValueError(f"inception_score: splits={splits}: needs 1 to {len(logits) // 2} splits")

    def values(rows: Rows) -> dict[str, float]:
        # Samples may be ordered by class; parts in that order would have few classes each.
        x = np.random.Generator(np.random.Philox(key=0)).permutation(logits[rows])
        scores = [score(part) for part in np.array_split(x, splits)]
        return {"score": float(np.mean(scores)), "deviation": float(np.std(scores))}

    measured = with_intervals(values, len(logits), resamples, samples.label)
    limit = extrapolated(lambda rows: score(logits[rows]), len(logits))
    return measured | {"infinity": limit, "splits": splits}


def _with_classes(counts: Counts, **_: Any) -> None:
    """Raise ValueError for samples without classes."""
    if not counts.classes:
        raise ValueError("the samples have no classes; allowed: the other metrics")


@counting(_with_classes)
def classifier(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Compute the share of samples that an independent classifier assigns to their class.

    The result also has the accuracy of the classifier on held-out items. Raises ValueError where
    samples or items have no classes.

    >>> import functools
    >>> from diffjax import data
    >>> real = Real(functools.partial(data.checkerboard, size=40), data.Reading(), 40, Path())
    >>> classifier(real, Samples(real.train.x, None))
    Traceback (most recent call last):
    ValueError: classifier: ...
    """
    if not real.classes or samples.label is None:
        raise ValueError(
            "classifier: the samples or the data have no classes; allowed: the other metrics"
        )
    judge, test = real.judge, real.test
    right = judge.right(samples.x, samples.label)
    values = lambda rows: {"agreement": float(right[rows].mean())}
    measured = with_intervals(values, len(right), resamples, samples.label, shares=("agreement",))
    accuracy = float(judge.right(test.x, test.labels()).mean())
    return measured | {"test_accuracy": accuracy, "classifier": judge.about}


NO_CAPTIONS = (
    "clip_score: captions: needs a text file with one line per class or sample, unless samples "
    "have the captions of held-out items"
)


def _captions_in(captions: str = "", **_: Any) -> list[str]:
    """Read the lines of a file of captions, if any; raise ValueError where it cannot be read."""
    if not captions:
        return []
    try:
        return Path(captions).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        why = reason(error)
        raise ValueError(f"clip_score: captions={captions}: cannot be read ({why})") from error


def _captioned(counts: Counts, captions: str = "", **_: Any) -> None:
    """Raise ValueError for captions that are neither of the samples nor of their classes."""
    if not captions:
        if not counts.cases:
            raise ValueError(NO_CAPTIONS)
        return
    _match(captions, _captions_in(captions), counts.samples, counts.classes)


def _match(path: str, lines: list[str], samples: int, classes: int) -> None:
    if len(lines) not in (samples, classes):
        wanted = f"{samples}, one per sample, or {classes}, one per class"
        raise ValueError(f"clip_score: captions={path}: has {len(lines)} lines; needs {wanted}")


@counting(_captioned)
@needing("captions")
@checked(_captions_in)
def clip_score(
    real: Real, samples: Samples, captions: str = "", scale: float = 100.0, resamples: int = 20
) -> dict[str, Any]:
    """Compute the CLIP score of samples and captions: scale max(cos, 0) of their features.

    The scale is 2.5 in the paper (arXiv:2104.08718) and 100 in most published numbers. captions: a
    text file with one line per class or per sample, by default the captions of the held-out items
    that samples were drawn for. Raises ValueError for an extractor without captions, for another
    number of lines, and for samples without captions.

    >>> import functools
    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    >>> clip_score(real, Samples(real.train.x, None), captions="texts.txt")
    Traceback (most recent call last):
    ValueError: features=pixels: ...
    """
    captioned = real.extractor.captions
    if captioned is None:
        raise ValueError(lacks(real.extractor.name, "captions"))
    x, texts = real.of(samples)["pool"], captioned(_lines(captions, real, samples))
    if len(texts) != len(x):
        texts = texts[samples.label]
    each = similarity(x, texts, scale)
    values = lambda rows: {"score": float(each[rows].mean())}
    return with_intervals(values, len(x), resamples, samples.label) | {"scale": scale}


def _lines(path: str, real: Real, samples: Samples) -> list[str]:
    """Return the captions of samples or of their classes; raise ValueError for another number."""
    if not path:
        own = [] if samples.asked is None else real.test.captions(samples.asked)
        if not own or not all(own):
            raise ValueError(NO_CAPTIONS)
        return [texts[0] for texts in own]
    lines = _captions_in(path)
    _match(path, lines, len(samples.x), 0 if samples.label is None else real.classes)
    return lines


def similarity(images: np.ndarray, texts: np.ndarray, scale: float = 100.0) -> np.ndarray:
    """Return scale max(cos, 0) of each row of images (N, D) with that of texts (N, D), (N,)."""
    images, texts = np.asarray(images, np.float64), np.asarray(texts, np.float64)
    norms = np.linalg.norm(images, axis=1) * np.linalg.norm(texts, axis=1)
    return scale * ((images * texts).sum(1) / norms).clip(0)
