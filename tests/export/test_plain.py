"""Plain operations: what converters receive computes what the network computes."""

import jax
import numpy as np
import pytest

from diffjax import nets
from diffjax.export.plain import evaluate, plain
from diffjax.nets.conditions import Label, Tokens

OURS = {"attention", "convolution", "upsampled_convolution", "jit", "pjit", "scan", "checkpoint"}
UNET = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "heads": 2, "attention": (4,)}
NETWORKS = {
    "unet": nets.unet(**UNET, conditions=(Label(10),)),
    "dit": nets.dit(
        width=16, depth=5, heads=2, long_skips=True, conditions=(Label(10), Tokens(8, "words"))
    ),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """A network with redrawn parameters, and its inputs."""
    rng, entry = np.random.default_rng(0), NETWORKS[request.param]
    x = rng.normal(size=(2, 8, 8, 1)).astype(np.float32)
    cond = {"label": np.array([3, -1], np.int32)}
    if request.param == "dit":
        cond["words"] = rng.normal(size=(2, 5, 8)).astype(np.float32)
    inputs = (x, np.array([0.2, 0.7], np.float32), cond)
    shapes = jax.eval_shape(entry.init, jax.random.key(0), *inputs)
    params = jax.tree.map(lambda a: 0.3 * rng.normal(size=a.shape).astype(np.float32), shapes)
    return entry, params, inputs


def test_plain_operations_compute_the_network(network):
    """A converter would write another network, or meet an operation that it does not know."""
    entry, params, inputs = network
    jaxpr = plain(entry.apply, params, *inputs)
    names = {eqn.primitive.name for eqn in jaxpr.jaxpr.eqns}
    assert not names & OURS and "dot_general" in names
    (y,) = evaluate(jaxpr, *jax.tree.leaves((params, *inputs)))
    wanted = jax.jit(entry.apply)(params, *inputs)
    assert np.abs(wanted).max() > 0.5
    np.testing.assert_allclose(y, wanted, atol=2e-5 * np.abs(wanted).max())
