"""Exact flow maps against calculus: the ODE's own solver, and the identities of a flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from diffjax import analytic
from diffjax.analytic import Mixture
from diffjax.schedules import Linear
from diffjax.sde import SDES

frames = pytest.mark.parametrize("frame", ["flow", pytest.param("ve", marks=pytest.mark.thorough)])
"""alpha that falls to 0, and alpha = 1."""
MIXTURE = Mixture(np.array([0.3, 0.7]), np.array([[-1.0], [0.8]]), np.array([[0.04], [0.09]]))
T, S = np.array([0.9, 0.6, 0.3, 0.8]), np.array([0.2, 0.55, 0.0, 0.1])
X = np.array([[-1.3], [0.2], [0.7], [2.5]])


def lead(sde, made, s):
    """Return the sample to which a prediction leads, alpha_s x0 + sigma_s eps."""
    return sde.perturb(made.x0, made.eps, s)


COV = np.array([[0.5, 0.3], [0.3, 0.4]])
LAWS = {
    "mixture": (lambda: MIXTURE, X),
    "gaussian": (lambda: analytic.gaussian(np.array([0.7]), np.array([0.3])), X),
    "correlated": (
        lambda: analytic.correlated(np.array([0.7, -0.2]), COV),
        np.concatenate([X, X[::-1]], 1),
    ),
}
laws = pytest.mark.parametrize(
    ("law", "x"),
    [
        pytest.param(*case, id=name, marks=() if name == "mixture" else pytest.mark.thorough)
        for name, case in LAWS.items()
    ],
)


@frames
@laws
def test_a_flow_map_solves_the_ode_and_is_a_flow(frame, law, x, x64):
    """Every test of a distillation compares with this map, and would share its error.

    It is compared with DOP853 on the velocity of its own diagonal, which other tests hold to
    Tweedie's formula; maps compose; and its prediction at s = t is the denoiser.
    """
    sde = SDES[frame](Linear())
    t, s, x = map(jnp.asarray, (T, S, x))
    flow = law().flow_map(sde)
    exact = jax.jit(lambda x, t, to: flow(x, t, to=to))

    @jax.jit
    def velocity(x, t):
        p = exact(x, t, t)
        dalpha, dsigma = sde.slopes(t)
        return dalpha[:, None] * p.x0 + dsigma[:, None] * p.eps

    there = lead(sde, exact(x, t, s), s)
    for i in np.flatnonzero(S):
        field = lambda r, y: np.ravel(velocity(jnp.asarray(y)[None], jnp.asarray([r])))
        solved = integrate.solve_ivp(field, (T[i], S[i]), x[i], "DOP853", rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(there[i], solved.y[:, -1], rtol=1e-8, atol=1e-8)
    middle = (t + s) / 2
    half = lead(sde, exact(x, t, middle), middle)
    np.testing.assert_allclose(lead(sde, exact(half, middle, s), s), there, rtol=1e-9)
    np.testing.assert_allclose(lead(sde, exact(x, t, t), t), x, rtol=1e-10)


@pytest.mark.thorough
@frames
@laws
def test_its_derivatives_are_those_of_the_ode(frame, law, x, x64):
    """Eulerian and Lagrangian losses, which differentiate the map, would have no oracle.

    Bisection has no derivative by itself. d/dt X + dX/dx v = 0 along the ODE, and dX/ds = v(X, s).
    """
    sde = SDES[frame](Linear())
    exact = law().flow_map(sde)
    t, s, x = jnp.asarray(T), jnp.asarray(S).at[2].set(0.05), jnp.asarray(x)

    @jax.jit
    def both(x, t, s):
        def velocity(x, t):
            p = exact(x, t)
            dalpha, dsigma = sde.slopes(t)
            return dalpha[:, None] * p.x0 + dsigma[:, None] * p.eps

        map_to = lambda x, t, s: lead(sde, exact(x, t, to=s), s)
        zero, one = jnp.zeros_like(t), jnp.ones_like(t)
        there, along = jax.jvp(map_to, (x, t, s), (velocity(x, t), one, zero))
        _, onward = jax.jvp(map_to, (x, t, s), (jnp.zeros_like(x), zero, one))
        return along, onward - velocity(there, s)

    for residual in both(x, t, s):
        np.testing.assert_allclose(residual, 0, atol=1e-8)


def test_values_of_a_product_are_mapped_one_by_one(x64):
    """Images of independent values would lose their exact map, the cheapest in many dimensions."""
    sde = SDES["flow"](Linear())
    exact = MIXTURE.flow_map(sde)
    x, t, s = jnp.asarray(X.reshape(2, 2, 1)), jnp.asarray([0.9, 0.5]), jnp.asarray([0.1, 0.1])
    label = jnp.asarray([-1, 1])
    whole = jax.jit(lambda *args: exact(*args[:3], to=args[3]))(x, t, {"label": label}, s)
    chosen = analytic.gaussian(MIXTURE.mean[1], MIXTURE.var[1]).flow_map(sde)
    np.testing.assert_allclose(whole.x0[1], chosen(x[1], jnp.full(2, 0.5), to=s).x0, rtol=1e-7)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Mixture(*(np.ones((2, *s)) for s in ((), (2,), (2,)))).flow_map(None), "2 comp"),
        (lambda: analytic.correlated(np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]])), "cov="),
    ],
)
def test_laws_without_a_known_map_are_refused(build, said):
    with pytest.raises(ValueError, match=said):
        build()
