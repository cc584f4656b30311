"""Lengths of padded items: networks see nothing beyond the end, and always know where it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.arrays import drop, null
from diffjax.nets import dit, edm2, unet
from diffjax.nets.conditions import Label, Length

UNET = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": ()}
NETWORKS = {
    "unet": lambda c: unet(**UNET, heads=2, conditions=c),
    "edm2": lambda c: edm2(**UNET, head_channels=4, conditions=c),
    "dit": lambda c: dit(width=8, depth=1, heads=2, patch=2, conditions=c),
}
C_NOISE = jnp.array([0.3, 0.6])


def redrawn(shapes):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype), shapes)


@pytest.mark.parametrize(
    "name", ["dit", *(pytest.param(k, marks=pytest.mark.thorough) for k in ("unet", "edm2"))]
)
def test_a_network_does_not_see_the_padding(name):
    """Noise in the padding would reach the values of an item by convolutions or attention.

    An item that ends must also differ from one that is 0 there.
    """
    network = NETWORKS[name]((Length(8),))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 2)), jnp.float32)
    cond = {"length": jnp.array([5, 8], jnp.uint32)}
    params = redrawn(jax.eval_shape(network.init, jax.random.key(0), x, C_NOISE, cond))
    apply = jax.jit(lambda x, cond: network.apply(params, x, C_NOISE, cond))
    out = apply(x, cond)
    np.testing.assert_array_equal(apply(x.at[0, 5:].set(jnp.nan), cond), out)
    whole = {"length": jnp.array([8, 8], jnp.uint32)}
    assert np.abs(apply(x.at[0, 5:].set(0.0), whole) - out)[0].max() > 1e-3


def test_neither_dropout_nor_guidance_takes_a_length_away():
    """The unconditional network would receive items of another length."""
    cond = {"length": jnp.array([5, 8], jnp.uint32), "label": jnp.array([0, 1])}
    for after in (drop(cond, jax.random.key(0), 1.0), null(cond)):
        assert after["length"].tolist() == [5, 8] and after["label"].tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (jnp.array([0, 8], jnp.uint32), r"cond\['length'\]=0: needs a length from 1 to 8"),
        (jnp.array([9, 8], jnp.uint32), r"cond\['length'\]=9: needs a length from 1 to 8"),
        (jnp.array([5, 8]), r"cond\['length'\] of type int32: needs uint32"),
        (jnp.array([5.0, 8.0]), r"cond\['length'\] has the type float32; needs"),
        (jnp.array([5], jnp.uint32), r"cond\['length'\] has the shape \(1,\); needs \(2,\)"),
    ],
)
def test_other_lengths_are_refused(length, said):
    """An item would be empty, or longer than its array."""
    network = NETWORKS["dit"]((Length(8), Label(2)))
    with pytest.raises(ValueError, match=said):
        network.init(jax.random.key(0), jnp.zeros((2, 8, 2)), C_NOISE, {"length": length})


def test_items_of_another_size_are_refused():
    """The mask of an item of another size would not fit, or be broadcast."""
    network = NETWORKS["dit"]((Length(8),))
    cond = {"length": jnp.array([5, 4], jnp.uint32)}
    with pytest.raises(ValueError, match="'length' has the size 8"):
        network.init(jax.random.key(0), jnp.zeros((2, 4, 2)), C_NOISE, cond)
