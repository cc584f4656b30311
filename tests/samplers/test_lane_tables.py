"""Tables of lanes: their rows are those of ordinary tables, and their laws are conditional ones."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import inverse, samplers
from diffjax.analytic import correlated
from diffjax.arrays import normal
from diffjax.grids import uniform
from diffjax.samplers import SAMPLERS, affine_moments, lanes, run
from diffjax.samplers.lanes import ORDERS, autoregressive, full, positions, pyramid, times_of
from diffjax.samplers.starts import initial, noised
from diffjax.samplers.table import NOISES, OUTPUTS
from diffjax.schedules import Cosine
from diffjax.sde import VP, levels

SDE = VP(Cosine(), t_min=1e-6, t_max=0.999)
PLAIN = [name for name in SAMPLERS if name not in ("annealed_langevin", "flow_map")]
TOGETHER = ("repaint", "unipc", "sa_solver", "churn")


def series(size):
    """Return the covariance of an AR(1) series with rho = 0.9, of stationary variance 1."""
    place = np.arange(size)
    return 0.9 ** abs(place[:, None] - place)


def gaussian(size):
    return correlated(jnp.zeros(size), jnp.asarray(series(size))).denoiser(SDE)


def conditional(size, known):
    """Return the gain and the covariance of the values behind the first `known` ones."""
    cov = series(size)
    gain = cov[known:, :known] @ np.linalg.inv(cov[:known, :known])
    return gain, cov[known:, known:] - gain @ cov[:known, known:]


def law(table, size, known, begin=None, **settings):
    """Return the gain and the covariance of the samples behind the first `known` values.

    begin: gain and covariance of the free values at the first time, by default those of the prior.
    """
    spread = levels(SDE, table.t[0] if table.lanes else np.full(size, table.t[0])).sigma
    spread = np.where(np.arange(size) < known, 0, spread) if table.lanes else spread

    def at(y):
        own = {name: of(y) for name, of in settings.items()}
        start = np.append(y, np.zeros(size - known)) if table.lanes else np.zeros(size)
        cov = np.diag(spread**2)
        if begin:
            start[known:], cov[known:, known:] = begin[0] @ y, begin[1]
        return affine_moments(table, gaussian(size), (size,), start=(start, cov), **own)

    mean, cov = at(np.zeros(known))
    slopes = [at(unit)[0] - mean for unit in np.eye(known)]
    return np.array(slopes).T[known:], cov[known:, known:]


def divergence(found, exact, known):
    """Return KL(samples' Gaussian, exact conditional) in nats, in the mean over known values."""
    (gain, cov), (gain_0, cov_0) = found, exact
    off = gain - gain_0
    spread = cov + off @ series(known) @ off.T
    logs = [np.linalg.slogdet(a)[1] for a in (cov_0, cov)]
    return 0.5 * (np.trace(np.linalg.solve(cov_0, spread)) - len(cov) + logs[0] - logs[1])


def forecast(plan, steps, order=full, size=8, known=4):
    grid, places = uniform(SDE, steps), np.arange(size)
    return lanes(plan, SDE, times_of(grid, order, places, places < known))


@pytest.mark.parametrize("name", PLAIN)
def test_equal_times_of_all_positions_are_the_ordinary_table(name):
    """Items whose positions share their times would be sampled by another method."""
    plan = SAMPLERS[name]
    grid = uniform(SDE, 6)
    plain, table = plan(SDE, grid), lanes(plan, SDE, np.repeat(grid[:, None], 3, 1))
    for k in range(3):
        alone = table.lane(k)
        for field in ("t", "input", "update", "keep", "keep_noise", "spread", "noisy"):
            np.testing.assert_array_equal(getattr(alone, field), getattr(plain, field))
    assert (table.lanes, table.read, table.learned) == (3, plain.read, plain.learned)


def test_samplers_that_cannot_rest_between_their_steps_are_refused_by_name():
    """Rows of one position would meet those of another step of its neighbour."""
    times = times_of(uniform(SDE, 6), pyramid, np.arange(2), np.zeros(2, bool))
    for name in PLAIN:
        if name not in TOGETHER:
            assert lanes(SAMPLERS[name], SDE, times).lanes == 2
            continue
        with pytest.raises(ValueError, match=f"^{name}: has rows that belong to no single step"):
            lanes(SAMPLERS[name], SDE, times)
    for name, says in (("annealed_langevin", "langevin"), ("flow_map", "flow maps")):
        with pytest.raises(ValueError, match=says):
            lanes(SAMPLERS[name], SDE, times)


def test_a_position_rests_before_and_after_its_own_steps():
    """Known values would change, or lanes would move before their turn."""
    table = lanes(samplers.heun, SDE, [[0.9, 0.0, 0.9], [0.5, 0.0, 0.9], [0.0, 0.0, 0.4]])
    plain = [samplers.heun(SDE, np.array(times)) for times in ([0.9, 0.5, 0.0], [0.9, 0.4])]
    wanted = [[0.9, 1e-6, 0.9], [0.5, 1e-6, 0.9], [0.5, 1e-6, 0.9], [1e-6, 1e-6, 0.4]]
    np.testing.assert_array_equal(table.t, wanted)
    known, whole = table.lane(1), np.eye(table.update.shape[2])[0]
    assert (known.update == whole).all() and (known.keep == OUTPUTS).all()
    assert (table.update[:2, 2] == whole).all() and (table.update[3, 0] == whole).all()
    np.testing.assert_array_equal(table.update[:3, 0], plain[0].update)
    np.testing.assert_array_equal(table.update[2:, 2], plain[1].update)


def test_orders_are_schedules_of_lanes():
    """Lanes would begin before, or end after, those that they depend on."""
    for name, order in ORDERS.items():
        done = order(3, 5)
        assert (done[0] == 0).all() and (done[-1] == 3).all()
        assert set(np.diff(done, axis=0).flat) <= {0, 1}
        assert len(done) == {"full": 4, "autoregressive": 16, "pyramid": 8, "trapezoid": 6}[name]
    np.testing.assert_array_equal(pyramid(3, 5, delay=0), full(3, 5))
    np.testing.assert_array_equal(pyramid(3, 5, delay=3), autoregressive(3, 5))
    assert positions(6, (1, 2)).tolist() == [0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: positions(6, (4,)),
            r"sizes=\(4,\): needs sizes of at least 1 whose sum divides 6",
        ),
        (lambda: times_of(np.ones(3), full, np.arange(2), np.ones(2, bool)), "holds all positions"),
        (
            lambda: times_of(np.ones(3), full, np.array([0, 0, 1]), np.array([True, False, False])),
            r"holds a part of a lane, which are the positions \[0, 1\]",
        ),
        (lambda: lanes(samplers.ddim, SDE, [[0.5, 0.5], [0.6, 0.4]]), "position 0.*rise"),
        (lambda: lanes(samplers.ddim, SDE, [[1.0, 0.5], [0.6, 0.4]]), "needs 0 to 0.999"),
        (lambda: lanes(samplers.ddim, SDE, [[0.5, 0.0]] * 2), "all positions rest"),
        (lambda: lanes(samplers.ddim, SDE, [0.5, 0.0]), r"needs \(ticks \+ 1, L\)"),
        (lambda: forecast(samplers.ddim, 3).brownian(), "noise='brownian': not with lanes"),
        (lambda: samplers.unroll(forecast(samplers.ddim, 3)), "affine_moments"),
        (lambda: samplers.moments(forecast(samplers.ddim, 3), SDE, 0, 1), "affine_moments"),
        (lambda: lanes(lambda *_: forecast(samplers.ddim, 3), SDE, [[0.5], [0.0]]), "already"),
    ],
)
def test_what_is_no_schedule_of_lanes_is_refused(call, says):
    """The sampler would compute something else in silence."""
    with pytest.raises(ValueError, match=says):
        call()


