"""Noise of one Brownian path per sample: its distribution, and samples that converge."""

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain import ALWAYS, FRAMES, VARIANTS, label, of_the_ode

from diffjax.analytic import Mixture
from diffjax.samplers import SAMPLERS, moments, run, unroll
from diffjax.samplers.brownian import FIRST, LEVELS, MOST, ROOT, increments
from diffjax.samplers.conformance import (
    CENTRE,
    DOWN,
    MEAN,
    SPREAD,
    TIMES,
    VAR,
    VP_LINEAR,
    WEIGHT,
    at_lambda,
    mixture_output,
    simulate,
)
from diffjax.samplers.table import x0
from diffjax.sde import levels

NO_PATH = {"churn", "restart", "repaint", "consistency", "annealed_langevin"}
"""Their noise goes up, or forgets all there was: no path of the reverse SDE."""
NOISY = [m for m in VARIANTS if not of_the_ode(m[0], **m[1]) and m[0] not in NO_PATH]
OTHERS = [pytest.param(f, marks=pytest.mark.thorough) for f in ("sub_vp", "flow")]
LEAF = ROOT / 2**LEVELS


def dense(*tables):
    """Return nodes and shares of each table as a matrix on all numbers that occur in any."""
    numbers = np.unique(np.concatenate([nodes.ravel() for nodes, _ in tables]))
    made = []
    for nodes, shares in tables:
        matrix = np.zeros((len(nodes), len(numbers)))
        rows = np.repeat(np.arange(len(nodes)), nodes.shape[1])
        np.add.at(matrix, (rows, np.searchsorted(numbers, nodes.ravel())), shares.ravel())
        made.append(matrix)
    return made


def path(grid):
    """Return the increments along a grid of u."""
    return increments(np.stack([grid[:-1], grid[1:]], 1))


# The path.


def test_values_are_those_of_the_stationary_process():
    """Noise of a step would have another variance, or too long a correlation."""
    rng = np.random.default_rng(0)
    u = np.concatenate([rng.uniform(-3, 3, 40), rng.uniform(-900, 900, 40), [0, 32, -32, 31.99]])
    (b,) = dense(increments(np.stack([np.full(len(u), -np.inf), u], 1)))
    apart = np.abs(u[:, None] - u)
    checked = (apart == 0) | (apart > LEAF)
    assert checked.mean() > 0.99
    off = np.abs(b @ b.T - np.exp(-apart / 2))[checked]
    print(f"covariance: off by {off.max():.1e}")
    assert off.max() < 1e-6


@pytest.mark.parametrize(
    "grid",
    [
        np.linspace(-20, 20, 400),
        np.sort(np.random.default_rng(1).permutation(4000)[:300]) * 2 * LEAF - 20,
        np.linspace(-700, 700, 50),
        np.array([-np.inf, -9.0, -3.0, -1.0, 0.0, 0.5, 31.0, 33.0]),
    ],
    ids=["even", "uneven", "far", "from alpha = 0"],
)
@pytest.mark.typed
def test_increments_are_independent_normals(grid):
    """Samples would have another distribution, also across nodes and from alpha = 0."""
    nodes, shares = path(grid)
    np.testing.assert_allclose((shares**2).sum(1), 1, rtol=1e-12)
    (z,) = dense((nodes, shares))
    np.testing.assert_allclose(z @ z.T, np.eye(len(z)), atol=1e-6)


def test_a_coarse_increment_is_the_combination_of_the_finer_ones():
    """More steps would follow another path: the same nodes, and sqrt(1 - r^2) z adds up along u."""
    fine = np.array([-np.inf, -40.0, -31.0, -5.0, -4.9, -1.0, 0.3, 1.7, 30.0, 34.0, 70.0])
    for picked in ([0, 3, 6, 10], [0, 10], [1, 2, 4, 8], [2, 9]):
        part = fine[picked[0] : picked[-1] + 1]
        z, coarse = dense(path(part), path(fine[picked]))
        unit = lambda u: np.sqrt(-np.expm1(u[:-1] - u[1:]))[:, None]
        for k, (i, j) in enumerate(pairwise(picked)):
            steps = unit(fine[i : j + 1]) * z[i - picked[0] : j - picked[0]]
            decay = np.exp((fine[i + 1 : j + 1] - fine[j]) / 2)[:, None]
            together = (decay * steps).sum(0)
            np.testing.assert_allclose(together, unit(fine[[i, j]])[0] * coarse[k], atol=1e-6)


