"""Correctors: rows that keep the marginal of their noise level and attract deviating states."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain import FRAMES, VARIANTS, label

from diffjax.analytic import gaussian
from diffjax.builder import plan
from diffjax.data.form import labelled
from diffjax.grids import uniform
from diffjax.prediction import Prediction
from diffjax.samplers import (
    CORRECTORS,
    SAMPLERS,
    ddim,
    langevin,
    moments,
    refresh,
    run,
    unroll,
)
from diffjax.samplers.conformance import DOWN, MEAN, TIMES, VAR, VP_LINEAR, marginal
from diffjax.samplers.tuning import error
from diffjax.schedules import Linear
from diffjax.sde import SDE, VE, levels

frames = pytest.mark.parametrize("frame", FRAMES)
REFUSED = {"churn", "unipc", "sa_solver"}
"""Their steps begin with noise, or with a state that is one row late."""
TAKEN = [m for m in VARIANTS if m[0] not in REFUSED]


def only(sde, table, make=langevin, row=0, **settings):
    """Return the corrector's first row before row `row` of `table`, alone."""
    table = make(sde, table, **settings)
    return table[2 * row : 2 * row + 1]


def at_row(sde, i):
    """Return alpha and sigma of TIMES[i]."""
    at = levels(sde, TIMES[i : i + 1])
    return float(at.alpha[0]), float(at.sigma[0])


# langevin


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Line:
    """The denoiser E[x0 | x] of N(mean, var) data; `still`: a score of zero."""

    sde: SDE = field(metadata={"static": True})
    mean: Any = MEAN
    var: Any = VAR
    still: bool = field(default=False, metadata={"static": True})

    def __call__(self, x, t, cond=None, *, key=None):
        if self.still:
            return Prediction(x, x / self.sde.alpha(t)[:, None], jnp.zeros_like(x))
        made = gaussian(jnp.full(x.shape[1], self.mean), jnp.full(x.shape[1], self.var))
        return made.denoiser(self.sde)(x, t, cond)


def formula(sde, i, x, z, snr):
    """Compute arXiv:2011.13456, Alg. 4 and 5, with the norms of each sample, at TIMES[i]."""
    alpha, sigma = at_row(sde, i)
    score = -(x - alpha * MEAN) / (alpha**2 * VAR + sigma**2)
    norm = lambda a: np.sqrt((a**2).sum(1, keepdims=True))
    size = 2 * (snr * norm(z) / norm(score)) ** 2
    return x + size * score + np.sqrt(2 * size) * z


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def begin(x):
    return jnp.asarray(x), jax.random.split(jax.random.key(1), len(x))


@frames
@pytest.mark.parametrize("name", ["ddim", "lms"], ids=["x0", "eps"])
def test_a_langevin_step_is_the_published_one(frame, name, x64):
    """The score would be that of another frame, or the step size that of the batch."""
    sde = FRAMES[frame]
    made = []
    for i, snr in ((0, 0.16), (3, 0.5)):
        row = only(
            sde,
            SAMPLERS[name](sde, TIMES, **({} if name == "ddim" else {"order": 1})),
            row=i,
            snr=snr,
        )
        assert row.t[0] == TIMES[i] and row.noisy[0]
        alpha, _ = at_row(sde, i)
        x, z = alpha * drawn((3, 16)), drawn((3, 16), 1)
        made = run(Line(sde), row, *begin(x), noise=jnp.asarray(z)[None]).x
        np.testing.assert_allclose(made, formula(sde, i, x, z, snr), rtol=1e-9)


def test_langevin_in_units_of_alpha_is_the_same_in_all_frames(x64):
    """A step size from the paper's VP would mean another corrector in its VE."""
    made = []
    for sde in FRAMES.values():
        alpha, _ = at_row(sde, 2)
        row = only(sde, ddim(sde, TIMES), row=2)
        noise = jnp.asarray(drawn((1, 3, 16), 1))
        x = run(Line(sde), row, *begin(alpha * drawn((3, 16))), noise=noise).x
        made.append(np.asarray(x) / alpha)
    np.testing.assert_allclose(made[1:], [made[0]] * (len(made) - 1), rtol=1e-9)


