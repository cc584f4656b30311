"""Transformers on padded items: attention must not see the padding either."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_length import C_NOISE, redrawn

from diffjax.nets import dit
from diffjax.nets.conditions import Length, Tokens

DIT = {"width": 12, "depth": 2, "heads": 2, "patch": 2}
CASES = {
    "joint": ({"depth": 1}, "joint"),
    "loop": ({}, "joint"),
    "cross": ({"qk_norm": True}, "cross"),
    "rotary": ({"positions": "rotary"}, ""),
    "skips": ({"depth": 3, "long_skips": True, "remat": "all"}, "joint"),
}


def network(case, positions):
    settings, mechanism = CASES[case]
    tokens = (Tokens(3, mechanism=mechanism),) if mechanism else ()
    return dit(**{**DIT, **settings}, conditions=(Length(positions), *tokens))


@pytest.mark.parametrize(
    "case", ["joint", *(pytest.param(k, marks=pytest.mark.thorough) for k in CASES if k != "joint")]
)
def test_padding_changes_no_output_inside_an_item(case):
    """The output of an item would depend on the longest item of its data set.

    Padded to 12 positions or to 6, it must be the same, also where the last patch lies half in the
    padding.
    """
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 12, 2)), jnp.float32)
    tokens = jnp.asarray(rng.normal(size=(2, 3, 3)), jnp.float32).at[0, 2].set(jnp.nan)
    cond = {"length": jnp.array([5, 6], jnp.uint32)}
    cond |= {"tokens": tokens} if CASES[case][1] else {}
    short, long = network(case, 6), network(case, 12)
    params = redrawn(jax.eval_shape(short.init, jax.random.key(0), x[:, :6], C_NOISE, cond))
    expected = jax.jit(short.apply)(params, x[:, :6], C_NOISE, cond)
    padded = jax.jit(long.apply)(params, x, C_NOISE, cond)
    for k, length in enumerate([5, 6]):
        np.testing.assert_allclose(
            padded[k, :length], expected[k, :length], rtol=1e-5, atol=1e-5 * np.abs(expected).max()
        )
    assert np.isfinite(padded).all()