def test_a_table_of_lanes_shows_prints_and_cuts():
    """Rows that read outputs of rows left out would read zeros."""
    table = forecast(samplers.dpmpp_2m, 4, pyramid, size=4, known=2)
    assert repr(table) == "Table(5 rows of 4 lanes, y = x0)"
    assert "position 3: 5 rows, y = x0" in str(table)
    assert len(table[:2]) == 2
    with pytest.raises(ValueError, match="reads registers of rows before"):
        table[2:]


def simulated(table, denoise, x, noise):
    """Run a table of lanes value by value, with registers as lists."""
    lane_count = table.lanes
    outputs = np.zeros((OUTPUTS + 1, *x.shape))
    noises = np.zeros((NOISES + 1, *x.shape))
    for i in range(len(table)):
        read = np.stack([x, *outputs[:-1], noise[i], *noises[:-1]])
        u = np.einsum("nbl,ln->bl", read, table.input[i])
        p = denoise(u, np.broadcast_to(table.t[i], x.shape))
        y = np.asarray(table.read(p))
        write = np.stack([x, y, *outputs[:-1], noise[i], *noises[:-1]])
        x = np.einsum("nbl,ln->bl", write, table.update[i])
        for k in range(lane_count):
            outputs[table.keep[i, k], :, k] = y[:, k]
            noises[table.keep_noise[i, k], :, k] = noise[i][:, k]
    return x


