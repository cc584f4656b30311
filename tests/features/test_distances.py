"""Distances of images: what they refuse, and where they are zero or finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.features import DISTANCES
from diffjax.features.lpips import Layer, check_side, lpips, pooled, unit
from diffjax.features.lpips_names import BACKBONES, LINEAR


def test_the_gradient_is_finite_where_all_features_are_zero():
    """One flat picture would turn all parameters into NaN."""
    x = jnp.zeros((1, 2, 2, 3)).at[0, 0, 0].set(1.0)
    value, slope = jax.value_and_grad(lambda x: (unit(x) ** 2).sum())(x)
    assert value == pytest.approx(1.0)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(("padding", "row"), [(0, [2, 4]), (1, [2, 4, 5])])
def test_pools_reach_over_the_edge_where_the_original_does(padding, row):
    x = jnp.arange(6.0).reshape(1, 1, 6, 1)
    wide = jnp.broadcast_to(x, (1, 3, 6, 1))
    assert pooled(wide, Layer("pool", padding=padding))[0, 0, :, 0].tolist() == row


def test_edges_are_zero_for_equal_gradients_alone():
    """The substitute would reward a picture that lost its edges."""
    edges = DISTANCES["edges"](2)
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3), minval=-1.0, maxval=1.0)
    assert edges.apply({}, x, x).tolist() == [0.0, 0.0]
    np.testing.assert_allclose(edges.apply({}, x, x + 0.1), 0, atol=1e-6)
    assert (edges.apply({}, x, x.mean((1, 2), keepdims=True) + 0 * x) > 0.1).all()
    assert "not LPIPS" in edges.about
    with pytest.raises(ValueError, match="height=2: needs height >= 4"):
        edges.apply({}, x[:, :2], x[:, :2])


def test_what_a_distance_cannot_compare_is_refused(tmp_path):
    """Small images would give a distance of nothing, and unknown files one of another network."""
    for net, least in (("squeeze", 17), ("alex", 31), ("vgg", 16)):
        check_side(net, (1, least, least, 3))
        with pytest.raises(ValueError, match=f"{net} needs 1 or 3 channels and sides of at least"):
            check_side(net, (1, least - 1, 64, 3))
    with pytest.raises(ValueError, match="1 or 3 channels"):
        check_side("alex", (1, 64, 64, 4))
    with pytest.raises(
        ValueError, match=r"weights='.*': no such file; standard file: https://down"
    ):
        lpips("alex", str(tmp_path / "nothing.pth"))
    assert all(len(file.sha256) == 64 for file in (*BACKBONES.values(), *LINEAR.values()))
    assert all(file.sha256[:8] in file.name for file in BACKBONES.values())
