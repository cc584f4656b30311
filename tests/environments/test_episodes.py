"""Episodes of policies in every environment, and demonstrations of their experts."""

import dataclasses
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import samplers
from diffjax.arrays import pytree, stream
from diffjax.data import Form, Memory, Reading, demonstrations
from diffjax.environments import ENVIRONMENTS, Episodes, demonstrate, environment, episodes, plans
from diffjax.evaluation import Subject
from diffjax.evaluation.policies import policy, rollout, shares, success
from diffjax.guidance import Conditional
from diffjax.intervals import wilson
from diffjax.prediction import predict
from diffjax.samplers.plan import Plan
from diffjax.schedules import Logit
from diffjax.sde import SDE, Flow
from diffjax.specs import Spec

N, H = 64, 8
FLOW = Flow(Logit(), t_min=1e-3)
PLAN = Plan(samplers.ddim(FLOW, np.array([1.0, 0.6, 0.3, 0.0])), Conditional())
keys = functools.partial(jax.random.split, jax.random.key(3))


def to_goal(observations, _=None):
    """Return chunks that pull straight to the goal, in the maze and in no other environment."""
    return jnp.repeat(observations[:, None, 4:6], H, 1)


@pytree
@dataclass(frozen=True)
class Straight:
    """A denoiser that is certain of the chunks of `to_goal`."""

    sde: SDE = field(default=FLOW, metadata={"static": True})

    def __call__(self, x, t, cond=None, *, key=None):
        assert cond is not None
        actions = to_goal(cond["vector"])
        return predict(FLOW, x, t, environment("maze").relative(cond["vector"], actions))


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def shown(request):
    """An environment and demonstrations of its expert, without noise."""
    env = environment(request.param)
    act = functools.partial(demonstrate, env, steps=env.steps)
    return env, jax.tree.map(np.asarray, jax.jit(act)(keys(N)))


@pytest.fixture(scope="module")
def straight() -> Episodes:
    act = functools.partial(episodes, environment("maze"), to_goal, execute=8, path=True)
    return jax.tree.map(np.asarray, jax.jit(act)(keys(N)))


def test_the_expert_succeeds(shown):
    """A policy would learn to fail, and no policy could be blamed."""
    env, demonstration = shown
    assert demonstration.success.all()
    assert demonstration.length.max() < env.steps and demonstration.length.min() > 1
    assert np.abs(demonstration.observations).max() < 2
    assert np.abs(demonstration.actions).max() < 1.5


def test_actions_lead_from_each_observation_to_the_next(shown):
    """Observations and actions would be one step apart, which a policy learns as a delay."""
    env, demonstration = shown
    state = jax.vmap(env.reset)(jax.vmap(jax.random.fold_in, (0, None))(keys(N), 0))
    observed = demonstration.observations
    step, observe = jax.vmap(env.step), jax.vmap(env.observe)
    for t in range(3):
        np.testing.assert_allclose(observe(state), observed[:, t], atol=1e-5)
        state = step(state, demonstration.actions[:, t])


def test_an_episode_ends_where_it_succeeds_or_fails(straight):
    """Success would be lost after it, or found behind a wall."""
    env, states = environment("maze"), straight.states
    ends = jax.vmap(jax.vmap(lambda s: jnp.stack([env.succeeded(s), env.failed(s)])))(states)
    won, lost = np.moveaxis(np.asarray(ends), 2, 0)
    for k in range(N):
        last = straight.length[k]
        ended = won[:, k] | lost[:, k]
        assert not ended[:last].any() and (ended[last:].all() or last == env.steps)
        assert straight.success[k] == won[last, k]
        assert (states.position[last:, k] == states.position[last, k]).all()
    assert 0.05 < straight.success.mean() < 0.6  # walls are in the way


def test_how_often_a_constant_target_is_chosen_again_changes_nothing(straight):
    """Actions would be lost or repeated between two chunks."""
    act = functools.partial(episodes, environment("maze"), to_goal, execute=5)
    again = jax.jit(act)(keys(N))
    np.testing.assert_array_equal(again.success, straight.success)
    np.testing.assert_array_equal(again.length, straight.length)


