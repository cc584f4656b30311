"""Sequential Monte Carlo: several particles per sample, weighted by a potential and resampled.

The rows of a stochastic first-order table are Gaussian transitions p(x_s | x_t), so weights need
nothing beside them. With log-potentials log psi of the predicted x0, a proposal q and cumulative
log-potentials c, which are log psi itself by default, a particle has the log-weight

    log w = sum over rows of (log p - log q)(x_s | x_t) + c(x_s) - c(x_t),  c = log psi(x0) at last

Weighted samples have the distribution p(x0) psi(x0) / Z, in the limit of many particles, for every
potential on the way and every proposal; the estimate of Z = E[psi(x0)] has no bias for any number
of particles. Methods: twisted diffusion sampling (arXiv:2306.17775) with the proposal `Twisted`,
Feynman-Kac steering (arXiv:2501.06848) with the proposal `Plain`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from diffjax import checks
from diffjax.arrays import Cond, dims, keys_at
from diffjax.guidance import Conditional, Guidance, Normals, Query
from diffjax.inverse.kernels import stochastic
from diffjax.inverse.potentials import Potential, log_psi, noise_to_signal, traceable
from diffjax.inverse.proposals import Plain, Proposal, Step
from diffjax.inverse.weighting import (
    Cloud,
    Each,
    Rule,
    Seen,
    difference,
    effective,
    log_mean,
    resampled,
    weighed,
)
from diffjax.prediction import Denoise, Prediction
from diffjax.samplers.run import check, check_arguments, noise_of, on_device
from diffjax.samplers.table import WRITE, Table
from diffjax.sde import SDE

PICK = np.uint32(2**32 - 1)
"""Index of the key of resampling, beside those of the particles."""


class Steered(NamedTuple):
    """Weighted particles of B samples.

    x: (B, K, ...). weight: (B, K), normalised over the particles of a sample. log_z: (B,), the log
    of the estimate of Z = E[psi(x0)], which has no bias. ess: (R + 1, B), the effective number of
    particles 1 / sum w^2 in [1, K] at each row before resampling, and at the end. bad: the first
    row whose network output, and the first whose potential, was not finite, or -1, (2,).

    >>> x, weight = jnp.array([[[1.0], [2.0]]]), jnp.array([[0.0, 1.0]])
    >>> steered = Steered(x, weight, jnp.zeros(1), jnp.ones((1, 1)), jnp.array([-1, -1]))
    >>> steered.one(jax.random.split(jax.random.key(0), 1)).tolist()  # the particle with the weight
    [[2.0]]
    """

    x: Float[Array, "b k *d"]
    weight: Each
    log_z: Float[Array, " b"]
    ess: Float[Array, "r b"]
    bad: Int[Array, " two"]

    def one(self, keys: Key[Array, " b"]) -> Float[Array, "b *d"]:
        """Draw one particle of each sample by its weight, (B, ...)."""
        pick = jax.vmap(lambda key, w, x: x[jax.random.choice(key, len(w), p=w)])
        return pick(keys, self.weight, self.x)


def swarm(
    sde: SDE, keys: Key[Array, " b"], particles: int, shape: tuple[int, ...], t: Any = None
) -> tuple[Float[Array, "b k *d"], Key[Array, " b"]]:
    """Draw initial states (B, K, *shape) from the prior, and return them with keys for `steer`.

    particles: K >= 1, per sample. t: the first time of the grid; t_max by default. Particle k does
    not depend on their number. Raises ValueError for fewer than one particle.

    >>> from diffjax import schedules, sde
    >>> vp, keys = sde.VP(schedules.Cosine()), jax.random.split(jax.random.key(0), 2)
    >>> swarm(vp, keys, 4, (3,))[0].shape
    (2, 4, 3)
    """
    checks.whole(1, particles=particles)
    checks.keys(keys, np.size(keys))
    first, later = jax.vmap(jax.random.split, out_axes=1)(keys)
    draw = lambda key: sde.prior(key, shape, t)
    return jax.vmap(jax.vmap(draw))(particle_keys(first, particles)), later


def particle_keys(keys: Key[Array, " b"], particles: int) -> Key[Array, "b k"]:
    """Return the keys (B, K) of the noise of particles; `sample` draws the same noise with them.

    >>> particle_keys(jax.random.split(jax.random.key(0), 2), 4).shape
    (2, 4)
    """
    return jax.vmap(keys_at, (0, None))(keys, jnp.arange(particles))


def steer(
    denoise: Denoise,
    table: Table,
    x: Float[Array, "b k *d"],
    keys: Key[Array, " b"],
    potential: Potential,
    *,
    proposal: Proposal = Plain(),
    rule: Rule = difference,
    threshold: float = 0.5,
    every: int = 1,
    cond: Cond | None = None,
    guidance: Guidance = Conditional(),
) -> Steered:
    """Sample p(x0) psi(x0) / Z with K particles for each of B samples, in one compiled scan.

    denoise, guidance, cond: the model p, as in `sample`; cond is that of samples, (B, ...). table:
    any stochastic first-order sampler. x: initial states (B, K, ...), as of `swarm`. keys: (B,);
    the particles of sample b depend on x[b], keys[b] and cond[b] only. potential: log psi, see
    `Potential`. proposal: how the next state is drawn, see `proposals.py`. rule: how potentials
    count on the way, see `weighting.POTENTIAL_RULES`. threshold: in [0, 1]; particles are
    resampled, systematically, where their effective number is below this share of K, and keep their
    weights elsewhere; 0 never resamples. every: rows from one evaluation of the potential, and
    resampling, to the next; the last weight is always taken.

    Raises ValueError for a table that adds no noise or uses earlier rows, no particles, arrays of
    other shapes, and as `check_arguments` does; FloatingPointError, outside traced functions, where
    the network or the potential is not finite.

    Example: `docs/particles.md`.

    >>> from diffjax import analytic, grids, samplers, schedules, sde
    >>> from diffjax.inverse import Reward
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(1), jnp.ones(1)).denoiser(flow)
    >>> table = samplers.ancestral(flow, grids.uniform(flow, 3))
    >>> x, keys = swarm(flow, jax.random.split(jax.random.key(0), 2), 4, (1,))
    >>> result = steer(denoise, table, x, keys, Reward(lambda x0: 0 * x0[:, 0]))
    >>> result.weight.tolist(), result.log_z.tolist()  # no reward: equal weights, Z = 1
    ([[0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25]], [0.0, 0.0])
    """
    stochastic(table, "steer")
    checks.samples(x)
    if x.ndim < 2 or not x.shape[1]:
        raise ValueError(f"x {x.shape}: needs K >= 1 particles per sample, (B, K, ...)")
    check_arguments(denoise, table, x[:, 0], keys, cond=cond, guidance=guidance)
    checks.within(0, 1, threshold=threshold)
    checks.whole(1, every=every)
    checks.function("lambda x0, rho: -(x0**2).sum(-1)", potential=potential)
    checks.function("diffjax.inverse.weighting.difference", rule=rule)
    model = (denoise, guidance, cond)
    settings = {"proposal": proposal, "threshold": threshold, "every": every}
    result = _run(model, table, x, keys, traceable(potential), rule=rule, **settings)
    if not isinstance(result.bad, Tracer):
        _finite(result.bad, table)
    return result


def _finite(bad: Array, table: Table) -> None:
    """Raise FloatingPointError for a network output or a potential that was not finite."""
    network, potential = (int(row) for row in bad)
    if potential < 0 or 0 <= network <= potential:  # what follows is not finite either
        check(network, table)
        return
    where = f"row {potential} of {len(table)}" if potential < len(table) else "the samples"
    raise FloatingPointError(
        f"the potential is not finite at {where}; allowed: finite log-potentials, such as a large "
        f"negative number for what is impossible"
    )


@functools.partial(jax.jit, static_argnames="rule")
def _run(
    model: tuple[Denoise, Guidance, Cond | None],
    table: Table,
    x: Float[Array, "b k *d"],
    keys: Key[Array, " b"],
    potential: Potential,
    *,
    proposal: Proposal,
    rule: Rule,
    threshold: Any,
    every: Any,
) -> Steered:
    walks = particle_keys(keys, x.shape[1])
    pick = jax.vmap(jax.random.fold_in, (0, None))(keys, PICK)

    def step(cloud: Cloud, row: tuple[Array, Table]) -> tuple[Cloud, Array]:
        index, c = row
        counts = index % every == 0
        predict = functools.partial(_predict, model, index, c, potential, proposal.sloped, counts)
        y, value, memory = _each(predict)(walks, cloud.x, cloud.memory[0])
        bad = jnp.stack([~jnp.isfinite(y.value).all(), ~jnp.isfinite(value).all()])
        bad = jnp.where((cloud.bad < 0) & bad, index, cloud.bad)
        cloud = cloud._replace(memory=(memory, cloud.memory[1]), bad=bad)
        cloud = weighed(cloud, value, rule, counts)
        ess = effective(cloud.log_weight)
        at = jax.vmap(jax.random.fold_in, (0, None))(pick, index)
        again = counts & (ess < threshold * x.shape[1])
        cloud, y = resampled(cloud, y, again, at)
        move = functools.partial(_move, model, index, c, proposal)
        z = _noise(c, walks, x)
        new, owed, memory = _each(move)(walks, cloud.x, y, z, cloud.memory[1])
        return cloud._replace(x=new, owed=owed, memory=(cloud.memory[0], memory)), ess

    rows = (jnp.arange(len(table)), on_device(table, x.dtype))
    cloud, ess = jax.lax.scan(step, _begin(x, model[1], proposal), rows)
    last = _each(lambda x: log_psi(potential, x, jnp.zeros(len(x), x.dtype)))(cloud.x)
    log_weight = cloud.log_weight + cloud.owed + last - cloud.counted
    broken = jnp.array([False, True]) & ~jnp.isfinite(last).all() & (cloud.bad < 0)
    return Steered(
        x=cloud.x,
        weight=jax.nn.softmax(log_weight, axis=1),
        log_z=cloud.log_z + log_mean(log_weight),
        ess=jnp.concatenate([ess, effective(log_weight)[None]]),
        bad=jnp.where(broken, len(table), cloud.bad),
    )


_each = functools.partial(jax.vmap, in_axes=1, out_axes=1)
"""Map a function of arrays (B, ...) over particles: the arrays become (B, K, ...)."""


def _begin(x: Float[Array, "b k *d"], guidance: Guidance, proposal: Proposal) -> Cloud:
    """Return the particles before the first row, with equal weights."""
    none = jnp.zeros(x.shape[:2], x.dtype)
    memory = _each(lambda x: (guidance.init(x), proposal.init(x)))(x)
    seen = Seen(none, none - jnp.inf, none)
    return Cloud(x, memory, none, seen, none, none, none[:, 0], jnp.array([-1, -1]))


class Output(NamedTuple):
    """What a row reads of the network for particles: y, its log-variance, and the slope of psi."""

    value: Array
    log_var: Array | None
    slope: Array


def _predict(
    model: tuple[Denoise, Guidance, Cond | None],
    index: Array,
    c: Table,
    potential: Potential,
    sloped: bool,
    counts: Array,
    keys: Key[Array, " b"],
    x: Array,
    memory: Any,
) -> tuple[Output, Array, Any]:
    """Return the output of a row for one particle of each sample, log psi (B,) and the memory.

    Without the slope, log psi is computed in rows where it counts; it is 0 elsewhere.
    """
    denoise, guidance, _ = model
    t = jnp.full(len(x), c.t, x.dtype)

    def of_x0(x0: Array) -> Array:
        return log_psi(potential, x0, noise_to_signal(denoise.sde, t))

    def ask(x: Array) -> tuple[Array, tuple[Prediction, Array, Any]]:
        prediction, after = guidance(_query(model, index, c, keys, x), c.weight, memory)
        if not sloped:
            nothing = lambda x0: jnp.zeros(len(x0), x0.dtype)
            value = jax.lax.cond(counts, of_x0, nothing, prediction.x0)
        else:
            value = of_x0(prediction.x0)
        return value.sum(), (prediction, value, after)

    if sloped:
        slope, (prediction, value, memory) = jax.grad(ask, has_aux=True)(x)
    else:
        slope, (prediction, value, memory) = jnp.zeros_like(x), ask(x)[1]
    if c.learned and prediction.log_var is None:
        raise ValueError("the network learns no variance; allowed: the other samplers")
    return Output(c.read(prediction), prediction.log_var, slope), value, memory


def _query(
    model: tuple[Denoise, Guidance, Cond | None],
    index: Array,
    c: Table,
    keys: Key[Array, " b"],
    x: Array,
) -> Query:
    denoise, _, cond = model
    t = jnp.full(len(x), c.t, x.dtype)
    to = jnp.full_like(t, c.to) if c.leads else None
    return Query(denoise, x, t, cond, to, Normals(keys, index))


def _noise(c: Table, keys: Key[Array, "b k"], x: Float[Array, "b k *d"]) -> Array:
    """Draw the noise of a row for all particles, zeros where the row draws none."""
    flat = x.reshape(-1, *x.shape[2:])
    draw = lambda: noise_of(c, keys.reshape(-1), flat)
    return jax.lax.cond(c.noisy, draw, lambda: jnp.zeros_like(flat)).reshape(x.shape)


def _move(
    model: tuple[Denoise, Guidance, Cond | None],
    index: Array,
    c: Table,
    proposal: Proposal,
    keys: Key[Array, " b"],
    x: Array,
    y: Output,
    z: Array,
    memory: Any,
) -> tuple[Array, Array, Any]:
    """Draw the next state of one particle of each sample; return it, log p - log q and the memory.

    In units of std the state is u = shift + scale z, so the densities differ by (z^2 - u^2) / 2 +
    log scale per value.
    """
    state, output, noise = (c.update[WRITE.index(name)] for name in ("x", "y", "z"))
    std = noise * jnp.exp(c.spread * y.log_var) if c.learned else jnp.full_like(x, noise)
    mean = state * x + output * y.value
    query = _query(model, index, c, keys, x)
    step = Step(index, query, c.weight, mean, std, y.slope, y.value, output, c.read)
    (shift, scale), memory = proposal(step, memory)
    shift, scale = jnp.where(std != 0, shift, 0), jnp.where(std != 0, scale, 1)
    u = shift + scale * z
    owed = ((z - u) * (z + u) / 2 + jnp.log(scale)).sum(dims(x))
    return mean + std * u, owed, memory