@pytest.mark.parametrize("snr", [0.16, 0.5])
def test_langevin_leaves_the_variance_of_its_level_up_to_its_step(snr):
    """The variance of a level would be off by more than a step of this length implies.

    From the exact marginal N(0, v) in many dimensions e = 2 snr^2 v, and the variance is v (1 + 4
    snr^4).
    """
    sde = VP_LINEAR
    alpha, sigma = at_row(sde, 3)
    v = alpha**2 * VAR + sigma**2
    n, d = 64, 2048
    x = np.sqrt(v) * drawn((n, d)).astype(np.float32)
    row = only(sde, ddim(sde, TIMES), row=3, snr=snr)
    made = np.asarray(run(Line(sde, mean=0.0), row, *begin(x)).x)
    found = (made**2).mean() / v
    print(f"snr {snr}: variance {found:.4f}, {1 + 4 * snr**4:.4f} expected")
    assert found == pytest.approx(1 + 4 * snr**4, rel=4 * np.sqrt(2 / (n * d)) + 4 / d)


def test_a_score_of_zero_leaves_the_state():
    """The step would be infinite, and the state NaN."""
    x = drawn((3, 16)).astype(np.float32)
    made = run(
        Line(VP_LINEAR, still=True), only(VP_LINEAR, SAMPLERS["heun"](VP_LINEAR, TIMES)), *begin(x)
    )
    np.testing.assert_array_equal(made.x, x)
    assert int(made.bad) == -1


def test_langevin_steps_are_those_of_each_sample():
    """Sample k would change with its neighbours, as where norms are means over the batch."""
    x, keys = begin(
        drawn((4, 16)).astype(np.float32) * np.array([[1], [2], [5], [0.1]], np.float32)
    )
    table = langevin(VP_LINEAR, ddim(VP_LINEAR, DOWN), repeats=2)
    whole = run(Line(VP_LINEAR), table, x, keys).x
    for k in (0, 3):
        alone = run(Line(VP_LINEAR), table, x[k : k + 1], keys[k : k + 1]).x
        np.testing.assert_allclose(alone[0], whole[k], rtol=1e-5, atol=1e-6)


def test_a_langevin_table_reports_that_it_is_not_linear():
    """An exact distribution would be computed that samples do not have."""
    table = langevin(VP_LINEAR, ddim(VP_LINEAR, DOWN))
    for prove in (unroll, lambda table: moments(table, VP_LINEAR, MEAN, VAR)):
        with pytest.raises(ValueError, match="langevin are not linear in the registers"):
            prove(table)
    assert "(score of a Langevin step, snr 0.16)" in str(table)


# refresh


@frames
@pytest.mark.parametrize("name", ["ddim", "lms"], ids=["x0", "eps"])
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_refresh_draws_part_of_the_noise_anew(frame, name, share):
    """A refreshed state would have too little or too much of the old noise.

    It is alpha x0 + sqrt(1 - share) (x - alpha x0) + sqrt(share) sigma z; share = 1 forgets the
    state, as `consistency` does.
    """
    sde = FRAMES[frame]
    alpha, sigma = at_row(sde, 2)
    settings = {} if name == "ddim" else {"order": 1}
    x, y, z = unroll(
        only(sde, SAMPLERS[name](sde, TIMES, **settings), refresh, 2, share=share)
    ).result
    keep = np.sqrt(1 - share)
    if name == "ddim":
        exact = keep, alpha * (1 - keep), np.sqrt(share) * sigma
    else:  # x = alpha x0 + sigma eps
        exact = 1, sigma * (keep - 1), np.sqrt(share) * sigma
    np.testing.assert_allclose((x, y, z), exact, rtol=1e-12, atol=1e-14)


@frames
def test_refresh_keeps_the_marginal_to_second_order_of_its_share(frame):
    """The corrector would change the marginal that it should restore."""
    sde = FRAMES[frame]
    for i in (0, 3, 6):
        mean, var = marginal(sde, TIMES[i])
        defects = []
        for share in (0.02, 0.01):
            row = only(sde, ddim(sde, np.append(TIMES, 0.01)), refresh, i, share=share)
            made = moments(row, sde, MEAN, VAR, (mean, var))
            assert made[0] == pytest.approx(mean, rel=1e-12)
            defects.append(abs(made[1] / var - 1))
        assert defects[0] / defects[1] == pytest.approx(4, rel=0.05)
        assert defects[0] < 1e-4