def test_numbers_of_nodes_are_no_rows_and_fit_the_machine():
    """Two noises would be equal, as fold_in takes 32 bits."""
    ends = np.linspace(-MOST + 65, MOST, 5000)
    clock = np.stack([ends - 0.05, ends], 1)
    clock[::3] = np.nan
    nodes, shares = increments(clock)
    own = np.isnan(clock[:, 0])
    np.testing.assert_array_equal(nodes[own, 0], np.flatnonzero(own))
    np.testing.assert_array_equal(shares[own], np.eye(nodes.shape[1])[:1].repeat(own.sum(), 0))
    there = (shares != 0) & ~own[:, None]
    assert nodes[there].min() >= FIRST and nodes[there].max() < 2**31 and len(clock) < FIRST
    for number, share in zip(nodes[:100], shares[:100], strict=True):
        assert len(set(number[share != 0])) == (share != 0).sum()


@pytest.mark.parametrize("clock", [(1000.0, 1025.0), (-1025.0, -1000.0), (0.0, np.inf)], ids=str)
def test_a_clock_beyond_the_tree_is_refused(clock):
    """Numbers of nodes would coincide with those of rows, or a share be infinite."""
    with pytest.raises(ValueError, match=r"2 eta lambda reaches .*: needs <= 1024"):
        increments(np.array([clock]))
    table = SAMPLERS["ddim_sde"](VP_LINEAR, TIMES, eta=1e3)
    with pytest.raises(ValueError, match="2 eta lambda reaches"):
        table.brownian()


# The clocks of samplers.

ETA = {"ddim": lambda eta: eta**2, "sa_solver": lambda tau: tau**2}
"""Where the setting is not eta itself."""


def strength(name, settings):
    """Return eta of sqrt(eta) g dw."""
    values = list({k: v for k, v in settings.items() if k in ("eta", "tau", "chi")}.values())
    default = {"ddim_variance": 0.5}.get(name, 1.0)
    return ETA.get(name, lambda eta: eta)(values[0] if values else default)