def test_a_certain_denoiser_is_the_policy_that_it_is_certain_of(straight):
    """Chunks would be sampled from another condition, or executed in another order."""
    chunks = policy(Straight(), PLAN, environment("maze"), (H, 2))(
        jnp.arange(12.0).reshape(2, 6), keys(2)
    )
    np.testing.assert_allclose(chunks, to_goal(jnp.arange(12.0).reshape(2, 6)), rtol=1e-5)
    more = {"shape": (H, 2), "execute": 8}
    ended = rollout(Straight(), PLAN, environment("maze"), keys(N), **more)
    np.testing.assert_array_equal(ended.success, straight.success)
    np.testing.assert_array_equal(ended.length, straight.length)


def test_shares_count_each_group_apart():
    """Success at forks would hide in that of all episodes."""
    k = jnp.arange(10)
    ended = Episodes(k < 6, k // 5, jnp.full(10, 7))
    measured = shares(ended, ("one way", "forks"))
    assert (measured["success"], measured["one way"], measured["forks"]) == (0.6, 1.0, 0.2)
    assert measured["intervals"]["forks"] == wilson(0.2, 5)
    assert measured["counts"] == {"success": 10, "one way": 5, "forks": 5}
    assert measured["length"] == 7


def subject(form: Form, plan=lambda: PLAN) -> Subject:
    """Return `Straight` as a network of items of this form."""
    cond = {"vector": np.zeros((4, 30), np.float32)} if form.names else {}
    source = Memory(np.zeros((4, *form.shape), np.float32), kind=form.kind, cond=cond)
    reading = Reading(kind=form.kind, conditions=tuple(form.names))
    config = {"sampling": {"sampler": {"name": "ddim"}, "grid": {"name": "uniform"}, "steps": 3}}
    of: dict[str, Any] = {"denoise": Straight(), "config": config, "about": {"data": "it"}}
    return Subject(form=form, reading=reading, source=source, plan=plan, workdir=Path(), **of)


def chunks(size: int = 30, **units: str) -> Form:
    seen = (Spec("vector", "vector", size),) if size else ()
    return Form("trajectory", (H, 2), seen, units=(*units.items(),))


def test_success_is_that_of_the_policy_in_the_environment_of_the_demonstrations():
    """Another environment, sampler or number of episodes would be measured."""
    measured = success(subject(chunks(environment="maze")), num=100)
    act = functools.partial(episodes, environment("maze"), to_goal, execute=8)
    ended = jax.jit(act)(jax.random.split(stream(0, "episodes"), 100))
    assert measured["success"] == np.mean(ended.success) and measured["count"] == 100
    low, high = measured["intervals"]["success"]
    assert low < measured["success"] < high
    assert measured["protocol"]["sampling"]["steps"] == 3


@pytest.mark.parametrize(
    ("of", "settings", "message"),
    [
        (subject(chunks()), {}, "trajectory items of no environment; needs .*demonstrations"),
        (subject(chunks(environment="maze"), None), {}, "several samplers; needs one sampler"),
        (subject(chunks(environment="maze")), {"execute": 9}, "execute=9: needs 1 <= execute <= 8"),
        (subject(chunks(environment="maze")), {"num": 0}, "num=0"),
        (subject(chunks(0, environment="maze")), {}, "no condition; needs vector of size 30"),
    ],
)
def test_success_of_what_is_no_policy_is_refused(of, settings, message):
    with pytest.raises(ValueError, match=message):
        success(of, **settings)


def test_items_are_windows_of_the_actions_until_success():
    """A policy would learn from actions after the end, or of another episode."""
    source = demonstrations("train", episodes=6, horizon=4, noise=0.0)
    items = source[np.arange(len(source))]
    env = environment("maze")
    act = functools.partial(demonstrate, env, steps=68)
    shown = jax.jit(act)(jax.random.split(stream(0, "demonstrations train"), 6))
    first = np.concatenate([[0], np.cumsum(shown.length)])
    assert len(source) == first[-1]
    for k in range(6):
        for t in (0, int(shown.length[k]) - 1):
            row = first[k] + t
            actions = env.absolute(items["vector"][row], items["x"][row])
            np.testing.assert_allclose(actions, shown.actions[k, t : t + 4], atol=1e-6)
            np.testing.assert_array_equal(items["vector"][row], shown.observations[k, t])


def test_plans_are_the_states_of_an_episode_and_the_actions_between_them():
    """A plan would not begin where the episode is, skip actions, or execute others."""
    source = demonstrations("train", episodes=6, horizon=9, every=4, noise=0.0)
    env = environment("maze")
    act = functools.partial(demonstrate, env, steps=100)
    shown = jax.jit(act)(jax.random.split(stream(0, "demonstrations train"), 6))
    first = np.concatenate([[0], np.cumsum(shown.length)])
    assert len(source) == first[-1] and source.form.names == ["vector"]
    assert dict(source.form.units) == {"environment": "maze", "every": 4}
    items = source[first[:-1] + 3]  # from the fourth step
    plan = items["x"]
    np.testing.assert_array_equal(items["vector"], shown.observations[:, 3])
    assert plan.shape[1:] == (9, plans.width(env, 4))
    states = shown.observations[:, 3:36:4, : env.moving]
    np.testing.assert_allclose(env.scale * plan[..., : env.moving], states, atol=1e-6)
    np.testing.assert_allclose(plans.actions(env, plan), shown.actions[:, 3:35], atol=1e-6)
    start, goal = plans.ends(env, shown.observations[:, 3], 4)
    np.testing.assert_allclose(plan[:, 0], start, atol=1e-6)
    late = source[first[1:] - 1]["x"]  # from the last step before success
    np.testing.assert_allclose(late[:, -1], goal, atol=2e-2)


@pytree
@dataclass(frozen=True)
class Planner:
    """A denoiser that is certain of the plan of `to_goal` between the first and the last row."""

    sde: SDE = field(default=FLOW, metadata={"static": True})

    def __call__(self, x, t, cond=None, *, key=None):
        assert cond is not None and t.shape == x.shape[:2]
        env, goal = environment("maze"), x[:, -1, :2]
        led = (goal[:, None] - x[:, 1:-1, :2]).repeat(2, 1).reshape(len(x), -1, 4)
        rows = jnp.concatenate([x[:, 1:-1, : env.moving], led], -1)
        plan = jnp.concatenate([x[:, :1], rows, x[:, -1:]], 1)
        return predict(FLOW, x, t, plan)


def test_a_certain_planner_is_executed_from_the_known_start_to_the_known_goal(straight):
    """Rows would be taken for others, or the plan of another episode be executed."""
    times = np.where(np.arange(5) % 4 == 0, 0.0, np.array([1.0, 0.5, 0.0])[:, None])
    plan = Plan(samplers.lanes(samplers.ddim, FLOW, times), Conditional())
    env, seen = environment("maze"), jnp.arange(60.0).reshape(2, 30) / 60
    actions = policy(Planner(), plan, env, (5, 8), every=2)(seen, keys(2))
    np.testing.assert_allclose(actions, to_goal(seen), rtol=1e-4, atol=1e-5)
    more = {"shape": (5, 8), "execute": 8, "every": 2}
    ended = rollout(Planner(), plan, env, keys(N), **more)
    np.testing.assert_array_equal(ended.success, straight.success)
    np.testing.assert_array_equal(ended.length, straight.length)
    seen = (Spec("vector", "vector", 30),)
    form = Form("trajectory", (5, 8), seen, units=(("environment", "maze"), ("every", 2)))
    of = dataclasses.replace(subject(form), denoise=Planner(), plan=lambda known: plan)
    assert 0.05 < success(of, num=50)["success"] < 0.6
    with pytest.raises(ValueError, match="execute=9: needs 1 <= execute <= 8"):
        success(of, num=50, execute=9)
    with pytest.raises(ValueError, match="Push: its goal is no single state; needs"):
        plans.ends(environment("push"), jnp.zeros((1, 8)), 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": -1}, "every=-1"),
        ({"environment": "mase"}, "mase.*known: maze, push"),
        ({"episodes": 0}, "episodes=0"),
        ({"horizon": 0}, "horizon=0"),
        ({"horizon": 1, "every": 2}, "horizon=1"),
        ({"noise": -1.0}, "noise=-1"),
    ],
)
def test_demonstrations_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        demonstrations("train", **settings)
