"""Policies of trained denoisers, and their success in an environment."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import jit_leaves, stream
from diffjax.environments import Environment, Episodes, Policy, environment, episodes, plans
from diffjax.evaluation.images import Subject
from diffjax.intervals import wilson
from diffjax.prediction import Denoise
from diffjax.samplers import initial
from diffjax.samplers.plan import Sampling

OBSERVED = "vector"
"""Name of the condition that is the observation."""
LONGEST = 10_000_000
"""Largest number of episodes."""


def policy(
    denoise: Denoise, plan: Sampling, where: Environment, shape: tuple[int, int], every: int = 0
) -> Policy:
    """Return the policy that samples a chunk of actions given an observation (arXiv:2303.04137).

    With every >= 1 it samples a whole plan instead, given its first and its last row as well, those
    of the observation and of the goal, and its actions are those of the plan (arXiv:2205.09991).

    plan: any plan of sampling; for whole plans one of lanes in which both rows are known. where:
    the environment of the actions. shape: that of a chunk, (h, a), or of a plan; see
    `environments.plans`, also for `every`. Raises ValueError for whole plans in an environment
    whose goal is no single state.

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
        if every:
            first, last = plans.ends(where, observations, every)
            x = x.at[:, 0].set(first).at[:, -1].set(last)
            return plans.actions(where, plan.run(denoise, x, keys, {OBSERVED: observations}).x)
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
    every: int = 0,
    path: bool = False,
) -> Episodes:
    """Run one episode per key (N,) of a `policy` by one compiled program.

    Arguments as in `policy` and `environments.episodes`.
    """

    def run(denoise: Denoise, plan: Sampling, keys: Key[Array, " n"]) -> Episodes:
        act = policy(denoise, plan, where, shape, every)
        return episodes(where, act, keys, execute=execute, path=path)

    leaves, structure = jax.tree.flatten((denoise, plan))
    return jit_leaves(run, structure)(leaves, keys)


def success(subject: Subject, num: int = 1000, execute: int = 8) -> dict[str, Any]:
    """Measure the share of episodes in which a policy reaches its goal, with Wilson's interval.

    The environment is that of the demonstrations, the sampler that of the config or of the flags.
    Groups of episodes, such as those at forks, are counted apart. num: episodes. execute: the
    actions of each chunk, or of each plan, that are executed before the next decision. Raises
    ValueError for a network that was not trained on demonstrations, and for more actions than a
    chunk or a plan has.
    """
    checks.at_least(1, num=num)
    units = dict(subject.form.units)
    name, every = units.get("environment"), units.get("every", 0)
    if name is None or subject.plan is None:
        has = "several samplers" if name else f"{subject.form.kind} items of no environment"
        raise ValueError(f"{has}; needs one sampler, and a network of demonstrations")
    where, shape = environment(name), (subject.form.shape[0], subject.form.shape[1])
    checks.within(1, (shape[0] - 1) * every if every else shape[0], execute=execute)
    sizes = {spec.name: spec.size for spec in subject.form.conditions}
    if sizes != {OBSERVED: where.observation}:
        wanted = f"{OBSERVED} of size {where.observation}"
        raise ValueError(f"the network takes {sizes or 'no condition'}; needs {wanted} alone")
    plan = subject.plan(**({"known": (0, shape[0] - 1)} if every else {}))
    keys = jax.random.split(stream(subject.seed, "episodes"), num)
    more = {"shape": shape, "execute": execute, "every": every}
    ended = rollout(subject.denoise, plan, where, keys, **more)
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