@pytest.mark.parametrize("method", [(name, {}) for name in SAMPLERS] + NOISY, ids=label)
def test_noise_has_a_clock_or_is_listed_as_of_no_path(method):
    """A sampler would silently draw other noise for another number of steps."""
    name, settings = method
    table = SAMPLERS[name](VP_LINEAR, DOWN, **settings)
    timed = np.isfinite(table.clock[:, 1])
    assert table.noisy.any() or name not in NO_PATH
    if name in NO_PATH:
        assert not timed.any()
        np.testing.assert_array_equal(table.brownian().nodes, table.nodes)
        return
    assert timed[table.noisy].all()
    start, end = table.clock[table.noisy].T
    if table.noisy.any():
        np.testing.assert_allclose(start[1:], end[:-1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", NOISY, ids=label)
def test_noise_lives_between_the_levels_of_its_step(method):
    """The path would run at another speed than that of a sampler with other steps."""
    name, settings = method
    settings = settings | (ALWAYS if name == "sa_solver" else {})
    table = SAMPLERS[name](VP_LINEAR, TIMES, **settings)
    lam, eta = levels(VP_LINEAR, TIMES).lam, strength(name, settings)
    first = table.clock[table.noisy][:, 0]
    last = table.clock[table.noisy][-1, 1]
    stages = len(first) // (len(TIMES) - 1)
    np.testing.assert_allclose(first[::stages], 2 * eta * lam[:-1], rtol=1e-9, atol=1e-12)
    assert last == pytest.approx(2 * eta * lam[-1], rel=1e-9)
    if stages == 2:  # r = 1 / 2, or r = 1 with nothing left
        share = settings.get("r", 0.5)
        middle = lam[:-1] + share * np.diff(lam)
        np.testing.assert_allclose(first[1::2], 2 * eta * middle, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "method",
    [
        *((n, {"eta": 0.0}) for n in ("ddim", "ddim_variance", "ddim_sde", "dpmpp_2m")),
        *((n, {"eta": 0.0}) for n in ("dpmpp_3m", "dpmpp_sde", "seeds_2")),
        ("euler_maruyama", {"chi": 0.0}),
        ("sa_solver", {"tau": 0.0}),
        ("sa_solver", {"low": 1e3, "high": 1e4}),
    ],
    ids=label,
)
def test_without_noise_there_is_no_path(method):
    """Normal numbers would be drawn and multiplied by 0."""
    table = SAMPLERS[method[0]](VP_LINEAR, TIMES, **method[1])
    made = table.brownian()
    assert not table.noisy.any()
    np.testing.assert_array_equal(made.nodes, table.nodes)
    np.testing.assert_array_equal(made.shares, table.shares)


# Distributions.


def law(table, sde, start):
    """Return the variance of the result for N(., VAR) data, with noises from nodes."""
    maps, at, rows = unroll(table), levels(sde, table.t), len(table)
    gain = at.alpha * VAR / (at.alpha**2 * VAR + at.sigma**2)
    if table.read is not x0:
        gain = at.sigma / (at.alpha**2 * VAR + at.sigma**2)
    basis = np.zeros((1 + 2 * rows, 1 + rows))  # in x_T and the noises of rows
    basis[0, 0], basis[1 + rows :, 1:] = 1.0, np.eye(rows)
    for i in range(rows):
        basis[1 + i] = gain[i] * (maps.inputs[i] @ basis)
    made = maps.result @ basis
    (shares,) = dense((table.nodes, table.shares))
    return made[0] ** 2 * start + ((made[1:] @ shares) ** 2).sum()


@pytest.mark.parametrize("method", NOISY, ids=label)
@pytest.mark.parametrize(
    "frame",
    ["vp", "ve", *(pytest.param(f, marks=pytest.mark.thorough) for f in ("sub_vp", "flow"))],
)
def test_the_law_of_samples_is_the_same_on_a_path(method, frame):
    """Noises of neighbouring rows would be correlated, and samples have another variance."""
    sde = FRAMES[frame]
    table = SAMPLERS[method[0]](sde, DOWN, **method[1])
    exact = moments(table, sde, MEAN, VAR, (0.0, 1.3))[1]
    assert law(table, sde, 1.3) == pytest.approx(exact, rel=1e-9)
    assert law(table.brownian(), sde, 1.3) == pytest.approx(exact, rel=1e-6)


# The compiled loop.

B, ROWS, WIDE = 128, 320, 30
"""All tables are padded to one length and one number of nodes, to share a program."""


def denoiser(sde, dtype=np.float32):
    parts = WEIGHT, CENTRE[:, None], SPREAD[:, None]
    return Mixture(*(jnp.asarray(a, dtype) for a in parts)).denoiser(sde)


def widened(table, rows=ROWS):
    """Return the table padded, with shares of 0."""
    more = [(0, 0), (0, WIDE - table.nodes.shape[1])]
    assert more[1][1] >= 0
    padded = replace(table, nodes=np.pad(table.nodes, more), shares=np.pad(table.shares, more))
    return padded.pad(rows)


def begin(dtype=np.float32):
    x = np.random.default_rng(1).normal(size=(B, 1)).astype(dtype)
    return jnp.asarray(x), jax.random.split(jax.random.key(5), B)


STRONG = [
    ("ddim_sde", {}),
    ("ddim", {"eta": 0.6}),
    ("ancestral", {}),
    ("euler_maruyama", {}),
    ("dpmpp_2m", {"eta": 1.0}),
    ("dpmpp_3m", {"eta": 1.0}),
    ("dpmpp_sde", {}),
    ("seeds_2", {}),
    ("sa_solver", ALWAYS),
]
COUNTS = 20, 40, 80, 160


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=() if method in STRONG[::3] else pytest.mark.thorough)
        for method in STRONG
    ],
    ids=label,
)
def test_more_steps_refine_the_same_sample(method, x64):
    """Each number of steps would give another picture.

    Differences of the samples themselves halve with each doubling of the steps, but not where every
    row has its own noise.
    """
    name, settings = method
    x, keys = begin(np.float64)
    made, free = [], []
    for n in COUNTS:
        times = at_lambda(VP_LINEAR, np.linspace(-1.0, 1.5, n + 1))
        table = SAMPLERS[name](VP_LINEAR, times, **settings)
        for results, rows in ((made, table.brownian()), (free, table)):
            done = run(denoiser(VP_LINEAR, np.float64), widened(rows), x, keys)
            assert int(done.bad) == -1
            results.append(np.asarray(done.x))
    orders = []
    for results in (made, free):
        away = np.abs(np.diff(results, axis=0)).mean((1, 2))
        orders.append(np.log2(away[0] / away[-1]) / (len(away) - 1))
    print(f"{label(method):30s} strong order {orders[0]:.2f}, independent {orders[1]:.2f}")
    assert orders[0] > 0.8
    assert abs(orders[1]) < 0.3