@frames
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_refresh_draws_a_wrong_variance_to_the_right_one(frame, factor):
    """Errors of the predictor would remain, or grow."""
    sde = FRAMES[frame]
    mean, var = marginal(sde, TIMES[3])
    table = refresh(sde, ddim(sde, TIMES[3:5]), repeats=60)[:60]
    away = [
        moments(table[:k], sde, MEAN, VAR, (mean + var**0.5, factor * var)) for k in (1, 10, 60)
    ]
    off = [abs(v / var - 1) for _, v in away]
    assert abs(factor - 1) > off[0] > off[1] > 5 * off[2]
    bias = [abs(m - mean) / var**0.5 for m, _ in away]
    assert 1 > bias[0] > bias[1] > 5 * bias[2]


# annealed_langevin


@frames
@pytest.mark.parametrize("step", [0.1, 0.5])
def test_langevin_at_one_level_has_the_known_stationary_variance(frame, step):
    """The unadjusted chain of N(m, v) would not rest at v / (1 - e / (2 v)), e = step sigma^2."""
    sde = FRAMES[frame]
    mean, var = marginal(sde, TIMES[3])
    _, sigma = at_row(sde, 3)
    table = SAMPLERS["annealed_langevin"](sde, TIMES[3:5], repeats=301, step=step)[:300]
    made = moments(table, sde, MEAN, VAR, (0.0, 3 * var))
    assert made[0] == pytest.approx(mean, rel=1e-9)
    assert made[1] == pytest.approx(var / (1 - step * sigma**2 / (2 * var)), rel=1e-9)


def test_many_langevin_steps_sample_the_data():
    """Levels would be skipped, or x not be scaled to the next one.

    With few repeats the distribution lags behind; with many, the remaining error is that of the
    last level and its step.
    """
    times, off = np.array([0.95, 0.3, 0.02, 0.0]), []
    for repeats in (1, 30, 300):
        table = SAMPLERS["annealed_langevin"](VP_LINEAR, times, repeats=repeats, step=0.5)
        assert len(table) == 3 * repeats + 1
        mean, var = moments(table, VP_LINEAR, MEAN, VAR)
        off.append(max(abs(mean - MEAN) / VAR**0.5, abs(var / VAR - 1)))
    print(f"off by {off}")
    assert off[0] > 5 * off[1] > 25 * off[2]
    assert off[2] < 0.03 and SAMPLERS["annealed_langevin"].order() == 0


@pytest.mark.parametrize("setting", [{"step": 0.0}, {"step": np.nan}, {"repeats": 0}], ids=str)
def test_bad_langevin_steps_are_refused_by_name(setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=rf"{name}={value}: needs "):
        SAMPLERS["annealed_langevin"](VP_LINEAR, TIMES, **setting)


# Alternating predictor and corrector.


@pytest.mark.parametrize("method", TAKEN, ids=label)
@pytest.mark.parametrize("frame", ["vp", pytest.param("ve", marks=pytest.mark.thorough)])
def test_a_corrector_that_does_nothing_leaves_the_sampler(method, frame):
    """Corrector rows would overwrite a history, a kept noise, or the state of a stage."""
    sde, (name, settings) = FRAMES[frame], method
    table = SAMPLERS[name](sde, DOWN, **settings)
    made = refresh(sde, table, share=1e-14, repeats=2)
    start = (0.3, 1.7)
    ours, theirs = (moments(t, sde, MEAN, VAR, start) for t in (made, table))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert len(made) > len(table) and made.learned == table.learned


@pytest.mark.parametrize("method", TAKEN, ids=label)
@pytest.mark.parametrize(
    ("frame", "steps"),
    [("sub_vp", 3), ("vp", 20), pytest.param("ve", 20, marks=pytest.mark.thorough)],
)
def test_every_step_is_corrected(method, frame, steps):
    """Some steps would silently be left out: a state of 1.0000000000000002 x is x."""
    sde, (name, settings) = FRAMES[frame], method
    times = np.append(np.linspace(TIMES[0], TIMES[-1], steps), 0.0)
    table = SAMPLERS[name](sde, times, **settings)
    made = refresh(sde, table, repeats=2)
    begins = steps
    if name == "annealed_langevin":  # the last level has its Langevin row, and that of x0
        begins = steps + 1
    elif name == "restart":  # Heun steps: two rows each, but the last
        begins = (len(table) + 1) // 2
    elif name == "repaint":  # every row, repeated ones too
        begins = len(table)
    assert len(made) - len(table) == 2 * begins
    if name not in ("restart", "repaint", "annealed_langevin"):
        np.testing.assert_array_equal(made.t[np.flatnonzero(_added(made, table))[::2]], times[:-1])


