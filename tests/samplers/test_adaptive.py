"""Adaptive steps: the exact flow within the tolerance, the exact distribution, counted passes."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.analytic import Mixture, gaussian, gaussian_flow
from diffjax.generation.program import Generation
from diffjax.guidance import Conditional, Guided
from diffjax.samplers import initial
from diffjax.samplers.adaptive import SOLVERS, adaptive
from diffjax.samplers.conformance import CENTRE, MEAN, SPREAD, VAR, WEIGHT, ode, posterior_mean
from diffjax.schedules import Linear, Logit
from diffjax.sde import SDES, VP, Flow, levels

FRAMES = {name: make(Linear(), t_min=0.02) for name, make in SDES.items()}
SDE = FRAMES["vp"]
TWO = Mixture(*(jnp.asarray(a, jnp.float32) for a in (WEIGHT, CENTRE[:, None], SPREAD[:, None])))
LINE = replace(TWO, mean=jnp.full_like(TWO.mean, MEAN), var=jnp.full_like(TWO.var, VAR))
"""One Gaussian, in the shape of two, for which the same programs do."""
NEVER = np.float32(np.inf)
X = np.linspace(-1.5, 1.5, 7)[:, None]
"""Initial states in units of the VP view."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Net:
    """The exact denoiser, which counts its evaluations and fails for x beyond `bad`."""

    data: Any
    bad: Any = NEVER
    sde: Any = field(default=SDE, metadata={"static": True})
    calls: Any = field(default=None, metadata={"static": True})

    def __call__(self, x, t, cond=None, *, key=None):
        if self.calls is not None:
            jax.debug.callback(lambda t: self.calls.append(np.size(t)), t)
        made = self.data.denoiser(self.sde)(x, t, cond)
        poison = jnp.where(jnp.abs(x) > self.bad, jnp.nan, 0.0)
        return made._replace(x0=made.x0 + poison, eps=made.eps + poison)


class Log(list):
    __hash__ = object.__hash__
    __eq__ = object.__eq__


@jax.jit
def go(how, net, x, keys, cond=None):
    return how.run(net, x, keys, cond)


def keys_of(x):
    return jax.random.split(jax.random.key(3), len(x))


def scale(sde):
    """Return the scale of the frame at the first level, relative to alpha and sigma of VP."""
    at = levels(sde, np.array([sde.t_max]))
    return float(np.hypot(at.alpha[0], at.sigma[0]))


def walked(sde, data, tol, **settings):
    """Return samples from X, and their passes."""
    x = jnp.asarray(X * scale(sde), jnp.float32)
    made = go(adaptive(sde, rtol=tol, atol=tol, **settings), Net(data, sde=sde), x, keys_of(x))
    assert int(made.bad) == -1 and made.x.shape == X.shape and made.calls.shape == (len(X),)
    return np.asarray(made.x), np.asarray(made.calls)


def denoised(sde, x, mean, var):
    """Return E[x0 | x] at t_min for Gaussian data, the result of the last pass."""
    at = levels(sde, np.array([sde.t_min]))
    gain = at.alpha * var / (at.alpha**2 * var + at.sigma**2)
    return mean + gain * (x - at.alpha * mean)


# ODE solvers.

REST = pytest.mark.exhaustive
MARKS = {"dopri5": [], "heun": [pytest.mark.thorough]}
FEW = [pytest.param(s, marks=MARKS.get(s, [REST])) for s in SOLVERS]
HOW = [pytest.param((s, 0.0), marks=MARKS.get(s, [REST])) for s in SOLVERS]
"""All are compiled for seconds each: most only on demand."""


def exact_flow(sde):
    x, n = jnp.asarray(X * scale(sde)), len(X)
    mean, var = jnp.array([MEAN]), jnp.array([VAR])
    t, s = jnp.full(n, sde.t_max), jnp.full(n, sde.t_min)
    return denoised(sde, np.asarray(gaussian_flow(sde, mean, var, x, t, s)), MEAN, VAR)


