"""Costs of networks: FLOPs against closed forms, loops counted, nothing computed."""

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.nets import dit, mlp
from diffjax.nets.costs import costs, flops
from diffjax.nets.kernels.attention import attention
from diffjax.nets.kernels.convolution import convolution

of = jax.ShapeDtypeStruct


def traced(function, *shapes):
    return flops(jax.make_jaxpr(function)(*(of(s, jnp.float32) for s in shapes)))


def test_products_are_counted_by_their_closed_forms():
    """Reported FLOPs, and the utilisation of the machine, would be wrong."""
    assert traced(lambda a, b: a @ b, (4, 5), (5, 7)) == 2 * 4 * 5 * 7
    conv = lambda x, k: convolution(x, k, (2, 2), "SAME")
    assert traced(conv, (3, 8, 8, 5), (3, 3, 5, 7)) == 2 * 3 * 4 * 4 * 9 * 5 * 7
    q, k = (2, 6, 3, 4), (2, 9, 3, 4)
    assert traced(attention, q, k, k) == 2 * 2 * (2 * 3) * 6 * 9 * 4


def test_loops_count_as_often_as_they_run():
    """A transformer would seem to cost as much as one of its blocks."""
    looped = lambda a: jax.lax.scan(lambda c, _: (c @ a, None), a, None, length=5)[0]
    assert traced(looped, (4, 4)) == 5 * 2 * 4**3

    def cost(depth):
        network = dit(width=16, depth=depth, heads=2, patch=2)
        return costs(network, of((1, 4, 4, 3), jnp.float32), of((1,), jnp.float32), {})

    one, two, five = (cost(depth) for depth in (1, 2, 5))
    assert five.flops - one.flops == 4 * (two.flops - one.flops) > 0
    assert five.parameters - one.parameters == 4 * (two.parameters - one.parameters) > 0
    assert five.stored - one.stored == 4 * (two.stored - one.stored) > 0


def test_a_network_of_layers_costs_what_its_layers_do():
    """Layers would be missing from the table, or counted twice."""
    made = costs(mlp(width=8, depth=2), of((1, 5), jnp.float32), of((1,), jnp.float32), {})
    dense = 2 * 8 * 8 + 5 * 8 + 2 * (3 * 8 * 8) + 8 * 5
    assert made.flops == 2 * dense
    assert 2.5 * made.flops < made.gradient_flops <= 3 * made.flops
    top = [layer for layer in made.layers if len(layer.path) == 1]
    assert sum(layer.parameters for layer in top) == made.parameters
    first = next(layer for layer in top if layer.path == ("Dense_0",))
    assert (first.kind, first.shape, first.parameters) == ("Dense", (1, 8), 5 * 8 + 8)


def test_costs_grow_with_the_batch_and_nothing_is_computed():
    """An estimate for a network of a billion parameters would need their memory."""
    network = mlp(width=8192, depth=2)
    given = lambda b: (of((b, 9000), jnp.float32), of((b,), jnp.float32), {})
    one, four = costs(network, *given(1)), costs(network, *given(4))
    assert one.parameters == four.parameters > 2e8
    np.testing.assert_allclose(
        (four.flops, four.stored), (4 * one.flops, 4 * one.stored), rtol=0.02
    )
