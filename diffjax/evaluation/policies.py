"""Policies of trained denoisers, and their success in an environment."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import jit_leaves, stream
from diffjax.environments import Environment, Episodes, Policy, environment, episodes
from diffjax.evaluation.images import Subject
from diffjax.intervals import wilson
from diffjax.prediction import Denoise
from diffjax.samplers import initial
from diffjax.samplers.plan import Sampling

OBSERVED = "vector"
"""Name of the condition that is the observation."""
LONGEST = 10_000_000
"""Largest number of episodes."""


def policy(denoise: Denoise, plan: Sampling, where: Environment, shape: tuple[int, int]) -> Policy:
    """Return the policy that samples a chunk of actions given an observation (arXiv:2303.04137).

    plan: any plan of sampling. where: the environment of the actions. shape: that of a chunk,
    (h, a).

    >>> from diffjax import environments, schedules, sde
    >>> from diffjax.prediction import predict
    >>> from diffjax.samplers import ddim
    >>> from diffjax.guidance import Conditional
    >>> from diffjax.samplers.plan import Plan
    >>> class Stays:
    ...     sde = sde.Flow(schedules.Logit())
    ...     __call__ = lambda self, x, t, cond=None, **_: predict(self.sde, x, t, 0 * x)
    >>> plan = Plan(ddim(Stays.sde, np.array([1.0, 0.0])), Conditional())
    >>> act = policy(Stays(), plan, environments.Maze(), (8, 2))
    >>> act(jax.numpy.full((1, 6), 0.5), jax.random.split(jax.random.key(0), 1))[0, 7].tolist()
    [0.5, 0.5]
    """

    def act(observations: Float[Array, "n o"], keys: Key[Array, " n"]) -> Float[Array, "n h a"]:
        x, keys = initial(denoise.sde, keys, shape, plan.start)
        chunk = plan.run(denoise, x, keys, {OBSERVED: observations}).x
        return where.absolute(observations, chunk)

    return act


def rollout(
    denoise: Denoise,
    plan: Sampling,
    where: Environment,
    keys: Key[Array, " n"],
    *,
    shape: tuple[int, int],
    execute: int,
    path: bool = False,
) -> Episodes:
    """Run one episode per key (N,) of a `policy` by one compiled program.

    Arguments as in `policy` and `environments.episodes`.
    """

    def run(denoise: Denoise, plan: Sampling, keys: Key[Array, " n"]) -> Episodes:
        return episodes(
            where, policy(denoise, plan, where, shape), keys, execute=execute, path=path
        )

    leaves, structure = jax.tree.flatten((denoise, plan))
    return jit_leaves(run, structure)(leaves, keys)


def success(subject: Subject, num: int = 1000, execute: int = 8) -> dict[str, Any]:
    """Measure the share of episodes in which a policy reaches its goal, with Wilson's interval.

    The environment is that of the demonstrations, the sampler that of the config or of the flags.
    Groups of episodes, such as those at forks, are counted apart. num: episodes. execute: the
    actions of each chunk that are executed before the next decision. Raises ValueError for a
    network that was not trained on demonstrations, and for more actions than a chunk has.
    """
    checks.at_least(1, num=num)
    name = dict(subject.form.units).get("environment")
    if name is None or subject.plan is None:
        has = "several samplers" if name else f"{subject.form.kind} items of no environment"
        raise ValueError(f"{has}; needs one sampler, and a network of demonstrations")
    checks.within(1, subject.form.shape[0], execute=execute)
    where, plan = environment(name), subject.plan()
    sizes = {spec.name: spec.size for spec in subject.form.conditions}
    if sizes != {OBSERVED: where.observation}:
        wanted = f"{OBSERVED} of size {where.observation}"
        raise ValueError(f"the network takes {sizes or 'no condition'}; needs {wanted} alone")
    keys = jax.random.split(stream(subject.seed, "episodes"), num)
    shape = (subject.form.shape[0], subject.form.shape[1])
    ended = rollout(subject.denoise, plan, where, keys, shape=shape, execute=execute)
    protocol = subject.protocol() | {
        "environment": name,
        "sampling": {k: subject.config["sampling"][k] for k in ("sampler", "grid", "steps")},
        "execute": execute,
    }
    return shares(jax.tree.map(np.asarray, ended), where.groups) | {"protocol": protocol}


def shares(ended: Episodes, groups: tuple[str, ...]) -> dict[str, Any]:
    """Return the share of success, that of each group, their intervals, and the mean length.

    >>> none = Episodes(np.array([True, False]), np.array([0, 1]), np.array([5, 9]))
    >>> shares(none, ("easy", "hard"))["hard"]
    0.0
    """
    won, group = np.asarray(ended.success), np.asarray(ended.group)
    parts = {"success": np.ones(len(won), bool)}
    if len(groups) > 1:
        parts |= {name: group == k for k, name in enumerate(groups)}
    parts = {name: rows for name, rows in parts.items() if rows.any()}
    rates = {name: float(won[rows].mean()) for name, rows in parts.items()}
    counts = {name: int(rows.sum()) for name, rows in parts.items()}
    around = {name: wilson(rates[name], counts[name]) for name in parts}
    length = float(np.asarray(ended.length)[won].mean()) if won.any() else None
    more = {"length": length, "count": len(won), "counts": counts}
    return rates | {"intervals": around} | more