@pytest.mark.parametrize("name", ["ancestral", "dpmpp_2m", "heun", "seeds_2"])
def test_the_loop_computes_each_position_from_its_own_rows(x64, name):
    """Positions would use coefficients, outputs or noises of others."""
    table = forecast(SAMPLERS[name], 4, pyramid, size=4, known=1)
    keys = jax.random.split(jax.random.key(0), 2)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4)))
    fold = jax.vmap(jax.random.fold_in, (0, None))
    drawn = [np.asarray(normal(fold(keys, i), (4,))) for i in range(len(table))]
    noise = np.stack([z if noisy else 0 * z for z, noisy in zip(drawn, table.noisy, strict=True)])
    denoise = gaussian(4)
    found = run(denoise, table, x, keys)
    ask = jax.jit(lambda u, t: denoise(u, t))
    np.testing.assert_allclose(found.x, simulated(table, ask, np.asarray(x), noise), atol=1e-9)
    assert np.array_equal(found.x[:, 0], x[:, 0]) and int(found.bad) == -1
    if name == "heun":  # parts of a table are its rows, and items may have channels
        *_, last = samplers.previews(denoise, table, x, keys, every=3)
        np.testing.assert_array_equal(last.x, found.x)
        wide = correlated(jnp.zeros(4), jnp.asarray(series(4))).denoiser(SDE)
        wide = replace(wide, mean=jnp.zeros((4, 1)))
        given = noise[..., None]
        again = run(wide, table, x[..., None], keys, noise=jnp.asarray(given))
        np.testing.assert_allclose(again.x[..., 0], found.x, atol=1e-9)


def test_items_of_another_length_are_refused():
    """Times would be broadcast over positions that they do not belong to."""
    table, keys = forecast(samplers.ddim, 3), jax.random.split(jax.random.key(0), 2)
    with pytest.raises(ValueError, match=r"the table has 8 lanes; x has the shape \(2, 6\)"):
        run(gaussian(6), table, jnp.zeros((2, 6)), keys)


@pytest.mark.parametrize("order", [full, autoregressive, functools.partial(pyramid, delay=2)])
def test_moments_follow_the_matrix_recursion_of_ancestral_steps(x64, order):
    """The exact law of a sampler of lanes would be another one's."""
    size, grid, cov = 4, uniform(SDE, 5), series(4)
    places = np.arange(size)
    times = times_of(grid, order, places, places < 1)
    told = np.maximum(times, SDE.t_min)
    mean, spread = np.array([0.7, 0, 0, 0]), levels(SDE, told[0]).sigma * (places > 0)
    start = mean, np.diag(spread**2)
    found = affine_moments(lanes(samplers.ancestral, SDE, times), gaussian(4), (4,), start=start)
    law = np.diag(spread**2)
    for t, s, moves in zip(told[:-1], times[1:], np.diff(times, axis=0) < 0, strict=True):
        at, to = levels(SDE, t), levels(SDE, s)
        a, v = np.diag(at.alpha), np.diag(at.sigma**2)
        x0 = cov @ a @ np.linalg.inv(a @ cov @ a + v)
        share = -np.expm1(np.where(moves, 2 * at.lam - 2 * to.lam, 0))
        keep = np.where(moves, (to.sigma / at.sigma) ** 2 * at.alpha / to.alpha, 1)
        move = np.diag(keep) + np.diag(to.alpha * share * moves) @ x0
        mean = move @ mean
        law = move @ law @ move.T + np.diag(to.sigma**2 * share * moves)
    np.testing.assert_allclose(found[0], mean, atol=1e-9)
    np.testing.assert_allclose(found[1], law, atol=1e-9)


