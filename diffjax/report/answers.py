"""Answers to a page of `blind`, joined with its key: rates and their intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.config import ConfigError
from diffjax.intervals import wilson
from diffjax.report.blind import SIDES


@dataclass(frozen=True)
class Answers:
    """The answers of one person, by trial.

    right (T,): whether `right` was chosen. seconds (T,): time of each answer.
    """

    person: str
    right: np.ndarray
    seconds: np.ndarray


def read_key(path: Path) -> dict[str, Any]:
    """Read the key of a page.

    Raises ConfigError where it cannot be read or is damaged.
    """
    try:
        key = json.loads(path.read_text())
        whole = (
            bool(key["page"])
            and key["trials"] != []
            and {t["hit"] for t in key["trials"]} <= {*SIDES}
        )
    except OSError as error:
        raise ConfigError(
            f"{path}: no key ({error.strerror}); it is written with the page"
        ) from error
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ConfigError(f"{path}: damaged; the same command writes page and key again")
    return key


def read_answers(path: Path, key: Mapping[str, Any]) -> Answers:
    """Read the answers of one person.

    Raises ConfigError for answers to another page, and for damaged or incomplete ones.
    """
    place = f"--results={path}"
    try:
        saved = json.loads(path.read_text())
        page, answers = saved["page"], saved["answers"]
        person = str(saved["participant"]).strip() or path.stem
        trials, sides = ([a[k] for a in answers] for k in ("trial", "choice"))
        seconds = np.array([float(a["ms"]) for a in answers]) / 1000
    except OSError as error:
        raise ConfigError(f"{place}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{place}: damaged; needs the file that the page saves") from error
    if page != key["page"]:
        raise ConfigError(f"{place}: answers of the page {page!r}; needs {key['page']!r}")
    many = len(key["trials"])
    if any(type(t) is not int for t in trials) or sorted(trials) != list(range(many)):
        raise ConfigError(f"{place}: has {len(trials)} answers; needs one per trial, {many}")
    if bad := [side for side in sides if side not in SIDES]:
        raise ConfigError(f"{place}: choice={bad[0]!r}; known: {', '.join(SIDES)}")
    if not (seconds >= 0).all():
        raise ConfigError(f"{place}: ms={1000 * seconds.min():g}; needs times of at least 0")
    order = np.argsort(trials)
    return Answers(person, np.array([s == "right" for s in sides])[order], seconds[order])


def rates(key: Mapping[str, Any], people: Sequence[Answers]) -> dict[str, Any]:
    """Return how often the answer was the one that counts, for each person and for all.

    For all people, `interval` treats every answer as independent. `clustered` does not, as everyone
    sees the same pairs and a person has preferences; see `independent`. Each rate also has, by the
    truth, the share of answers that were `right`: in a test with real images, `left` are the
    generated ones.
    """
    truth = np.array([t["hit"] == "right" for t in key["trials"]])
    right = np.stack([p.right for p in people])
    seconds = np.stack([p.seconds for p in people])
    each = [
        {"person": p.person, **_rate(right[[i]], truth, seconds[[i]])} for i, p in enumerate(people)
    ]
    whole = _rate(right, truth, seconds)
    if len(people) > 1:
        count = independent(right == truth)
        whole["clustered"] = {"count": count, "interval": wilson(whole["rate"], count)}
    return {"people": each, "all": whole}


def _rate(right: np.ndarray, truth: np.ndarray, seconds: np.ndarray) -> dict[str, Any]:
    hits = right == truth
    rate, share = float(hits.mean()), float(right.mean())
    by_truth = {side: right[:, truth == k] for k, side in enumerate(SIDES)}
    return {
        "answers": hits.size,
        "rate": rate,
        "interval": wilson(rate, hits.size),
        "right": {"share": share, "p": fair(int(right.sum()), right.size)},
        "right_where": {
            side: {"share": float(a.mean()), "interval": wilson(float(a.mean()), a.size)}
            for side, a in by_truth.items()
            if a.size
        },
        "median_seconds": float(np.median(seconds)),
    }


def fair(heads: int, count: int) -> float:
    """Return the exact two-sided p-value of `heads` in `count` tosses of a fair coin."""
    from scipy.special import bdtr

    return float(min(1.0, 2 * bdtr(min(heads, count - heads), count, 0.5)))


def independent(hits: np.ndarray) -> float:
    """Return the effective number of independent answers in hits (P, T): P people, T trials.

    It is the number of answers over the design effect, the factor by which clusters, the answers to
    a trial and those of a person, raise the variance of the mean. The variances of both kinds of
    cluster are added. The two-way clustered variance subtracts that of single answers again
    (Cameron, Gelbach, Miller 2011), and its intervals are too narrow for few people. The intervals
    here hold the truth 91 to 99 times in 100, simulated for 2 to 20 people.
    """
    d = hits - hits.mean()
    clustered = sum(
        (d.sum(axis) ** 2).sum() / (1 - 1 / hits.shape[1 - axis])
        for axis in (0, 1)
        if hits.shape[1 - axis] > 1
    )
    return float(hits.size * min(1.0, (d**2).sum() / clustered)) if clustered else float(hits.size)
