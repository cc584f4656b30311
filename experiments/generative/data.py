"""The data of the study, and what is measured of samples: Gaussians, digits and CIFAR-10."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from diffjax.analytic import Mixture
from diffjax.data import Reading
from diffjax.data.digits import digits
from diffjax.data.enlarged import Reduced, Resized
from diffjax.data.source import load
from diffjax.data.tfds import tfds
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

    task = Task("gaussians", (2,), 0, parameters=17_000, depth=2, latent=4, batch=256)
    budgets = (5e10, 5e11)
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


class Images:
    """Small images as vectors of 17 levels; samples are rounded to these levels.

    source: split -> data. most: the real images of a split that samples are compared with. groups:
    the number of groups of images, which `group` counts.
    """

    task: Task
    most: int
    groups: int
    num = 1000
    criterion = "frechet"

    def __init__(self, source: Any, runs: Path):
        train, test = load(source("train")), load(source("test"))
        self.items = Items(jnp.asarray(vectors(train.x)), jnp.asarray(train.label))
        self.held_out = jnp.asarray(vectors(test.x[: self.most]))
        self.source = source
        self.pixels = self.real(runs)
        self.share = self.group(train.x) / len(train.x)

    def real(self, runs: Path, **extractor: Any) -> Real:
        return Real(self.source, Reading(), self.most, runs / f"real-{self.task.name}", **extractor)

    def group(self, x: np.ndarray) -> np.ndarray:
        """Return the number of images in each group."""
        raise NotImplementedError

    def reference(self) -> dict[str, Any]:
        """Return what held-out images score."""
        return self.measure(np.asarray(self.held_out))

    def measure(self, x: np.ndarray) -> dict[str, Any]:
        x = images(x, self.task.shape)
        samples, counts = Samples(x, None), self.group(x)
        both = precision_recall(self.pixels, samples, resamples=0)
        copies = memorization(self.pixels, samples, pairs=0, resamples=0)
        return {
            "frechet": round(frechet(self.pixels, samples)["ratio"], 4),
            **{k: round(both[k], 4) for k in ("precision", "recall")},
            "found": int((counts >= FAIR * self.share * len(x)).sum()),
            "histogram_kl": round(histogram_kl(counts, self.share), 5),
            **{k: round(copies[k], 4) for k in ("ratio", "closer", "authenticity")},
        }

    def likelihood(self, nll: np.ndarray) -> dict[str, float]:
        """Return bits per dimension of `held_out` with their standard error."""
        bits = nll / self.task.size / np.log(2)
        return {
            "bits": round(float(bits.mean()), 4),
            "bits_error": round(float(bits.std() / np.sqrt(len(bits))), 4),
        }

    def failed(self, measured: dict[str, Any]) -> bool:
        return measured["found"] < self.groups / 2


class Digits(Images):
    """The 1,500 training digits, 8x8, in the classes that the judge of digits sees."""

    task = Task("digits", (8, 8), 17, parameters=170_000, depth=3, latent=32, batch=128)
    budgets = (5e10, 5e11)
    most, groups = 1500, 10

    def __init__(self, runs: Path):
        super().__init__(digits, runs)
        self.features = self.real(runs, extractor=classifier)

    def group(self, x: np.ndarray) -> np.ndarray:
        """Return how many images the judge assigns to each class."""
        return np.bincount(self.pixels.judge.predict(x), minlength=10)

    def measure(self, x: np.ndarray) -> dict[str, Any]:
        """Measure also what the judge's features see, where precision and recall are those."""
        samples = Samples(images(x, self.task.shape), None)
        inside = frechet(self.features, samples)["ratio"]
        both = precision_recall(self.features, samples, resamples=0)
        seen = {k: round(both[k], 4) for k in ("precision", "recall")}
        return super().measure(x) | {"frechet_judge": round(inside, 4)} | seen


class Thumbnails(Images):
    """CIFAR-10 as means of 4x4 pixels, 8x8 in colour: 192 values, in groups of like images.

    The groups are the nearest of 20 centres of k-means on the training images, as no classifier
    knows what so few pixels show (statistically different bins; arXiv:1805.12462).
    """

    task = Task("thumbnails", (8, 8, 3), 17, parameters=500_000, depth=3, latent=64, batch=128)
    budgets = (2e11, 2e12)
    most, groups = 2000, 20

    def __init__(self, runs: Path):
        whole = functools.partial(tfds, dataset="cifar10")
        reduced = {k: load(Resized(whole(k), Reduced(factor=4))) for k in ("train", "test")}
        flat = vectors(reduced["train"].x)
        self.centres = KMeans(self.groups, n_init="auto", random_state=0).fit(flat).cluster_centers_
        super().__init__(reduced.__getitem__, runs)

    def group(self, x: np.ndarray) -> np.ndarray:
        """Return how many images lie nearest to each centre."""
        apart = cdist(vectors(x), self.centres)
        return np.bincount(apart.argmin(1), minlength=self.groups)


def vectors(x: np.ndarray) -> np.ndarray:
    """Return uint8 images (N, ...) as (N, D), rounded to 17 even levels in [-1, 1]."""
    return np.round(x.reshape(len(x), -1) * (16 / 255)).astype(np.float32) / 8 - 1


def images(x: np.ndarray, shape: tuple[int, ...] = (8, 8)) -> np.ndarray:
    """Return vectors (N, D) as uint8 images; values between two levels are rounded to the nearest.

    shape: (H, W), or (H, W, C).
    """
    level = np.clip(np.round((np.asarray(x, np.float64) + 1) * 8), 0, 16)
    whole = shape if len(shape) == 3 else (*shape, 1)
    return np.round(level * (255 / 16)).astype(np.uint8).reshape(-1, *whole)


DATA: Mapping[str, Any] = {"gaussians": Gaussians, "digits": Digits, "thumbnails": Thumbnails}