@pytest.mark.parametrize("solver", FEW)
def test_every_solver_follows_the_exact_flow_within_its_tolerance(solver):
    """Another ODE would be solved, or the tolerance refer to something else than the state."""
    exact = exact_flow(SDE)
    errors, calls = [], []
    for tol in (1e-2, 1e-4, 1e-5):
        made, taken = walked(SDE, LINE, tol, solver=solver)
        errors.append(np.abs(made - exact).max())
        calls.append(int(taken.max()))
    print(f"{solver}: errors {errors}, passes {calls}")
    assert errors[-1] < 5e-4 and errors[0] < 1e-2
    assert errors[-1] < max(0.2 * errors[0], 1e-5) and calls[-1] > calls[0]  # or rounding error


@pytest.mark.thorough
@pytest.mark.parametrize(
    "frame", ["ve", *(pytest.param(f, marks=pytest.mark.thorough) for f in ("sub_vp", "flow"))]
)
def test_the_flow_is_the_same_in_all_frames(frame):
    """The tolerance would mean another error in VE, whose states are 100 times larger."""
    sde = FRAMES[frame]
    exact = exact_flow(sde)
    made, calls = walked(sde, LINE, 1e-3)
    np.testing.assert_allclose(made, exact, atol=5e-3)
    reference, passes = walked(SDE, LINE, 1e-3)
    np.testing.assert_allclose(made, reference, atol=1e-3)
    np.testing.assert_allclose(calls, passes, atol=6)  # rounding may cost one more step


@pytest.mark.thorough
def test_the_flow_of_a_mixture_is_that_of_another_solver():
    """The flow would be right only where it is linear. The error falls with the tolerance."""
    at = levels(SDE, np.array([SDE.t_max, SDE.t_min]))
    end = ode(X[:, 0] * scale(SDE) / at.alpha[0], at.lam)[-1]
    exact = posterior_mean(end, np.exp(-at.lam[-1]))
    errors = [np.abs(walked(SDE, TWO, tol)[0][:, 0] - exact).max() for tol in (1e-2, 1e-4, 1e-5)]
    print(f"mixture: errors {errors}")
    assert errors[0] > errors[1] > errors[2] and errors[2] < 2e-3


@pytest.mark.thorough
def test_the_flow_starts_from_alpha_0():
    """Rectified flow would begin with 0 / 0. The SDE is refused: its drift is infinite there."""
    sde = Flow(Logit())
    exact = MEAN + np.sqrt(VAR) * X  # x is noise of variance 1
    made, _ = walked(sde, LINE, 1e-4)
    np.testing.assert_allclose(made, exact, atol=2e-3)
    with pytest.raises(ValueError, match=r"eta=1.*t=1.*where alpha is 0.*allowed: eta=0"):
        adaptive(sde, eta=1.0)


@pytest.mark.parametrize(
    "how", [*HOW, pytest.param(("dopri5", 1.0), marks=pytest.mark.thorough)], ids=str
)
def test_the_passes_that_are_reported_are_those_that_were_made(how):
    """Reported passes would be wrong, for example without those of rejected steps."""
    solver, eta = how
    net = Net(TWO, calls=Log())
    x = jnp.asarray(X[2:3] * scale(SDE), jnp.float32)
    for tol in (1e-2,) if eta else (1e-2, 1e-4):
        net.calls.clear()
        plan = adaptive(SDE, rtol=tol, atol=tol, solver=solver, eta=eta)
        made = go(plan, net, x, keys_of(x))
        jax.block_until_ready(made)
        jax.effects_barrier()
        assert int(made.bad) == -1
        assert len(net.calls) == int(made.calls[0])
        np.testing.assert_array_equal(plan.spent(made), made.calls)