@pytest.mark.parametrize("brownian", [False, True], ids=["own", "path"])
@pytest.mark.parametrize("name", ["seeds_2", "sa_solver"])
def test_the_loop_draws_the_noise_of_the_table(name, brownian):
    """Shares would be rounded to whole numbers, or a kept noise be drawn twice.

    Injected noise takes the place of the draws; in NumPy both agree.
    """
    x, keys = begin()
    table = SAMPLERS[name](VP_LINEAR, DOWN)
    table = table.brownian() if brownian else table
    rows = 24
    draw = lambda number: jax.vmap(
        lambda key: jax.random.normal(jax.random.fold_in(key, number), (1,))
    )(keys)
    normals = np.asarray(jax.jit(jax.vmap(draw))(jnp.asarray(table.nodes.ravel(), jnp.int32)))
    normals = normals.reshape(*table.nodes.shape, B, 1)
    z = np.einsum("rn,rnbd->rbd", table.shares, normals)
    net, wide = denoiser(VP_LINEAR), widened(table, rows)
    drawn = run(net, wide, x, keys).x
    more = jnp.asarray(np.pad(z, [(0, rows - len(z)), (0, 0), (0, 0)]), jnp.float32)
    np.testing.assert_allclose(run(net, wide, x, keys, noise=more).x, drawn, atol=2e-5)
    output = mixture_output(table, VP_LINEAR)
    one = lambda i, u: output(i, u[:, 0])[:, None]
    plain = simulate(table, one, np.asarray(x, np.float64), z)
    np.testing.assert_allclose(drawn, plain, atol=2e-5)
    # Injected noise is used as it is, and keys are not read.
    other = np.random.default_rng(2).normal(size=z.shape)
    more = jnp.asarray(np.pad(other, [(0, rows - len(z)), (0, 0), (0, 0)]), jnp.float32)
    plain = simulate(table, one, np.asarray(x, np.float64), other)
    np.testing.assert_allclose(run(net, wide, x, keys[::-1], noise=more).x, plain, atol=2e-5)
    assert np.abs(plain - drawn).max() > 0.1


@pytest.mark.typed
def test_a_path_belongs_to_its_sample():
    """Samples of a batch would share a path, or change with their neighbours."""
    x, keys = begin()
    table = widened(SAMPLERS["ddim_sde"](VP_LINEAR, DOWN).brownian(), 24)
    net = denoiser(VP_LINEAR)
    whole = np.asarray(run(net, table, x, keys).x)
    back = np.asarray(run(net, table, x[::-1], keys[::-1]).x)[::-1]
    np.testing.assert_allclose(back, whole, atol=1e-6)
    together = np.asarray(run(net, table, jnp.zeros_like(x), keys).x)
    assert len(np.unique(together.round(6))) > B - 3


@pytest.mark.parametrize("method", [("ddim_sde", 1), ("ancestral", 1), ("seeds_2", 2)], ids=str)
def test_a_table_in_two_parts_is_the_table(method):
    """An interrupted and resumed run would get other noise, independent or of the path."""
    name, rows = method
    x, keys = begin()
    net = denoiser(VP_LINEAR)
    for table in (
        SAMPLERS[name](VP_LINEAR, DOWN),
        SAMPLERS[name](VP_LINEAR, DOWN).brownian(),
    ):
        whole = run(net, widened(table, 24), x, keys).x
        half = run(net, widened(table[: 3 * rows], 24), x, keys).x
        made = run(net, widened(table[3 * rows :], 24), half, keys).x
        np.testing.assert_allclose(made, whole, atol=1e-6)
