"""Spaces: projections with their ranks, and everything that must stay inside of them."""

import dataclasses
import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import builder, guidance, samplers
from diffjax.config import ConfigError
from diffjax.data import KINDS
from diffjax.data.form import Form
from diffjax.data.packed import Layout, Part
from diffjax.denoiser import Denoiser, Model
from diffjax.grids import uniform
from diffjax.likelihood import Ode, logp
from diffjax.nets import Network
from diffjax.objectives import Denoising
from diffjax.objectives.base import Context
from diffjax.parameterization import X0, Eps
from diffjax.prediction import predict
from diffjax.samplers.conformance import DOWN, VP_LINEAR, simulate
from diffjax.samplers.correctors import langevin
from diffjax.schedules import Linear
from diffjax.sde import SDE, VP
from diffjax.spaces import PLAIN, Centred, Masked, Plain, Symmetric

MASK = np.array([1.0, 1.0, 1.0, 0.0, 0.0])
LAYOUT = Layout((Part("x", 2, space=Centred()), Part("bonds", 5, space=Symmetric())))
PACKED = LAYOUT.pack({"x": np.tile(MASK[:, None], 2), "bonds": np.outer(MASK, MASK)})
SPACES = {
    "plain": (Plain(), (5, 2), None),
    "masked": (Masked(), (5, 2), MASK[:, None]),
    "masked-whole": (Masked(), (5, 2), None),
    "centred": (Centred(), (5, 2), None),
    "centred-masked": (Centred(), (5, 2), MASK[:, None]),
    "centred-empty": (Centred(), (5, 2), 0 * MASK[:, None]),
    "symmetric": (Symmetric(), (5, 5, 2), None),
    "symmetric-masked": (Symmetric(), (5, 5, 2), np.outer(MASK, MASK)[:, :, None]),
    "product": (LAYOUT.space, (5, 7), None),
    "product-masked": (LAYOUT.space, (5, 7), PACKED),
}


def matrix(space, shape, mask):
    """The projection as a matrix (D, D) in float64."""
    units = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    mask = None if mask is None else np.broadcast_to(mask, (len(units), *mask.shape))
    with jax.enable_x64(True):
        mask = None if mask is None else jnp.asarray(mask)
        return np.asarray(space.project(jnp.asarray(units), mask)).reshape(len(units), -1)


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_an_orthogonal_projection_and_its_rank_the_trace(name):
    """Noise would have another covariance than P, or the loss another number of values."""
    space, shape, mask = SPACES[name]
    p = matrix(space, shape, mask)
    np.testing.assert_allclose(p @ p, p, atol=1e-14)
    np.testing.assert_allclose(p, p.T, atol=1e-14)
    rank = space.rank(shape, None if mask is None else mask[None])
    np.testing.assert_allclose(np.trace(p), rank, atol=1e-12)


def test_the_plain_space_adds_nothing_to_a_program():
    """Programs of images would change, if only by rounding."""
    x, mask = jnp.ones((2, 3)), jnp.zeros((2, 3))
    assert PLAIN.project(x) is x and PLAIN.project(x, mask) is x
    assert PLAIN.mean(x * 3).tolist() == [3.0, 3.0]


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_all_states_of_a_table_stay_in_the_space(name):
    """Centred points would drift: a row is a linear combination, so P commutes with the table."""
    try:
        table = samplers.SAMPLERS[name](VP_LINEAR, DOWN)
    except ValueError:
        table = samplers.SAMPLERS[name](VP_LINEAR, DOWN[:-1])
    p = matrix(Centred(), (5, 2), None)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(10, 10))
    seen = []

    def output(i, u):
        seen.append(u)
        return p @ np.tanh(weights @ u + 1)

    z = rng.normal(size=(len(table), 10))
    x = simulate(table, output, p @ z[0], zs=z @ p)
    for state in (*seen, x):
        np.testing.assert_allclose(p @ state, state, atol=1e-12 * (1 + np.abs(state).max()))
    assert np.abs(simulate(table, lambda i, u: u + 1, p @ z[0])).max() > 0


def shifted(params, x, c_noise, cond, *, key=None):
    """A network that knows nothing of spaces: its output is not centred."""
    return jnp.tanh(x) + 0.5


def silent(params, x, c_noise, cond, *, key=None):
    return 0 * x


def denoiser(sde=VP(Linear()), space=Centred(), parameterization=X0()):
    model = Model(sde, parameterization, Network(lambda *_, **__: {}, shifted), space)
    return Denoiser(model, {"network": {}})


def start(n=4, shape=(6, 3)):
    return samplers.initial(VP(Linear()), jax.random.split(jax.random.key(0), n), shape)


def centre(x):
    return np.abs(np.asarray(x).mean(1)).max()


def test_the_centre_does_not_drift_in_a_thousand_rows_of_float32():
    """Samples of particles would wander off; only inputs of the rows are projected, not states."""
    denoise, vp = denoiser(), VP(Linear())
    x = samplers.sample(denoise, samplers.ancestral(vp, uniform(vp, 1000)), *start())
    assert centre(x) < 1e-5 and np.abs(x).max() > 0.1


def test_thresholds_and_langevin_rows_stay_in_the_space():
    """A threshold is not linear: clipped x0 would not be centred."""
    denoise, vp = denoiser(), VP(Linear())
    clipped = guidance.Thresholded(guidance.Conditional(), guidance.Static(0.2))
    table = langevin(vp, samplers.ddim(vp, uniform(vp, 4)))
    x = samplers.sample(denoise, table, *start(), guidance=clipped)
    assert centre(x) < 1e-6 and np.abs(x).max() > 0.05


