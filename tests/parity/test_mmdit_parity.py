"""Networks of Stable Diffusion 3 and Flux.1, every tensor redrawn: see `make_mmdit.py`."""

import json
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make_dit import drawn
from make_mmdit import CASES, FULL, SIDES, SIGMA, TOKENS, WEIGHT, inputs

from diffjax.builder.network import construct_network
from diffjax.io.contents import Contents
from diffjax.io.trees import flat
from diffjax.published import FAMILIES, flux, mmdit, recognised, sd3
from diffjax.published.tables import Table, converted

STORED = dict(np.load(Path(__file__).with_name("mmdit.npz")))


def contents(name):
    shapes = json.loads(str(STORED[f"{name}/shapes"]))
    tensors = {k: drawn(k, tuple(shape)) for k, shape in shapes.items()}
    return Contents(tensors, {}, config=json.loads(str(STORED[f"{name}/config"])))


def given(name):
    """Return x, the noise label and the conditions in our form."""
    x, text, pooled = inputs()
    cond = {"text": jnp.asarray(text), "text_pooled": jnp.asarray(pooled)}
    if name == "flux_dev":
        cond["guidance"] = jnp.asarray(WEIGHT)
    return jnp.asarray(x.transpose(0, 2, 3, 1)), jnp.asarray(1000 * SIGMA), cond


@pytest.mark.parametrize(
    "name", [*CASES]
)
def test_the_network_is_the_published_one(name):
    """Published weights could not be used: an order, bias, norm, rotation or mask differs."""
    made = contents(name)
    made = FAMILIES[recognised(made)].convert(made)
    network = construct_network(made.config["network"], made.conditions, "network")
    x, c_noise, cond = given(name)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, c_noise, cond)
    chex.assert_trees_all_equal_shapes(made.params, shapes)
    ours = np.asarray(jax.jit(network.apply)(made.params, x, c_noise, cond))
    theirs = STORED[f"{name}/output"].transpose(0, 2, 3, 1)
    assert ours.shape[1:3] == SIDES
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
