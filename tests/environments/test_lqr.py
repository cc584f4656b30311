"""Plans of a linear system with quadratic cost are Gaussian, so planning by conditioning is exact.

With p(plan) in proportion to exp(-cost / 2), the mean of the plans from a start is the plan of the
linear-quadratic regulator (Riccati), and a known goal is one more condition. A quadratic value that
guides plans of any behaviour is a measurement, so guidance by it is exact too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import samplers
from diffjax.analytic import Correlated
from diffjax.guidance import GuidedDenoiser
from diffjax.inverse import Mask, Measurement, Posterior, Reward, Scale, Tilted, Tweedie
from diffjax.schedules import Cosine
from diffjax.sde import VP

T = 6
A = np.array([[1.0, 0.3], [0.0, 0.9]])
B = np.array([[0.05], [0.3]])
Q, R, LAST = np.diag([0.4, 0.1]), np.array([[0.5]]), np.diag([2.0, 1.0])
START = np.array([0.8, -0.5])
VP_ = VP(Cosine(), t_min=1e-3, t_max=0.99)
times = np.linspace(0.99, 0, 65)


class Plans(NamedTuple):
    """The Gaussian of plans (x_0, u_0, ..., u_{T-1}, x_T): their covariance, of mean 0, in float64.

    start, goal: where the first and the last state are in a plan.
    """

    cov: np.ndarray
    start: slice
    goal: slice


@pytest.fixture(scope="module")
def plans() -> Plans:
    """The density exp(-cost / 2) of the free values (x_0, u), and plans as their linear map."""
    free = 2 + T
    state, rows, precision = np.eye(2, free), [], np.eye(free) * 0
    for t in range(T):
        action = np.eye(1, free, 2 + t)
        precision += state.T @ Q @ state + action.T @ R @ action
        rows += [state, action]
        state = A @ state + B @ action
    precision += state.T @ LAST @ state
    plan = np.concatenate([*rows, state])
    cov = plan @ np.linalg.inv(precision) @ plan.T
    return Plans(cov, slice(0, 2), slice(len(plan) - 2, len(plan)))


def regulated(start: np.ndarray) -> np.ndarray:
    """Return the plan of least cost from a start, by the Riccati recursion and a simulation."""
    value, gains = LAST, []
    for _ in range(T):
        gain = np.linalg.solve(R + B.T @ value @ B, B.T @ value @ A)
        value = Q + A.T @ value @ (A - B @ gain)
        gains.append(gain)
    rows, x = [], start
    for gain in reversed(gains):
        u = -gain @ x
        rows += [x, u]
        x = A @ x + B @ u
    return np.concatenate([*rows, x])


def known(plans: Plans, goal: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return which values of a plan are known, and these values, 0 elsewhere."""
    keep, y = np.zeros(len(plans.cov), bool), np.zeros(len(plans.cov))
    keep[plans.start], y[plans.start] = True, START
    if goal is not None:
        keep[plans.goal], y[plans.goal] = True, goal
    return keep, y


