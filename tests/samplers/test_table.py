"""Hand-made tables: the loop, its unrolled map and its moments against a plain simulation."""

from dataclasses import dataclass, field, replace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.analytic import MixtureDenoiser, gaussian
from diffjax.samplers import Row, ancestral, ddim, heun, moments, sample, table, unroll
from diffjax.samplers.table import NOISES, OUTPUTS, READ, WRITE, Sampler, eps, x0
from diffjax.schedules import Linear
from diffjax.sde import VP, levels

SDE, MEAN, VAR = VP(Linear()), 0.7, 0.4
B, SHAPE = 3, (2,)


def rows(seed=0, n=7):
    """Rows that use every register, with noise and pushes in some of them only."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        noisy = i in (0, 2, 3, 6)
        used = lambda names, noisy=noisy: {
            k: float(rng.normal() / 2) for k in names if k != "z" or noisy
        }
        made.append(Row(0.9 - 0.1 * i, used(READ), used(WRITE), push=i not in (1, 4)))
    return made


def affine(read, t):
    """Slope and offset of the exact output y(u) for Gaussian data."""
    at = levels(SDE, np.array([t]))
    alpha, sigma = at.alpha[0], at.sigma[0]
    var = alpha**2 * VAR + sigma**2
    if read is x0:
        return alpha * VAR / var, MEAN * (1 - alpha**2 * VAR / var)
    return sigma / var, -sigma * alpha * MEAN / var


def simulate(made, output, x, zs):
    """The definition of the registers, with a list each: newest first, push or hold."""
    ms, olds, inputs = [], [], []
    for i, row in enumerate(made):
        registers = {"x": x, "z": zs[i]}
        registers |= {f"m{k + 1}": m for k, m in enumerate(ms[:OUTPUTS])}
        registers |= {f"z{j + 1}": z for j, z in enumerate(olds[:NOISES])}
        add = lambda coefficients, have: sum(
            c * have[k] for k, c in coefficients.items() if k in have
        )
        inputs.append(add(row.input, registers))
        registers["y"] = output(i, inputs[-1])
        x = add(row.update, registers)
        if row.push:
            ms.insert(0, registers["y"])
        if "z" in row.input or "z" in row.update:
            olds.insert(0, zs[i])
    return np.array(inputs), x


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Traced:
    """A denoiser that counts how often it is traced."""

    denoise: MixtureDenoiser
    traces: Any = field(metadata={"static": True})

    @property
    def sde(self):
        return self.denoise.sde

    def __call__(self, x, t, cond=None, *, key=None):
        self.traces.append(t)
        return self.denoise(x, t, cond, key=key)


class Traces(list):
    __hash__ = object.__hash__


def exact():
    return gaussian(jnp.full(SHAPE, MEAN), jnp.full(SHAPE, VAR)).denoiser(SDE)


def start():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(B, *SHAPE)))
    return x, jax.random.split(jax.random.key(5), B)


def noise(keys, n):
    """z of row i, for each sample, from the sample's own key."""
    draw = lambda key, i: jax.random.normal(jax.random.fold_in(key, i), SHAPE)
    return np.stack([[draw(key, i) for key in keys] for i in range(n)])


@pytest.mark.parametrize("read", [x0, eps])
@pytest.mark.fast
def test_sample_runs_the_rows(read, x64):
    """Registers would be shifted, held or fed with other noise than the table says."""
    made, (x, keys) = rows(), start()
    coefficients = [affine(read, row.t) for row in made]
    output = lambda i, u: coefficients[i][0] * u + coefficients[i][1]
    _, result = simulate(made, output, np.asarray(x), noise(keys, len(made)))
    ours = sample(exact(), table(made, read), x, keys)
    np.testing.assert_allclose(ours, result, rtol=1e-9, atol=1e-12)