@pytest.mark.thorough
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samples_have_steps_of_their_own(eta):
    """Sample k would depend on its batch, and take the steps of the slowest sample."""
    x = jnp.asarray(X * scale(SDE), jnp.float32)
    net, plan = Net(TWO), adaptive(SDE, eta=eta, rtol=1e-2 if eta else 1e-3)
    whole = go(plan, net, x, keys_of(x))
    back = go(plan, net, x[::-1], keys_of(x)[::-1])
    np.testing.assert_allclose(back.x[::-1], whole.x, atol=1e-3)
    # Where all steps are near the tolerance, rounding decides on some.
    few = {"rtol": 0.1} if eta else {"atol": 6}
    np.testing.assert_allclose(back.calls[::-1], whole.calls, **few)
    again = np.full(len(X), 4)  # in a batch of equal samples
    alone = go(plan, net, x[again], keys_of(x)[again])
    np.testing.assert_allclose(alone.x, whole.x[again], atol=1e-3)
    np.testing.assert_allclose(alone.calls, whole.calls[again], **few)
    assert len(np.unique(np.asarray(whole.calls))) > 1


@pytest.mark.thorough
def test_guidance_and_condition_are_those_of_each_sample():
    """A sample would get its neighbour's class, or guidance's second pass go uncounted."""
    label = jnp.array([0, 1, 0, 1, 1, 0, -1])
    x = jnp.asarray(X * scale(SDE), jnp.float32)
    made = go(adaptive(SDE), Net(TWO), x, keys_of(x), {"label": label})
    swapped = go(adaptive(SDE), Net(TWO), x, keys_of(x), {"label": label.at[2].set(1)})
    moved = np.abs(np.asarray(swapped.x - made.x))[:, 0] > 1e-3
    np.testing.assert_array_equal(moved, np.arange(len(X)) == 2)
    spots = np.where(np.asarray(label) == 0, CENTRE[0], CENTRE[1])[:6]
    assert np.abs(np.asarray(made.x)[:6, 0] - spots).max() < 1.5
    assert np.abs(np.asarray(made.x)[:6] - np.asarray(walked(SDE, TWO, 1e-3)[0])[:6]).max() > 0.1
    one = adaptive(SDE, weight=1.0, guidance=Guided())
    plain = go(one, Net(TWO), x, keys_of(x), {"label": label})
    np.testing.assert_allclose(plain.x, made.x, atol=1e-3)
    np.testing.assert_array_equal(one.spent(plain), made.calls)
    two = adaptive(SDE, weight=3.0, guidance=Guided())
    guided = go(two, Net(TWO), x, keys_of(x), {"label": label})
    np.testing.assert_array_equal(two.spent(guided), 2 * np.asarray(guided.calls))
    assert np.abs(np.asarray(guided.x - made.x))[:6].max() > 0.02
    assert adaptive(SDE, weight=3.0, guidance=Conditional()).passes is None


# SDE solvers.


