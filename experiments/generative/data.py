"""The data of the study, and what is measured of samples: 25 Gaussians, and the 8x8 digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.analytic import Mixture
from diffjax.data import Reading
from diffjax.data.digits import digits
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.copies import memorization
from diffjax.evaluation.gaussian import frechet
from diffjax.evaluation.neighbours import precision_recall
from diffjax.features.extractors import classifier
from experiments import plane
from experiments.generative.trunk import Task
from experiments.recipes import Items

SPACING, NOISE = 0.7, 0.05
"""Of the Gaussians: between neighbours, and their deviation."""
FAIR = 1 / 5
"""The part of its fair share of samples from which on a mode or a class counts as found."""


def histogram_kl(counts: np.ndarray, share: np.ndarray) -> float:
    """Return KL(histogram | share) in nats.

    >>> round(histogram_kl(np.array([4, 0]), np.array([0.5, 0.5])), 4)  # log 2
    0.6931
    """
    p = counts / counts.sum()
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / share[seen])).sum())


class Gaussians:
    """A 5 x 5 grid of equal Gaussians in the plane, of about unit deviation, drawn anew."""

    task = Task("gaussians", 2, 0, parameters=17_000, depth=2, latent=4, batch=256)
    budgets = (5e10, 2e11)
    num = 4096
    criterion = "w2"

    def __init__(self, runs: Path):
        axis = SPACING * np.arange(-2, 3)
        self.centres = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        self.items = plane.along(self.centres, NOISE)
        self.real = plane.exact_draws(self.items, self.num, 1)
        self.held_out = jnp.asarray(plane.exact_draws(self.items, 2048, 2))

    def reference(self) -> dict[str, Any]:
        """Return what draws of the data themselves score."""
        return self.measure(plane.exact_draws(self.items, self.num, 3))

    def measure(self, x: np.ndarray) -> dict[str, Any]:
        apart = np.linalg.norm(x[:, None] - self.centres[None], axis=2)
        nearest, near = apart.argmin(1), apart.min(1) < 3 * NOISE
        due = len(x) / len(self.centres)
        counts = np.bincount(nearest[near], minlength=len(self.centres))
        whole = np.bincount(nearest, minlength=len(self.centres))
        return {
            "found": int((counts >= FAIR * due).sum()),
            "near": round(float(near.mean()), 4),
            "histogram_kl": round(histogram_kl(whole, np.full(25, 1 / 25)), 5),
            "w2": round(plane.sliced(x, self.real), 5),
        }

    def likelihood(self, nll: np.ndarray) -> dict[str, float]:
        """Return KL(data | model) in nats with its standard error, from nll of `held_out`."""
        gap = nll + np.asarray(exact_logp(self.items, self.held_out))
        return {
            "kl": round(float(gap.mean()), 4),
            "kl_error": round(float(gap.std() / np.sqrt(len(gap))), 4),
        }

    def failed(self, measured: dict[str, Any]) -> bool:
        return measured["found"] < 13


def exact_logp(data: Mixture, x: jax.Array) -> jax.Array:
    """Return the log-density of a mixture without noise at x (B, D), in nats (B,)."""
    u = (x[:, None] - data.mean[None]) ** 2 / data.var[None]
    each = -0.5 * (u + jnp.log(2 * jnp.pi * data.var)[None]).sum(2)
    return jax.nn.logsumexp(each + jnp.log(data.weight)[None], axis=1)


class Digits:
    """The 1,500 training digits as 64 values of 17 levels; samples are rounded to these levels."""

    task = Task("digits", 64, 17, parameters=170_000, depth=3, latent=32, batch=128)
    budgets = (5e10, 2e11)
    num = 1000
    criterion = "frechet"

    def __init__(self, runs: Path):
        train, test = digits("train"), digits("test")
        self.items = Items(jnp.asarray(vectors(train.x)), jnp.asarray(train.label))
        self.held_out = jnp.asarray(vectors(test.x))
        make = lambda extractor: Real(digits, Reading(), 1500, runs / "real", **extractor)
        self.pixels, self.features = make({}), make({"extractor": classifier})
        self.share = self.histogram(train.x) / len(train.x)

    def histogram(self, x: np.ndarray) -> np.ndarray:
        """Return how many images the judge assigns to each class."""
        return np.bincount(self.pixels.judge.predict(x), minlength=10)

    def reference(self) -> dict[str, Any]:
        """Return what the 297 held-out digits score."""
        return self.measure(np.asarray(self.held_out))

    def measure(self, x: np.ndarray) -> dict[str, Any]:
        x = images(x)
        samples, counts = Samples(x, None), self.histogram(x)
        inside = frechet(self.features, Samples(x, None))
        both = precision_recall(self.features, samples, resamples=0)
        copies = memorization(self.pixels, samples, pairs=0, resamples=0)
        return {
            "frechet": round(frechet(self.pixels, samples)["ratio"], 4),
            "frechet_judge": round(inside["ratio"], 4),
            **{k: round(both[k], 4) for k in ("precision", "recall")},
            "found": int((counts >= FAIR * self.share * len(x)).sum()),
            "histogram_kl": round(histogram_kl(counts, self.share), 5),
            **{k: round(copies[k], 4) for k in ("ratio", "closer", "authenticity")},
        }

    def likelihood(self, nll: np.ndarray) -> dict[str, float]:
        """Return bits per dimension of `held_out` with their standard error."""
        bits = nll / 64 / np.log(2)
        return {
            "bits": round(float(bits.mean()), 4),
            "bits_error": round(float(bits.std() / np.sqrt(len(bits))), 4),
        }

    def failed(self, measured: dict[str, Any]) -> bool:
        return measured["found"] < 5


def vectors(x: np.ndarray) -> np.ndarray:
    """Return uint8 digits (N, 8, 8, 1) as (N, 64), 17 even levels in [-1, 1]."""
    return np.round(x.reshape(-1, 64) * (16 / 255)).astype(np.float32) / 8 - 1


def images(x: np.ndarray) -> np.ndarray:
    """Invert `vectors`; values between two levels are rounded to the nearest."""
    level = np.clip(np.round((np.asarray(x, np.float64) + 1) * 8), 0, 16)
    return np.round(level * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
