"""Networks of flax.nnx modules against equal Linen modules, with dropout and files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import random_like
from flax import linen as nn
from flax import nnx

from diffjax import nets
from diffjax.io.trees import flat, nested
from diffjax.nets.conditions import Conditions, Label, settled
from diffjax.nets.layers import VECTORS

B, D, LEVELS = 4, 3, 11


class LinenNet(nn.Module):
    width: int = 6
    rate: float = 0.0

    @nn.compact
    def __call__(self, x, c_noise, cond, train=False):
        h = nn.Dense(self.width, name="first")(x) + jnp.cos(c_noise)[:, None]
        h = h + nn.Embed(LEVELS, self.width, name="table")(cond["label"] + 1)
        for i in range(LEVELS):
            h = h + nn.silu(nn.LayerNorm(name=f"norm_{i}")(h))
        h = nn.Dropout(self.rate, deterministic=not train)(h)
        return nn.Dense(D, name="last")(h)


class NnxNet(nnx.Module):
    def __init__(self, width: int = 6, rate: float = 0.0, conditions=Conditions(), *, rngs):
        self.first = nnx.Linear(D, width, rngs=rngs)
        self.table = nnx.Embed(LEVELS, width, rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(LEVELS)])
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.last = nnx.Linear(width, D, rngs=rngs)
        self.conditions = conditions

    def __call__(self, x, c_noise, cond):
        h = self.first(x) + jnp.cos(c_noise)[:, None]
        h = h + self.table((cond["label"] if cond else -jnp.ones(len(x), int)) + 1)
        for norm in self.norms:
            h = h + nnx.silu(norm(h))
        return self.last(self.drop(h))


class Line(nnx.Module):
    def __init__(self, *, rngs):
        self.line = nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x, c_noise, cond):
        return self.line(x)


class Dropped(nnx.Module):
    def __init__(self, *, rngs):
        self.drops = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])

    def __call__(self, x, c_noise, cond):
        first, second = (drop(jnp.ones_like(x)) for drop in self.drops)
        return 10 * first + second


class Counting(nnx.Module):
    def __init__(self, *, rngs):
        self.norm = nnx.BatchNorm(D, rngs=rngs)


def inputs():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(B, D)), jnp.float32)
    return x, jnp.linspace(0.1, 2.0, B), {"label": jnp.array([0, 1, 2, -1])}


def as_linen(params):
    """Return the same parameters under the names of the Linen module."""
    named = {k.replace("norms/", "norm_"): a for k, a in flat(params).items()}
    return nested(named)


def test_it_is_the_equal_linen_module():
    """Parameters would be confused, such as the tenth of a list with the second."""
    ours, theirs = nets.nnx(NnxNet, width=6), nets.linen(LinenNet())
    params = random_like(jax.eval_shape(ours.init, jax.random.key(0), *inputs()))
    linen = jax.eval_shape(theirs.init, jax.random.key(0), *inputs())
    shapes = lambda tree: {k: a.shape for k, a in flat(tree).items()}
    assert shapes(as_linen(params)) == shapes(linen)
    found = jax.jit(ours.apply)(params, *inputs())
    np.testing.assert_allclose(
        found, theirs.apply(as_linen(params), *inputs()), rtol=1e-5, atol=1e-5
    )
    again = nested({k: np.asarray(a) for k, a in flat(params).items()})  # by way of a file
    np.testing.assert_array_equal(jax.jit(ours.apply)(again, *inputs()), found)
    assert ours == nets.nnx(NnxNet, width=6) != nets.nnx(NnxNet, width=7)
    assert hash(ours) == hash(nets.nnx(NnxNet, width=6)) and repr(ours) == "Network(NnxNet)"


def test_dropout_is_a_function_of_the_key_and_off_without_one():
    """Every layer, or every step, would drop the same values, or evaluation be noisy."""
    apply = jax.jit(nets.nnx(Dropped).apply)
    one, two, again = (apply({}, *inputs(), key=jax.random.key(k)) for k in (0, 1, 0))
    np.testing.assert_array_equal(one, again)
    assert (one != two).any() and set(np.unique([one, two])) == {0, 2, 20, 22}
    np.testing.assert_array_equal(apply({}, *inputs()), 11)


def test_it_is_drawn_from_the_key_and_trains_in_either_type():
    network, (x, t, _) = nets.nnx(Line, dtype="bfloat16"), inputs()
    first, again, other = (network.init(jax.random.key(k), x, t, None) for k in (0, 0, 1))
    kernels = [np.asarray(p["line"]["kernel"]) for p in (first, again, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).all() and kernels[0].dtype == np.float32
    loss = lambda p: (network.apply(p, x, t, None) ** 2).mean()
    for grads in jax.tree.leaves(jax.jit(jax.grad(loss))(first)):
        assert grads.any() and np.isfinite(grads).all() and grads.dtype == np.float32


def test_conditions_are_settings():
    """Conditions, which are static, would become variables."""
    known = settled((Label(3),), "mine", VECTORS)
    network = nets.nnx(NnxNet, conditions=known)
    params = jax.eval_shape(network.init, jax.random.key(0), *inputs())
    assert jax.eval_shape(network.apply, params, *inputs()).shape == (B, D)


def test_what_is_no_network_is_refused_by_name():
    """Running means would keep their initial values without notice."""
    with pytest.raises(ValueError, match=r"Counting: norm\.\w+ is a BatchStat; .*needs nnx.Param"):
        nets.nnx(Counting).init(jax.random.key(0), *inputs())
    with pytest.raises(ValueError, match="dtype='float16': unknown; known: float32, bfloat16"):
        nets.nnx(NnxNet, dtype="float16")
    with pytest.raises(TypeError, match="unhashable"):
        nets.nnx(NnxNet, width=[3])