def test_unroll_is_the_linear_map_of_the_rows():
    """Two samplers would look equal, or different, when they are not."""
    made = rows()
    n = len(made)
    basis = np.eye(1 + 2 * n)
    inputs, result = simulate(made, lambda i, u: basis[1 + i], basis[0], basis[1 + n :])
    ours = unroll(table(made))
    np.testing.assert_allclose(ours.inputs, inputs, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(ours.result, result, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("read", [x0, eps])
def test_moments_are_those_of_the_affine_map(read):
    """The exact laws that prove the samplers would be the laws of something else."""
    made, law = rows(), (0.3, 1.7)
    n = len(made)
    # The result as an affine map of (1, x_T, z_1 .. z_n), all independent.
    basis = np.eye(2 + n)
    coefficients = [affine(read, row.t) for row in made]
    output = lambda i, u: coefficients[i][0] * u + coefficients[i][1] * basis[0]
    _, result = simulate(made, output, basis[1], basis[2:])
    exact_law = result[0] + result[1] * law[0], result[1] ** 2 * law[1] + (result[2:] ** 2).sum()
    np.testing.assert_allclose(
        moments(table(made, read), SDE, MEAN, VAR, law), exact_law, rtol=1e-9
    )


def test_moments_start_from_the_prior():
    """Bias would be measured from another start than the sampler has."""
    rows = ddim(SDE, np.array([1.0, 0.5]))
    sigma = levels(SDE, np.array([1.0])).sigma[0]
    assert moments(rows, SDE, MEAN, VAR) == moments(rows, SDE, MEAN, VAR, (0.0, sigma**2))


class Modes(chex.TestCase):
    """`sample` in and outside of `jit`."""

    @chex.variants(with_jit=True, without_jit=True)
    def test_sample_is_the_same_function_when_traced(self):
        """A table would have to be concrete: another sampler would compile another program."""
        x, keys = start()
        made = table(rows())
        run = self.variant(lambda x, made: sample.__wrapped__(exact(), made, x, keys))
        chex.assert_trees_all_close(run(x, made), sample(exact(), made, x, keys), atol=1e-4)


def test_tables_of_equal_length_share_a_program():
    """Each sampler, grid or set of guidance weights would compile anew."""
    traces, (x, keys) = Traces(), start()
    denoise = Traced(exact(), traces)
    times = np.linspace(1.0, 0.0, 8)
    result = sample(denoise, ddim(SDE, times), x, keys)
    first = len(traces)
    assert first > 0
    others = [
        ancestral(SDE, times),
        ddim(SDE, times**2, eta=0.5),
        heun(SDE, np.linspace(1.0, 0.0, 5)),
        table(rows()),
        replace(ddim(SDE, times), weight=np.full(7, 2.0)),
    ]
    results = [sample(denoise, t, x, keys) for t in others]
    assert {len(t) for t in others} == {7} and len(traces) == first
    chex.assert_trees_all_equal(results[-1], result)  # nothing here reads the weight
    assert len({float(r[0, 0]) for r in results}) == len(others)


@pytest.mark.fast
def test_samples_depend_on_their_own_row_of_the_batch_only():
    """Sample k would change with its neighbours."""
    x, keys = start()
    made = table(rows())
    whole = sample(exact(), made, x, keys)
    part = sample(exact(), made, x[::-1], keys[::-1])
    np.testing.assert_allclose(part, whole[::-1], atol=1e-4)


@pytest.mark.parametrize(
    ("row", "register"),
    [
        (Row(0.5, {"x": 1.0, "y": 1.0}, {}), "y"),  # y is not known before the network is called
        (Row(0.5, {"m9": 1.0}, {}), "m9"),
        (Row(0.5, {"x": 1.0}, {"noise": 1.0}), "noise"),
    ],
)
def test_unknown_register_is_refused_by_name(row, register):
    """A typo would be a coefficient of zero."""
    with pytest.raises(KeyError, match=rf"registers \['{register}'\]: known here: x, "):
        table([row])


@pytest.mark.parametrize(
    "times",
    [
        np.array([0.5]),
        np.array([0.1, 0.5]),
        np.array([0.5, 0.5, 0.0]),
        np.array([0.5, np.nan, 0.0]),
        np.array([1.0, 0.5, -0.1]),
        np.array([[1.0, 0.5]]),
        np.array([1.1, 0.5, 0.0]),
    ],
)
def test_bad_times_are_refused(times):
    """A sampler would run backwards, or ask the network outside its range."""
    with pytest.raises(ValueError, match="times"):
        ddim(SDE, times)


def test_sampler_keeps_name_and_order():
    """Catalogues find a sampler by the name of its function; conformance tests by its order."""
    assert isinstance(heun, Sampler)
    assert (heun.__name__, heun.order, ddim.order) == ("heun", 2, 1)


def test_printed_table_shows_what_is_in_it():
    """A printed table would hide coefficients, held outputs or guidance."""
    held = Row(0.5, {"x": 1.0}, {"x": 0.25, "z1": -2.0}, push=False)
    made = table([held, Row(0.25, {}, {"y": 1.0})])
    lines = str(replace(made, weight=np.array([1.0, 3.0]))).splitlines()
    assert lines[0] == "2 rows, y = x0"
    words = [" ".join(line.split()) for line in lines]
    assert words[1] == "0 t = 0.500000 u = +1 x x = +0.25 x -2 z1 (y not kept)"
    assert words[2] == "1 t = 0.250000 u = 0 x = +1 y w = 3"
    assert len(made) == 2
    np.testing.assert_array_equal(made.noisy, [False, False])
    np.testing.assert_array_equal(made.push, [False, True])
