"""Blinded human evaluation: pairs of images, or single images, on a page that loads nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from diffjax.report import pictures
from diffjax.report.page import style

SIDES = ("left", "right")


@dataclass(frozen=True)
class Trials:
    """The T trials of a page: images, question and answers.

    images (T, K, H, W, C), uint8: K = 2 pictures side by side, or K = 1. hit (T,): 0 where `left`
    is the answer for B, or the right one; 1 where `right` is. items (T, 2): indices of the images
    in A and in B, -1 where there is none. answers: the meaning of `left` and `right`.
    """

    question: str
    answers: tuple[str, str]
    images: np.ndarray
    hit: np.ndarray
    items: np.ndarray

    @property
    def page(self) -> str:
        """Name of the page, which differs for other images, sides or words."""
        digest = hashlib.sha256(repr((self.question, self.answers, self.images.shape)).encode())
        for part in (self.images, self.hit.astype(np.uint8)):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:12]

    def key(self) -> dict[str, Any]:
        """Return the key, which the page must not contain.

        It holds the correct answer and the images of each trial.
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
    """Return trials with pairs of images a and b (T, H, W, C).

    B is on the right in half of them, at random.
    """
    hit = rng.permutation(np.arange(len(a)) % 2)
    right = hit[:, None, None, None, None] == 1
    images = np.where(right, np.stack([a, b], 1), np.stack([b, a], 1))
    return Trials(question, ("the left one", "the right one"), images, hit, items)


def real(
    a: np.ndarray, b: np.ndarray, items: np.ndarray, question: str, rng: np.random.Generator
) -> Trials:
    """Return trials with generated images a and real images b (N, H, W, C) in random order.

    Each image is a trial, T = 2 N.
    """
    order = rng.permutation(2 * len(a))
    hit = np.repeat([0, 1], len(a))[order]
    shown = np.where(np.arange(2) == hit[:, None], np.concatenate([items, items])[order], -1)
    images = np.concatenate([a, b])[order][:, None]
    return Trials(question, ("generated", "real"), images, hit, shown)


TESTS = {
    "preference": (preference, "Which looks better?"),
    "real": (real, "Is this image real or generated?"),
}
"""The tests by name, each with its question."""


def document(trials: Trials) -> str:
    """Return the page: it holds the trials by number, without the correct answers."""
    sources = [[pictures.lossless(x) for x in images] for images in trials.images]
    facts = {
        "page": trials.page,
        "answers": trials.answers,
        "size": [int(trials.images.shape[k]) for k in (3, 2)],
        "trials": sources,
    }
    template = Template(files("diffjax.report").joinpath("blind.html").read_text())
    data = json.dumps(facts).replace("<", "\\u003c")
    return template.substitute(style=style(), question=escape(trials.question), data=data)