def _added(made, table):
    """Return which rows are the corrector's with repeats = 2: pairs with noise at one time."""
    new, old = np.zeros(len(made), bool), 0
    for i in range(len(made)):
        same = old < len(table) and all(
            np.array_equal(a[i], b[old])
            for a, b in ((made.t, table.t), (made.input, table.input), (made.update, table.update))
        )
        new[i] = not same
        old += same
    return new


@pytest.mark.parametrize("name", sorted(REFUSED))
@pytest.mark.parametrize("steps", [2, 3, 6, 20])
def test_samplers_without_a_state_to_correct_are_refused(name, steps):
    """Some of their steps, or only the first, would be corrected without a message."""
    times = np.append(np.linspace(TIMES[0], TIMES[-1], steps), 0.0)
    table = SAMPLERS[name](VP_LINEAR, times)
    for corrector in CORRECTORS.values():
        with pytest.raises(ValueError, match="in which every step begins with the state"):
            corrector(VP_LINEAR, table)


@pytest.mark.parametrize("name", CORRECTORS)
def test_rows_and_passes_of_the_corrector_are_counted(name):
    """A report would compare samplers of unequal cost as equal ones."""
    spec = {"sampler": {"name": "dpmpp_2m"}, "steps": 6, "corrector": {"name": name, "repeats": 2}}
    made = plan(spec, VP_LINEAR, labelled("vector", (16,), 2))
    assert (made.rows, made.passes) == (18, 18)
    guided = plan({**spec, "guidance": 2.0}, VP_LINEAR, labelled("vector", (16,), 2))
    assert (guided.rows, guided.passes) == (18, 36)


@pytest.mark.typed
def test_a_corrected_table_is_a_table():
    """Its noise would be that of rows without a corrector, or it could not be padded."""
    x, keys = begin(drawn((8, 16)).astype(np.float32))
    net, steps = Line(VP_LINEAR), SAMPLERS["ddim_sde"](VP_LINEAR, DOWN)
    for corrector in CORRECTORS.values():
        table = corrector(VP_LINEAR, steps)
        path = table.brownian()
        clock = path.clock[path.noisy & np.isfinite(path.clock[:, 1])]
        np.testing.assert_array_equal(clock, steps.clock[steps.noisy])
        own = np.isnan(table.clock[:, 1]) & table.noisy
        assert own.sum() == len(steps)
        np.testing.assert_array_equal(path.nodes[own, 0], np.flatnonzero(own))
        made = run(net, path, x, keys)
        assert int(made.bad) == -1
        padded = run(net, path.pad(len(path) + 3), x, keys).x
        np.testing.assert_allclose(padded, made.x, atol=1e-5)
        assert np.abs(run(net, table, x, keys).x - made.x).max() > 1e-2
        # The table is on a path already; the noises of the corrector are new.
        again = corrector(VP_LINEAR, steps.brownian())
        np.testing.assert_array_equal(again.nodes, table.nodes)
        np.testing.assert_array_equal(corrector(VP_LINEAR, steps.pad(9)).active[-2:], False)


def test_a_corrected_sampler_is_nearer_to_the_data():
    """Correctors would cost passes for nothing.

    For reverse diffusion in VE in 20 even steps: with half of the noise redrawn before each step,
    the distribution is nearer to that of the data than without a corrector in 20 or 40 steps.
    """
    sde, var = VE(Linear(), t_min=0.02), np.geomspace(1e-2, 2, 6)
    alone = SAMPLERS["reverse_diffusion"]
    both = lambda sde, times: refresh(sde, alone(sde, times), share=0.5)
    made = error(both, sde, uniform(sde, 20), var)
    few, many = (error(alone, sde, uniform(sde, n), var) for n in (20, 40))
    print(f"corrected {made:.3f}; alone {few:.3f}, of as many passes {many:.3f}")
    assert made < 0.5 * few and made < many


@pytest.mark.parametrize(
    ("corrector", "setting"),
    [
        *((langevin, {"snr": value}) for value in (0.0, -1.0, np.inf, np.nan)),
        *((refresh, {"share": value}) for value in (0.0, 1.5, np.nan)),
        (langevin, {"repeats": 0}),
        (refresh, {"repeats": 0}),
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_bad_settings_of_correctors_are_refused_by_name(corrector, setting):
    """Noise would have a negative variance, or a corrector do nothing."""
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=rf"{name}={value}: needs "):
        corrector(VP_LINEAR, replace(ddim(VP_LINEAR, DOWN)), **setting)
