"""Words in the networks that attend to them: their order, and the words that are missing."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.nets import NETWORKS
from diffjax.nets.conditions import Words

B, SIZE = 2, 9
CASES = {
    "unet": {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (4,), "heads": 2},
    "dit": {"width": 12, "depth": 2, "heads": 2},
}
case = pytest.mark.parametrize("name", CASES)


@functools.cache
def made(name):
    """Return `words -> output` of a network with random parameters."""
    network = NETWORKS[name](**CASES[name], conditions=(Words(SIZE, mechanism="cross"),))
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    given = normal(B, 4, 4, 2), jnp.array([0.3, 0.7])
    shapes = jax.eval_shape(network.init, jax.random.key(0), *given, None)
    params = jax.tree.map(lambda a: 0.3 * normal(*a.shape), shapes)
    return jax.jit(lambda words: network.apply(params, *given, {"words": words}))


@case
def test_words_beyond_the_end_of_a_text_change_nothing(name):
    """The output would depend on the length to which texts are padded."""
    apply = made(name)
    words = jnp.array([[3, 1, 4], [1, 5, -1]])
    padded = jnp.pad(words, ((0, 0), (0, 2)), constant_values=-1)
    chex.assert_trees_all_close(apply(padded), apply(words), rtol=1e-5, atol=1e-5)
    other = apply(words.at[1, 2].set(6))
    chex.assert_trees_all_close(other[0], apply(words)[0], rtol=1e-5, atol=1e-5)
    assert np.abs(other[1] - apply(words)[1]).max() > 1e-3


@case
def test_the_order_of_words_counts(name):
    """A dog on a man would be a man on a dog."""
    apply = made(name)
    words = jnp.array([[3, 1, 4], [1, 5, 2]])
    change = np.abs(apply(words[:, ::-1]) - apply(words)).reshape(B, -1).max(1)
    assert (change > 1e-3).all()


def test_words_out_of_range_show():
    """A word of another vocabulary would silently be the first or the last one."""
    out = made("dit")(jnp.array([[3, 1, SIZE], [1, 5, 2]]))
    assert np.isnan(out[0]).all() and np.isfinite(out[1]).all()
