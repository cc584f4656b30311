"""Rows that lead to another time: tables for flow maps."""

import dataclasses
from dataclasses import dataclass, field
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import grids, samplers
from diffjax.arrays import expand
from diffjax.guidance import Guided
from diffjax.guidance.references import Null, OtherNetwork
from diffjax.guidance.rules import Linear as Rule
from diffjax.prediction import Prediction
from diffjax.samplers import correctors
from diffjax.samplers.program import Program, X, sampler
from diffjax.samplers.run import sample
from diffjax.samplers.table import eps, unroll
from diffjax.schedules import Cosine
from diffjax.sde import SDE, VP, levels

SDE_ = VP(Cosine(), t_min=1e-3, t_max=0.99)
MEAN, VAR, B = 0.7, 0.3, 4


@sampler(order=1)
def leap(sde: SDE, times: np.ndarray) -> samplers.Table:
    """DDIM with rows that lead to the next time."""
    at, p = levels(sde, times), Program(eps)
    for t, s in pairwise(range(len(times))):
        y = p.network(at.t[t], to=at.t[s])
        ratio = at.alpha[s] / at.alpha[t]
        p.step(ratio * X + (at.sigma[s] - ratio * at.sigma[t]) * y)
    return p.table()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Exact:
    """The flow map of N(MEAN, VAR): x0 and eps that DDIM takes to the end of its step.

    With condition `shift` the mean of the data is moved.
    """

    sde: SDE = field(metadata={"static": True})

    def __call__(self, x, t, cond=None, *, key=None, to=None):
        if to is None:
            raise ValueError("was not told where to lead")
        shift = 0.0 if cond is None else jnp.nan_to_num(cond["shift"])
        mean = expand(MEAN + shift * jnp.ones(len(x)), x)
        a_t, s_t = (expand(f(t), x) for f in (self.sde.alpha, self.sde.sigma))
        a_s, s_s = (expand(f(to), x) for f in (self.sde.alpha, self.sde.sigma))
        spread = lambda a, s: jnp.sqrt(a**2 * VAR + s**2)
        end = a_s * mean + spread(a_s, s_s) / spread(a_t, s_t) * (x - a_t * mean)
        det = a_s * s_t - s_s * a_t
        x0, noise = (end * s_t - s_s * x) / det, (a_s * x - end * a_t) / det
        return Prediction(x0, x0, noise)


def flow(x, t, s):
    """Return the exact flow of the data, in float64."""
    at = levels(SDE_, np.array([t, s]))
    spread = np.sqrt(at.alpha**2 * VAR + at.sigma**2)
    return at.alpha[1] * MEAN + spread[1] / spread[0] * (x - at.alpha[0] * MEAN)


def inputs():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(B, 2)), jnp.float32)
    return x, jax.random.split(jax.random.key(0), B)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_flow_map_is_exact_in_any_number_of_steps(steps):
    """The network would receive another time than that to which the step leads."""
    table = leap(SDE_, grids.uniform(SDE_, steps))
    x, keys = inputs()
    made = sample(Exact(SDE_), table, x, keys)
    np.testing.assert_allclose(made, flow(x, table.t[0], 0.0), rtol=2e-4, atol=2e-4)


def test_it_can_be_inverted():
    """An encoding by a flow map would give the noise of another image."""
    times = np.linspace(0.1, 0.9, 3)
    table = leap(SDE_, times)
    assert (table.to > table.t).all() and table.leads
    x, keys = inputs()
    made = sample(Exact(SDE_), table, x, keys)
    np.testing.assert_allclose(made, flow(x, 0.1, 0.9), rtol=2e-4, atol=2e-4)


def test_tables_keep_it():
    """Part of a table, a longer one, or one with a corrector would lead elsewhere."""
    table = leap(SDE_, grids.uniform(SDE_, 4))
    np.testing.assert_array_equal(table.to[:-1], table.t[1:])
    part = table[1:3]
    np.testing.assert_array_equal(part.to, table.to[1:3])
    assert part.leads and table.pad(6).leads and (table.pad(6).to[:4] == table.to).all()
    fresh = correctors.refresh(SDE_, table)
    assert fresh.leads and len(fresh) > len(table)
    np.testing.assert_array_equal(fresh.to[fresh.to != fresh.t], table.to)
    assert table.brownian().leads


def test_it_is_printed_where_it_differs():
    """Two tables with different second times would look alike."""
    table = leap(SDE_, grids.uniform(SDE_, 2))
    lines = str(table).splitlines()[1:]
    assert all(f"to = {to:.6f}" in line for to, line in zip(table.to, lines, strict=True))
    plain = samplers.dpm_solver_1(SDE_, grids.uniform(SDE_, 2))
    assert "to =" not in str(plain) and not plain.leads
    np.testing.assert_array_equal(plain.to, plain.t)
    same = dataclasses.replace(leap(SDE_, grids.uniform(SDE_, 2)), to=plain.to, leads=False)
    np.testing.assert_allclose(unroll(same).result, unroll(plain).result, atol=1e-12)


def test_ordinary_tables_ask_ordinary_denoisers():
    """A denoiser without a second time would receive one."""
    x, keys = inputs()
    with pytest.raises(ValueError, match="was not told where to lead"):
        sample(Exact(SDE_), samplers.ddim(SDE_, grids.uniform(SDE_, 2)), x, keys)


@pytest.mark.parametrize(
    "reference", [Null(), OtherNetwork(Exact(SDE_), conditional=False)], ids=["null", "network"]
)
def test_guidance_tells_both_of_its_passes(reference):
    """The reference would lead elsewhere than the prediction beside it, or get no second time."""
    table = leap(SDE_, grids.uniform(SDE_, 2))
    table = dataclasses.replace(table, weight=np.full(2, 2.0))
    x, keys = inputs()
    cond = {"shift": jnp.full(B, 0.5)}
    made = sample(Exact(SDE_), table, x, keys, cond=cond, guidance=Guided(reference, Rule()))
    moved = sample(Exact(SDE_), table, x, keys, cond={"shift": jnp.ones(B)})
    np.testing.assert_allclose(made, moved, rtol=1e-4, atol=1e-4)  # linear in the mean
