"""Weights of particles: how potentials count on the way, and systematic resampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

Each = Float[Array, "b k"]
"""One number per particle."""


class Seen(NamedTuple):
    """Log-potentials of a particle at the rows so far, (B, K): last, largest and sum."""

    last: Each
    largest: Each
    total: Each


Rule = Callable[[Seen, Seen], Each]
"""(before, after) -> log G of a row. The last weight completes every product to psi(x0)."""


def difference(before: Seen, after: Seen) -> Each:
    """Return log psi(x_s) - log psi(x_t): a particle has the weight of its present potential."""
    return after.last - before.last


def largest(before: Seen, after: Seen) -> Each:
    """Return the largest log psi so far, which prefers particles that were ever good."""
    return after.largest


def total(before: Seen, after: Seen) -> Each:
    """Return the sum of log psi so far, which prefers particles that were good for long."""
    return after.total


POTENTIAL_RULES: dict[str, Rule] = {"difference": difference, "max": largest, "sum": total}
"""Rules by their names in arXiv:2501.06848, sec. 3.2."""


class Cloud(NamedTuple):
    """The particles before a row: states and memories (B, K, ...), and their weights.

    owed: log p - log q of the last row. seen, counted: log-potentials so far, and the sum of log G.
    log_weight: since the last resampling. log_z: (B,), of the rows up to it. bad: as in `Steered`.
    """

    x: Float[Array, "b k *d"]
    memory: Any
    owed: Each
    seen: Seen
    counted: Each
    log_weight: Each
    log_z: Float[Array, " b"]
    bad: Int[Array, " two"]


def weighed(cloud: Cloud, value: Each, rule: Rule, counts: Array) -> Cloud:
    """Return the particles with the weights of the last row and, where it counts, of log psi."""
    before = cloud.seen
    after = Seen(value, jnp.maximum(before.largest, value), before.total + value)
    gain = jnp.where(counts, rule(before, after), 0)
    seen = jax.tree.map(lambda a, b: jnp.where(counts, a, b), after, before)
    log_weight = cloud.log_weight + cloud.owed + gain
    return cloud._replace(seen=seen, counted=cloud.counted + gain, log_weight=log_weight)


def resampled(
    cloud: Cloud, y: Any, again: Bool[Array, " b"], keys: Key[Array, " b"]
) -> tuple[Cloud, Any]:
    """Resample the particles of the samples in `again`, whose weights become equal.

    y: what a row has computed for the particles, a tree of arrays (B, K, ...), resampled with them.
    """
    weight = jax.nn.softmax(cloud.log_weight, axis=1)
    index = jax.vmap(systematic)(keys, weight)
    index = jnp.where(again[:, None], index, jnp.arange(index.shape[1])[None])
    taken = lambda tree: jax.tree.map(lambda a: jax.vmap(lambda a, i: a[i])(a, index), tree)
    particles = cloud.x, cloud.memory, cloud.seen, cloud.counted, y
    x, memory, seen, counted, y = taken(particles)
    log_z = cloud.log_z + jnp.where(again, log_mean(cloud.log_weight), 0)
    log_weight = jnp.where(again[:, None], 0, cloud.log_weight)
    cloud = cloud._replace(x=x, memory=memory, seen=seen, counted=counted)
    return cloud._replace(log_weight=log_weight, log_z=log_z), y


def systematic(key: Key[Array, ""], weight: Float[Array, " k"]) -> Int[Array, " k"]:
    """Return the indices (K,) of resampled particles: k appears K weight[k] times on average.

    One uniform number places an equidistant comb on the cumulative weights (arXiv:cs/0507025), so
    the count of k is K weight[k] rounded up or down.
    """
    size, ends = len(weight), jnp.cumsum(weight)
    comb = (jnp.arange(size) + jax.random.uniform(key, dtype=weight.dtype)) / size
    below_one = jnp.nextafter(jnp.ones((), weight.dtype), jnp.zeros((), weight.dtype))
    return jnp.searchsorted(ends / ends[-1], jnp.minimum(comb, below_one), side="right")


def effective(log_weight: Each) -> Float[Array, " b"]:
    """Return the effective numbers of particles, 1 / sum w^2, of log-weights (B, K)."""
    return 1 / (jax.nn.softmax(log_weight, axis=1) ** 2).sum(1)


def log_mean(log_weight: Each) -> Float[Array, " b"]:
    """Return the logarithm of the mean weight of the particles of each sample."""
    return jax.nn.logsumexp(log_weight, axis=1) - np.log(log_weight.shape[1])
