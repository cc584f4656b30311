"""Blinded human evaluation of pairs or single images and sounds, on a page that loads nothing."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffjax import pages
from diffjax.data.kinds.players import played

SIDES = ("left", "right")


@dataclass(frozen=True)
class Trials:
    """The T trials of a page: what is shown or played, question and answers.

    shown (T, K, ...): K = 2 items side by side, or K = 1, which are pictures (H, W, C), uint8, or
    sounds (L, channels), int16. rate: samples of a sound per second, 0 for pictures. hit (T,): 0
    where `left` is the answer for B, or the right one; 1 where `right` is. items (T, 2): indices in
    A and in B, -1 where there is none. answers: the meaning of `left` and `right`.
    """

    question: str
    answers: tuple[str, str]
    shown: np.ndarray
    hit: np.ndarray
    items: np.ndarray
    rate: int = 0

    @property
    def page(self) -> str:
        """Name of the page, which differs for other items, sides or words."""
        digest = hashlib.sha256(repr((self.question, self.answers, self.shown.shape)).encode())
        for part in (self.shown, self.hit.astype(np.uint8)):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:12]

    def key(self) -> dict[str, Any]:
        """Return the key, which the page must not contain.

        It holds the correct answer and the items of each trial.
        """
        named = lambda items: {k: int(i) for k, i in zip("ab", items, strict=True) if i >= 0}
        return {
            "page": self.page,
            "question": self.question,
            "trials": [
                {"hit": SIDES[hit], "items": named(items)}
                for hit, items in zip(self.hit, self.items, strict=True)
            ],
        }


def paired(
    a: np.ndarray, b: np.ndarray, num: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw indices (num,) in A and in B of pairs with equal labels a (N,) and b (M,).

    No item is drawn twice, and the classes are as balanced as possible. Raises ValueError for too
    many pairs.
    """
    orders = [rng.permutation(len(label)) for label in (a, b)]
    parts = [np.empty((0, 3), np.int64)]
    for k in rng.permutation(np.intersect1d(a, b)):
        i, j = (o[label[o] == k] for o, label in zip(orders, (a, b), strict=True))
        most = min(len(i), len(j))
        parts.append(np.stack([np.arange(most), i[:most], j[:most]], 1))
    table = np.concatenate(parts)
    if num > len(table):
        known = f"1 to {len(table)}" if len(table) else "none (no class in common)"
        raise ValueError(f"num={num}: exceeds the pairs of equal class; allowed: {known}")
    table = table[np.argsort(table[:, 0], kind="stable")][:num]
    return table[:, 1], table[:, 2]


def preference(
    a: np.ndarray, b: np.ndarray, items: np.ndarray, question: str, rng: np.random.Generator
) -> Trials:
    """Return trials with pairs of items a and b (T, ...).

    B is on the right in half of them, at random.
    """
    hit = rng.permutation(np.arange(len(a)) % 2)
    right = hit.reshape(-1, *[1] * a.ndim) == 1
    shown = np.where(right, np.stack([a, b], 1), np.stack([b, a], 1))
    return Trials(question, ("the left one", "the right one"), shown, hit, items)


def real(
    a: np.ndarray, b: np.ndarray, items: np.ndarray, question: str, rng: np.random.Generator
) -> Trials:
    """Return trials with generated items a and real items b (N, ...) in random order.

    Each item is a trial, T = 2 N.
    """
    order = rng.permutation(2 * len(a))
    hit = np.repeat([0, 1], len(a))[order]
    known = np.where(np.arange(2) == hit[:, None], np.concatenate([items, items])[order], -1)
    return Trials(
        question, ("generated", "real"), np.concatenate([a, b])[order][:, None], hit, known
    )


TESTS = {
    "preference": (preference, {"image": "Which looks better?", "audio": "Which sounds better?"}),
    "real": (
        real,
        {
            "image": "Is this image real or generated?",
            "audio": "Is this sound real or generated?",
        },
    ),
}
"""The tests by name, each with its questions by the kind of the items."""


def document(trials: Trials) -> str:
    """Return the page: it holds the trials by number, without the correct answers."""
    source = functools.partial(played, rate=trials.rate) if trials.rate else pages.lossless
    facts: dict[str, Any] = {
        "page": trials.page,
        "answers": trials.answers,
        "noun": "sound" if trials.rate else "image",
        "trials": [[source(x) for x in shown] for shown in trials.shown],
    }
    if not trials.rate:
        facts["size"] = [int(trials.shown.shape[k]) for k in (3, 2)]
    return pages.filled("diffjax.report", "blind.html", trials.question, data=pages.script(facts))