@pytest.mark.thorough
def test_the_sde_has_the_law_of_the_data():
    """Samples would have a wrong variance, as drift and noise would not match."""
    n, d = 500, 20  # all values: d independent ones in each sample
    x, keys = initial(SDE, jax.random.split(jax.random.key(0), n // d), (d,))
    data = gaussian(jnp.full(d, MEAN), jnp.full(d, VAR))
    made = np.asarray(go(adaptive(SDE, eta=1.0, rtol=1e-2, atol=1e-2), Net(data), x, keys).x)
    at = levels(SDE, np.array([SDE.t_min]))
    total = at.alpha[0] ** 2 * VAR + at.sigma[0] ** 2
    var = at.alpha[0] ** 2 * VAR**2 / total  # variance of the posterior mean
    print(f"mean {made.mean():.3f} of {MEAN}, variance {made.var() / var:.3f} of the exact one")
    assert abs(made.mean() - MEAN) < 4 * np.sqrt(var / n) + 0.005
    assert made.var() / var == pytest.approx(1, abs=4 * np.sqrt(2 / n) + 0.01)


@pytest.mark.thorough
def test_the_sde_is_one_path_whatever_the_tolerance():
    """A tighter tolerance would give another sample instead of a better one."""
    x = jnp.asarray(X * scale(SDE), jnp.float32)
    made = [
        np.asarray(go(adaptive(SDE, eta=1.0, rtol=tol, atol=tol), Net(LINE), x, keys_of(x)).x)
        for tol in (3e-2, 3e-3, 1e-3)
    ]
    away = [float(np.sqrt(np.mean((a - made[2]) ** 2))) for a in made[:2]]
    print(f"away from the finest: {away}")
    assert away[0] > 2 * away[1] and away[1] < 0.05
    other = go(adaptive(SDE, eta=1.0), Net(LINE), x, keys_of(x)[::-1]).x
    assert np.abs(np.asarray(other) - made[2]).max() > 0.3


# Refusals.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"solver": "dopri"},
            "solver='dopri': unknown; known: 'heun', 'bosh3', 'dopri5', 'tsit5', 'dopri8'",
        ),
        ({"rtol": 0.0}, "rtol=0.0: needs 0 < rtol < 1"),
        ({"rtol": 1.0}, "rtol=1.0: needs 0 < rtol < 1"),
        ({"atol": -1e-3}, "atol=-0.001: needs 0 < atol < 1"),
        ({"atol": np.nan}, "atol=nan: needs 0 < atol < 1"),
        ({"eta": -1.0}, "eta=-1.0: needs 0 <= eta < inf"),
        ({"eta": np.inf}, "eta=inf: needs 0 <= eta < inf"),
        ({"most": 0}, "most=0: needs most >= 1"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_by_name(settings, message):
    """Steps would never end, or never begin."""
    with pytest.raises(ValueError, match=message):
        adaptive(SDE, **settings)


def test_there_is_no_common_path():
    """Frames of an animation would show samples at different noise levels."""
    x = jnp.asarray(X, jnp.float32)
    with pytest.raises(ValueError, match="which have no common path"):
        adaptive(SDE).run(Net(LINE), x, keys_of(x), path=True)
    assert adaptive(SDE).rows is None


def generation(net, **settings):
    return Generation(net, adaptive(net.sde, **settings), 0, 6, (1,), None, 4)


@pytest.mark.thorough
@pytest.mark.typed
def test_runs_count_the_passes_of_every_sample():
    """The repetitions that fill the last batch would be counted as samples."""
    made = generation(Net(TWO))
    x = np.concatenate([*made])
    assert x.shape == (6, 1) and np.isfinite(x).all()
    assert len(made.passes) == 6 and min(made.passes) > 10
    assert len(set(made.passes)) > 1


def test_a_sample_that_does_not_arrive_stops_the_run():
    """Unfinished samples, or NaN, would be saved with the others."""
    with pytest.raises(FloatingPointError, match=r"sample \d of its batch needs more than 2 steps"):
        [*generation(Net(TWO), most=2)]
    x = jnp.asarray(X * scale(SDE), jnp.float32)
    net = Net(TWO)
    plan = adaptive(SDE)
    fine = go(plan, net, x, keys_of(x))
    broken = go(plan, net, x.at[3].set(jnp.nan), keys_of(x))
    assert int(broken.bad) == 3
    keep = np.arange(len(X)) != 3
    np.testing.assert_allclose(np.asarray(broken.x)[keep], np.asarray(fine.x)[keep], atol=1e-4)
    with pytest.raises(FloatingPointError, match=r"sample 3 of its batch.*rtol=0.001"):
        plan.check(broken)
    with pytest.raises(FloatingPointError, match=r"sample 0 of its batch.*not finite"):
        [*generation(Net(TWO, bad=np.float32(0.0)))]


def test_process_of_the_denoiser_is_that_of_the_plan():
    """`start` and `stop` would be the ends of another process."""
    how = adaptive(VP(Linear(), t_min=0.1, t_max=0.9))
    assert (how.start, how.stop) == (0.9, 0.1)