def test_known_positions_give_the_schur_complement(x64):
    """Forecasts and inpainting would have another law than the conditional one."""
    gain, cov = exact = conditional(8, 4)
    at = levels(SDE, np.array([SDE.t_max]))
    begin = at.alpha * gain, at.alpha**2 * cov + at.sigma**2 * np.eye(4)
    tables = [forecast(samplers.heun, n) for n in (50, 200)]
    off = [divergence(law(table, 8, 4, begin), exact, 4) for table in tables]
    assert off[1] < 1e-6 and off[1] < off[0] / 100


def test_known_positions_converge_where_replacement_does_not(x64):
    """The documentation would promise conditional samples that lanes do not give.

    The figures are KL divergences in nats of 4 of 8 values of an AR(1) series, given the others.
    """
    exact, keep = conditional(8, 4), jnp.arange(8)[None] < 4
    put = lambda y: jnp.asarray(np.append(y, np.zeros(4)))[None]
    replaced = lambda y: inverse.Replacement(inverse.Measurement(put(y), inverse.Mask(keep)))
    for steps, by_lanes, by_replacement in ((20, 0.123, 0.457), (50, 0.029, 0.371)):
        ours = divergence(law(forecast(samplers.ancestral, steps), 8, 4), exact, 4)
        table = samplers.ancestral(SDE, uniform(SDE, steps))
        theirs = divergence(law(table, 8, 4, guidance=replaced), exact, 4)
        assert ours == pytest.approx(by_lanes, abs=2e-3)
        assert theirs == pytest.approx(by_replacement, abs=5e-3)


@pytest.mark.thorough
def test_repaint_needs_many_passes_for_what_lanes_give(x64):
    """The documentation would state other figures of RePaint: 191 and 491 passes."""
    exact, keep = conditional(8, 4), jnp.arange(8)[None] < 4
    put = lambda y: jnp.asarray(np.append(y, np.zeros(4)))[None]
    replaced = lambda y: inverse.Replacement(inverse.Measurement(put(y), inverse.Mask(keep)))
    for steps, figure in ((20, 0.311), (50, 0.146)):
        table = samplers.repaint(SDE, uniform(SDE, steps), repeats=10)
        found = divergence(law(table, 8, 4, guidance=replaced), exact, 4)
        assert found == pytest.approx(figure, abs=5e-3)


def test_positions_at_t_max_leave_the_marginal_of_the_others(x64):
    """A joint model would not give the law of one of its parts."""
    grid, stay = uniform(SDE, 30), np.full((31, 2), SDE.t_max)
    times = np.concatenate([np.repeat(grid[:, None], 2, 1), stay], 1)
    table = lanes(samplers.ancestral, SDE, times)
    alone = samplers.ancestral(SDE, grid)
    found = affine_moments(table, gaussian(4), (4,))[1]
    wanted = affine_moments(alone, gaussian(2), (2,))[1]
    np.testing.assert_allclose(found[:2, :2], wanted, atol=1e-4)
    np.testing.assert_allclose(found[2:, 2:], np.eye(2) * levels(SDE, grid[:1]).sigma ** 2)


def test_initial_states_have_the_noise_of_their_positions():
    """Known values would be noise, or free ones would know the item that they continue."""
    keys = jax.random.split(jax.random.key(0), 2000)
    t = jnp.array([SDE.t_min, 0.5, SDE.t_max])
    x, _ = initial(SDE, keys, (3, 2), t)
    np.testing.assert_allclose(x.std((0, 2)), SDE.sigma(t), rtol=0.05)
    items = jnp.full((2000, 3, 2), 5.0)
    x, _ = noised(SDE, items, t, keys)
    assert np.array_equal(x[:, 0], items[:, 0])
    wanted = np.array([5.0, float(SDE.alpha(t[1])) * 5, 0.0])
    np.testing.assert_allclose(x.mean((0, 2)), wanted, atol=0.05)