def conditional(plans: Plans, keep: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the covariance of plans given the known values: Schur complements."""
    cov = plans.cov
    gain = cov[:, keep] @ np.linalg.inv(cov[np.ix_(keep, keep)])
    return gain @ y[keep], cov - gain @ cov[keep]


def test_the_mean_plan_from_a_start_is_that_of_the_riccati_recursion(plans):
    """Planning by conditioning would not be optimal even with an exact model."""
    mean, cov = conditional(plans, *known(plans, None))
    np.testing.assert_allclose(mean, regulated(START), atol=1e-10)
    assert np.linalg.matrix_rank(cov, tol=1e-9) == T  # the actions are free


@pytest.fixture(scope="module")
def run(plans):
    """One program: views at several times and a plan, for a measurement."""
    var, basis = np.linalg.eigh(plans.cov)
    var = np.where(var < 1e-9, 0, var)  # the states follow from the first one and the actions
    data = Correlated(*(jnp.asarray(a, jnp.float32) for a in (0 * var, basis, var)))
    denoise, table = data.flow_map(VP_), samplers.dpmpp_2m(VP_, times)

    def both(keep, y, x, t, z):
        guidance = Posterior(Measurement(y, Mask(keep)), Tweedie(iterations=4))
        view = GuidedDenoiser(denoise, guidance)(x, t).x0
        keys = jax.random.split(jax.random.key(0), len(z))
        return view, samplers.sample(denoise, table, z, keys, guidance=guidance)

    return jax.jit(both)


@pytest.mark.parametrize("goal", [None, np.array([0.3, 0.0])], ids=["start", "start and goal"])
def test_a_plan_is_exact_given_its_start_and_its_goal(plans, run, goal):
    """Guidance by what is known would be biased, as replacement of known values is.

    Sampling is linear here: from z = 0 it leads to the mean plan.
    """
    keep, y = known(plans, goal)
    mean, cov = conditional(plans, keep, y)
    t = np.array([0.9, 0.5, 0.2])
    x = np.random.default_rng(0).normal(size=(3, len(y)))
    inputs = [np.asarray(a, np.float32) for a in (y[None], x, t, 0 * x[:1])]
    view, plan = run(jnp.asarray(keep)[None], *map(jnp.asarray, inputs))
    for k in range(3):
        alpha, sigma = (float(a(jnp.asarray(t[k]))) for a in (VP_.alpha, VP_.sigma))
        noisy = alpha**2 * cov + sigma**2 * np.eye(len(y))
        expected = mean + alpha * cov @ np.linalg.solve(noisy, x[k] - alpha * mean)
        np.testing.assert_allclose(view[k], expected, atol=2e-4)
    np.testing.assert_allclose(plan[0], mean, atol=5e-3)
    if goal is None:
        np.testing.assert_allclose(plan[0], regulated(START), atol=5e-3)


@pytest.fixture(scope="module")
def behaviour():
    """Plans from START of random actions u ~ N(0, R^-1), which know no goal: mean, covariance.

    Beside them the weights (D,) of the states in the cost, which the value is: -x^T W x / 2.
    """
    state, move, rows, more, weight = START, np.zeros((2, T)), [], [], []
    for t in range(T):
        action = np.eye(1, T, t)
        rows += [state, np.zeros(1)]
        more += [move, action]
        weight += [np.diag(Q), np.zeros(1)]
        state, move = A @ state, A @ move + B @ action
    mean, linear = np.concatenate([*rows, state]), np.concatenate([*more, move])
    return mean, linear @ linear.T / R[0, 0], np.concatenate([*weight, np.diag(LAST)])


def tilted(behaviour):
    """The mean and the covariance of the plans times exp(value), which are Gaussian again."""
    mean, cov, weight = behaviour
    gain = cov @ np.linalg.inv(np.eye(len(mean)) + weight[:, None] * cov)
    return mean - gain @ (weight * mean), gain


def test_random_plans_weighted_by_their_value_have_the_mean_of_the_riccati_recursion(behaviour):
    """Planning by a value would not be optimal even with an exact model."""
    np.testing.assert_allclose(tilted(behaviour)[0], regulated(START), atol=1e-9)


def test_guidance_by_a_quadratic_value_is_exact_as_a_measurement_and_known_as_a_gradient(behaviour):
    """Guided plans would be others than those of the value, by an unknown amount.

    As the measurement 0 = W^(1/2) x + n the value gives the exact E[x0 | x_t, value]. Its gradient
    alone moves x0 by -C_t W x0_hat, with C_t the covariance of x0 given x_t: the first order of the
    exact move -(1 + C_t W)^-1 C_t W x0_hat.
    """
    mean, cov, weight = behaviour
    var, basis = np.linalg.eigh(cov)
    var = np.where(var < 1e-9, 0, var)
    data = Correlated(*(jnp.asarray(a, jnp.float32) for a in (mean, basis, var)))
    denoise, root = data.flow_map(VP_), jnp.asarray(np.sqrt(weight), jnp.float32)[None]
    value = Reward(lambda x0: -0.5 * ((root * x0) ** 2).sum(1))
    exact = Posterior(Measurement(0 * root, Scale(root), 1.0), Tweedie(iterations=8))
    t = np.array([0.9, 0.5, 0.2])
    x = np.random.default_rng(0).normal(size=(3, len(mean)))
    views = jax.jit(lambda *a: [GuidedDenoiser(denoise, g)(*a).x0 for g in (exact, Tilted(value))])
    posterior, gradient = views(*(jnp.asarray(a, jnp.float32) for a in (x, t)))
    for k in range(3):
        alpha, sigma = (float(a(jnp.asarray(t[k]))) for a in (VP_.alpha, VP_.sigma))
        shrink = alpha * cov @ np.linalg.inv(alpha**2 * cov + sigma**2 * np.eye(len(mean)))
        x0, left = mean + shrink @ (x[k] - alpha * mean), cov - alpha * shrink @ cov
        move = left @ (weight * x0)
        np.testing.assert_allclose(gradient[k], x0 - move, atol=2e-3)
        move = np.linalg.solve(np.eye(len(mean)) + left * weight, move)
        np.testing.assert_allclose(posterior[k], x0 - move, atol=2e-3)
        centre, spread = tilted(behaviour)
        shrink = alpha * spread @ np.linalg.inv(alpha**2 * spread + sigma**2 * np.eye(len(mean)))
        np.testing.assert_allclose(x0 - move, centre + shrink @ (x[k] - alpha * centre), atol=1e-9)