def test_the_loss_is_a_mean_over_the_rank_of_each_item():
    """Small molecules would count less than large ones, as where one divides by the padding."""
    length = jnp.array([2, 5], jnp.uint32)
    mask = (jnp.arange(5)[None] < length[:, None]).astype(jnp.float32)[..., None]
    batch = {"x": jnp.zeros((2, 5, 2)), "mask": mask, "cond": {"length": length}}
    model = Model(VP(Linear()), Eps(), Network(lambda *_, **__: {}, silent), Centred())
    many = jax.tree.map(lambda a: jnp.repeat(a[:, None], 4000, 1), batch)
    loss = lambda one: Denoising()(Context(model, {"network": {}}, one, jax.random.key(0)))[0]
    each = [float(loss(jax.tree.map(lambda a, i=i: a[i], many))) for i in range(2)]
    # eps has unit variance in each dimension of the space: |P eps|^2 / rank has the mean 1.
    np.testing.assert_allclose(each, 1, atol=4 * np.sqrt(2 / (2 * 4000)))


@dataclass(frozen=True)
class Isotropic:
    """The exact denoiser of N(0, var P) data; outside of the space it predicts anything."""

    sde: SDE
    space: Centred
    var: float = 0.7

    def __call__(self, x, t, cond=None, *, key=None):
        alpha, sigma = (f(t)[:, None, None] for f in (self.sde.alpha, self.sde.sigma))
        centred = self.space.project(x)
        mean = x - centred
        x0 = alpha * self.var / (alpha**2 * self.var + sigma**2) * centred + 0.3 * mean
        return predict(self.sde, x, t, x0)


def test_the_density_counts_the_rank_and_ignores_the_centre():
    """NLL would include dimensions that do not exist, and depend on where a molecule is."""
    vp = VP(Linear(), t_min=1e-3)
    denoise, keys = Isotropic(vp, Centred()), jax.random.split(jax.random.key(0), 3)
    z = jax.random.normal(jax.random.key(1), (3, 4, 2))
    density = jax.jit(lambda z: logp(denoise, z, keys, ode=Ode(steps=60)).logp)
    first = jnp.asarray(vp.t_min)
    rho2 = float((vp.sigma(first) / vp.alpha(first)) ** 2)
    var, centred = 0.7 + rho2, np.asarray(z - z.mean(1, keepdims=True))
    exact = -0.5 * (centred**2).sum((1, 2)) / var - 3 * np.log(2 * np.pi * var)
    np.testing.assert_allclose(density(z), exact, rtol=2e-4)
    np.testing.assert_allclose(density(z + 5.0), exact, rtol=2e-4)


PARTICLES = dataclasses.replace(KINDS["sequence"], name="particles", lengths=False, space=Centred())


def test_a_kind_names_the_space_and_other_objectives_are_refused():
    """A flow map would be trained on noise outside of the space that samples never leave."""
    form = Form("test_spaces:PARTICLES", (4, 2))
    assert form.items.space == Centred()
    builder.check_space(form, Denoising())
    with pytest.raises(ConfigError, match=r"config.loss: Unprojected .* Centred"):
        builder.check_space(form, Unprojected())
    with pytest.raises(ValueError, match="centred"):
        Form("test_spaces:PARTICLES", (1, 2))


class Unprojected(Denoising):
    """An objective that draws noise without the space."""

    spaces = False


@functools.cache
def molecule():
    return Layout((Part("x", 2, space=Centred()), Part("h", 4, classes=True, scale=0.25)))


def test_parts_are_packed_and_unpacked():
    """Types of atoms would be read back as others."""
    x = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float32)
    h = np.arange(21).reshape(7, 3) % 4
    packed = molecule().pack({"x": x, "h": h})
    assert packed.shape == (7, 3, molecule().width) == (7, 3, 6)
    assert sorted(set(packed[..., 2:].ravel().tolist())) == [0.0, 0.25]
    noisy = packed + 0.1 * np.tanh(packed)
    back = molecule().unpack(packed)
    np.testing.assert_array_equal(back["x"], x)
    np.testing.assert_array_equal(back["h"], h)
    np.testing.assert_array_equal(molecule().unpack(noisy)["h"], h)
    assert molecule().space.rank((3, 6)) == 4 + 12
    mask = np.array([[[1.0], [1.0], [0.0]]])
    assert molecule().space.rank((3, 6), mask).tolist() == [2 + 8 + 4]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: molecule().pack({"x": np.zeros((1, 3, 2))}), "h"),
        (lambda: molecule().pack({"x": np.zeros((1, 3, 3)), "h": np.zeros((1, 3), int)}), "x"),
        (lambda: molecule().pack({"x": np.zeros((1, 3, 2)), "h": np.full((1, 3), 4)}), "h"),
        (lambda: molecule().unpack(np.zeros((1, 5))), "6"),
        (lambda: Part("h", 0, classes=True), "h.width"),
        (lambda: molecule().space.check((1, 6)), "centred"),
        (lambda: Layout((Part("x", 3), Part("x", 3))), "x"),
        (lambda: Symmetric().check((3, 4)), "symmetric"),
        (lambda: molecule().space.check((3, 5)), "6"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
