"""The loop against a plain simulation; tables of equal length share a program."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain import VARIANTS, label
from tiers import some

from diffjax.analytic import Mixture
from diffjax.grids import uniform
from diffjax.guidance import Conditional
from diffjax.prediction import Prediction
from diffjax.samplers import (
    SAMPLERS,
    ancestral,
    ancestral_learned,
    ancestral_upper,
    check,
    ddim,
    dpmpp_2m,
    initial,
    moments,
    run,
    sample,
)
from diffjax.samplers.conformance import MEAN, VAR, VP_LINEAR, mixture_output, simulate
from diffjax.samplers.table import x0
from diffjax.schedules import Linear
from diffjax.sde import VP, levels

SDE = VP(Linear())
B, MOST = 16, 1040
DATA = Mixture(
    np.array([0.6, 0.4]), np.array([[-1.0], [0.8]]), np.array([[0.1], [0.2]])
)  # the process of `plain`
PLAIN = [m for m in VARIANTS if m[0] != "ancestral_learned"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Net:
    """The exact denoiser of the mixture, with a second output and NaN at the time `bad`."""

    data: Any
    log_var: Any = 0.0
    bad: Any = -1.0
    traces: Any = field(default=None, metadata={"static": True})
    calls: Any = field(default=None, metadata={"static": True})
    sde = SDE

    def __call__(self, x, t, cond=None, *, key=None):
        if self.traces is not None:
            self.traces.append(1)
        if self.calls is not None:
            jax.debug.callback(lambda t: self.calls.append(float(t[0])), t)
        made = self.data.denoiser(SDE)(x, t, cond)
        poison = jnp.where(jnp.abs(t - self.bad) < 1e-6, jnp.nan, 0.0)[:, None]
        log_var = None if self.log_var is None else jnp.full_like(x, self.log_var)
        return Prediction(made.output, made.x0 + poison, made.eps + poison, log_var)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Shrinking:
    """A denoiser of few operations, for runs that compile each of them on its own."""

    share: Any

    def __call__(self, x, t, cond=None, *, key=None):
        return Prediction(x, self.share * x, t[:, None] * x)


class Log(list):
    __hash__ = object.__hash__
    __eq__ = object.__eq__


def arrays(dtype):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), DATA)


def begin(dtype=np.float32):
    x = np.random.default_rng(1).normal(size=(B, 1)).astype(dtype)
    return jnp.asarray(x), jax.random.split(jax.random.key(5), B)


@jax.jit
def noise(keys):
    """Return z of every row, for each sample from its own key: (MOST, B, 1)."""
    draw = lambda key, i: jax.random.normal(jax.random.fold_in(key, i), (1,))
    return jax.vmap(lambda i: jax.vmap(draw, (0, None))(keys, i))(jnp.arange(MOST))


def plan(method, rows):
    """Return a table of about equally many rows for every sampler, so that there are few shapes."""
    name, settings = method
    passes = 3 if name == "restart" else {3: 4}.get(SAMPLERS[name].passes, SAMPLERS[name].passes)
    return SAMPLERS[name](SDE, uniform(SDE, rows // passes + 1), **settings)


def expected(table, x, keys):
    """Compute the same rows in NumPy and float64, with the same noise."""
    output = mixture_output(table, SDE)
    one = lambda i, u: output(i, u[:, 0])[:, None]
    return simulate(table, one, np.asarray(x, np.float64), np.asarray(noise(keys), np.float64))


def relative(a, b):
    return np.abs(np.asarray(a, np.float64) - b).max() / np.abs(b).max()


@pytest.mark.parametrize("rows", some([16, 128, 1024], [128]))
@pytest.mark.parametrize("method", PLAIN, ids=label)
def test_loop_keeps_its_digits_in_float32(method, rows):
    """Registers would be mixed up, or coefficients rounded too early.

    All samplers run in few programs, one per view and number of rows, as tables are padded.
    """
    x, keys = begin()
    table = plan(method, rows)
    made = run(Net(arrays(np.float32)), table.pad(max(rows, 128) + 16), x, keys)
    assert int(made.bad) == -1 and made.x.dtype == np.float32
    error = relative(made.x, expected(table, x, keys))
    print(f"{label(method):30s} float32 error in {rows} rows: {error:.1e}")
    assert error < 1e-4


@pytest.mark.parametrize("name", ["dpmpp_3m", "ddim_sde", "unipc"])
def test_loop_is_the_table_in_float64(name, x64):
    """The loop would run another method than the table whose properties are proven."""
    x, keys = begin(np.float64)
    table = plan((name, {}), 16)
    made = sample(Net(arrays(np.float64)), table.pad(24), x, keys)
    assert relative(made, expected(table, x, keys)) < 1e-9


def test_loop_is_the_same_without_jit_and_mapped_over_tables():
    """A table would have to be concrete, or every sampler need its own program."""
    x, keys = begin()
    net = Shrinking(jnp.float32(0.4))
    tables = [make(SDE, uniform(SDE, 2)) for make in (ddim, ancestral, dpmpp_2m)]
    whole = [run(net, table, x, keys).x for table in tables]
    assert np.abs(np.diff(whole, axis=0)).max((1, 2)).min() > 1e-3
    stacked = jax.tree.map(lambda *a: np.stack(a), *tables)
    mapped = jax.jit(jax.vmap(lambda table: run(net, table, x, keys).x))(stacked)
    np.testing.assert_allclose(mapped, whole, atol=2e-5)
    drawn = noise(keys)[: len(tables[1])]  # the values of the draws do not matter here
    with jax.disable_jit():
        plain = run(net, tables[1], x, keys, noise=drawn).x
    np.testing.assert_allclose(plain, whole[1], atol=2e-5)
    padded = [run(net, table.pad(7), x, keys).x for table in tables]
    np.testing.assert_allclose(padded, whole, atol=2e-5)


def test_tables_of_equal_length_share_a_program():
    """Each sampler, grid or set of guidance weights would compile anew."""
    x, keys = begin()
    net = Net(arrays(np.float32), traces=Log())
    results = [run(net, ddim(SDE, np.linspace(1, 0, 8)), x, keys).x]
    first = len(net.traces)
    assert first > 0
    for table in (
        ancestral(SDE, np.linspace(1, 0, 8)),
        dpmpp_2m(SDE, np.linspace(1, 0, 8) ** 2),
    ):
        results.append(run(net, table, x, keys).x)
    assert len(net.traces) == first
    assert len({float(r[0, 0]) for r in results}) == 3
    padded = [ddim(SDE, np.linspace(1, 0, n + 1)).pad(7) for n in (7, 6, 3)]
    made = run(net, padded[0], x, keys).x
    np.testing.assert_allclose(made, results[0], atol=1e-6)
    second = len(net.traces)
    for table in padded[1:]:
        run(net, table, x, keys)
    assert len(net.traces) == second


def test_samples_depend_on_their_own_row_of_the_batch_only():
    """Sample k would change with its neighbours."""
    x, keys = begin()
    net, table = Net(arrays(np.float32)), ancestral(SDE, uniform(SDE, 7))
    whole = run(net, table, x, keys).x
    np.testing.assert_allclose(run(net, table, x[::-1], keys[::-1]).x[::-1], whole, atol=1e-6)


def test_samples_have_the_law_of_the_moments():
    """Noise of rows would be correlated, or have another size than `moments` assumes."""
    n = 20000
    one = Mixture(np.ones(1), np.array([[MEAN]]), np.array([[VAR]]))
    net = Net(jax.tree.map(lambda a: jnp.asarray(a, np.float32), one))
    x, keys = initial(SDE, jax.random.split(jax.random.key(0), n), (1,))
    table = ancestral(SDE, uniform(SDE, 7)[:-1])
    made = np.asarray(run(net, table, x, keys).x)
    mean, var = moments(table, SDE, MEAN, VAR)
    assert abs(made.mean() - mean) < 5 * np.sqrt(var / n)
    assert abs(made.var() / var - 1) < 5 * np.sqrt(2 / n)


@pytest.mark.typed
def test_learned_variance_lies_between_posterior_and_upper():
    """The second output would be read on another scale: -1 is `ancestral`, 1 `ancestral_upper`."""
    x, keys = begin()
    times = uniform(SDE, 7)
    learned = ancestral_learned(SDE, times)
    at_r = lambda r: run(Net(arrays(np.float32), jnp.float32(r)), learned, x, keys).x
    plain = lambda make: run(Net(arrays(np.float32)), make(SDE, times), x, keys).x
    low, high = plain(ancestral), plain(ancestral_upper)
    np.testing.assert_allclose(at_r(-1.0), low, atol=1e-5)
    np.testing.assert_allclose(at_r(1.0), high, atol=1e-5)
    assert np.abs(low - high).max() > 0.01
    assert np.abs(at_r(0.0) - low).max() > 1e-3
    with pytest.raises(ValueError, match="the network learns no variance"):
        run(Net(arrays(np.float32), None), learned, x, keys)


@pytest.mark.parametrize("padded", [False, True], ids=["as it is", "padded"])
def test_a_network_that_is_not_finite_is_named_with_row_and_time(padded):
    """An error would not state where NaN began. A padded table makes no further network calls.

    In a padded table the network is not asked again.
    """
    x, keys = begin()
    table = ddim(SDE, uniform(SDE, 7))
    table = table.pad(7) if padded else table
    calls = Log()  # a single program for all rows
    for row in (0, 3, 6):
        net = Net(arrays(np.float32), bad=jnp.float32(table.t[row]), calls=calls)
        calls.clear()
        made = run(net, table, x, keys, path=True)
        jax.effects_barrier()
        assert int(made.bad) == row and sorted(calls, reverse=True) == calls
        np.testing.assert_allclose(calls, table.t[: row + 1 if padded else 7], rtol=1e-6)
        states = np.asarray(made.path[0])
        assert np.isfinite(states[:row]).all() and np.isnan(states[row:]).all()
        message = rf"not finite at row {row} of 7, t = {table.t[row]:g}"
        with pytest.raises(FloatingPointError, match=message):
            sample(Net(arrays(np.float32), bad=jnp.float32(table.t[row])), table, x, keys)
        with pytest.raises(FloatingPointError, match=message):
            check(made.bad, table)


@pytest.mark.typed
def test_one_bad_sample_is_not_passed_over():
    """A NaN in one picture of the batch would be saved with the others."""
    x, keys = begin()
    table = ddim(SDE, uniform(SDE, 7))
    with pytest.raises(FloatingPointError, match="row 0 of 7"):
        sample(Net(arrays(np.float32)), table, x.at[3].set(jnp.nan), keys)


@pytest.mark.typed
def test_path_holds_state_and_prediction_of_every_row():
    """A trajectory would be shifted by a row, or show eps for x0."""
    x, keys = begin()
    net, table = Net(arrays(np.float32)), ddim(SDE, uniform(SDE, 7))
    made = run(net, table, x, keys, path=True)
    assert run(net, table, x, keys).path is None
    states, predicted = (np.asarray(a) for a in made.path)
    assert states.shape == predicted.shape == (7, B, 1)
    np.testing.assert_array_equal(states[-1], made.x)
    before = np.concatenate([np.asarray(x)[None], states[:-1]])
    exact = jax.jit(lambda x, t: DATA.denoiser(SDE)(x, t).x0)
    at = levels(SDE, uniform(SDE, 7))
    for i in range(7):
        x0_hat = exact(jnp.asarray(before[i]), jnp.full(B, table.t[i]))
        np.testing.assert_allclose(predicted[i], x0_hat, atol=1e-5)
        keep = at.sigma[i + 1] / at.sigma[i]
        after = keep * before[i] + (at.alpha[i + 1] - keep * at.alpha[i]) * predicted[i]
        np.testing.assert_allclose(states[i], after, atol=1e-5)


def test_conditional_guidance_reads_no_weight():
    """A weight would have an effect although nothing is guided."""
    x, keys = begin()
    net, table = Net(arrays(np.float32)), ddim(SDE, uniform(SDE, 7))
    plain = run(net, table, x, keys).x
    table.weight[:] = 5.0
    np.testing.assert_array_equal(run(net, table, x, keys, guidance=Conditional()).x, plain)
    assert table.read is x0 and VP_LINEAR.t_max == 1.0
