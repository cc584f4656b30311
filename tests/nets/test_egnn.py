"""Networks of points: they commute with the symmetries of space and of the order of points."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.nets import dit, egnn
from diffjax.nets.conditions import Label, Length, Map, Pairs, Tokens
from diffjax.nets.egnn import bumps

POINTS, C_NOISE = 5, np.array([0.3, 0.6])
CONDITIONS = (Label(3), Map(2), Pairs(3), Length(POINTS))


def redrawn(shapes):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), float), shapes)


def rotation(axes, seed):
    """Return a random orthogonal matrix, a reflection for odd seeds."""
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(axes, axes)))[0]
    q[:, 0] *= np.linalg.det(q) * (1 - 2 * (seed % 2))
    return q


def inputs(axes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, POINTS, axes))
    cond = {"label": np.array([0, 2], np.int32), "map": rng.normal(size=(2, POINTS, 2))}
    cond |= {"pairs": rng.normal(size=(2, POINTS, POINTS, 3))}
    return x, cond | {"length": np.array([4, 5], np.uint32)}


def ordered(cond, order):
    """Return the conditions of points in another order, or of some of them."""
    pairs = cond["pairs"][:, order][:, :, order]
    return cond | {"map": cond["map"][:, order], "pairs": pairs}


def applied(network, x, cond=None):
    """Return the module of a network in float64, with every tensor redrawn.

    The network itself computes in float32 at most.
    """
    module, c_noise = network.init.module, jnp.asarray(C_NOISE)
    params = redrawn(jax.eval_shape(module.init, jax.random.key(0), x, c_noise, cond))
    run = jax.jit(lambda x, cond: module.apply(params, x, c_noise, cond))
    moved = lambda tree: jax.tree.map(jnp.asarray, tree)
    return lambda x, cond=None: jax.tree.map(np.asarray, run(*moved((x, cond))))


@pytest.mark.parametrize("axes", [2, 3])
def test_egnn_commutes_with_all_symmetries(x64, axes):
    """Density and samples would depend on the orientation, the place or the order of particles."""
    x, cond = inputs(axes)
    apply = applied(egnn(8, 2, 4, conditions=CONDITIONS), x, cond)
    before = apply(x, cond)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10 * np.abs(before).max())
    assert np.abs(before[1]).min() > 1e-3 and not before[0, 4:].any()
    for q in (rotation(axes, 2), rotation(axes, 3)):
        close(apply(x @ q, cond), before @ q)
    close(apply(x + 3.0, cond), before)
    order = np.array([2, 0, 3, 1, 4])  # the padding of the first item stays behind its points
    close(apply(x[:, order], ordered(cond, order)), before[:, order])
    padded, beyond = x.copy(), cond | {"pairs": cond["pairs"].copy()}
    padded[0, 4] = np.nan
    beyond["pairs"][0, 4] = beyond["pairs"][0, :, 4] = 9.0
    close(apply(padded, beyond), before)
    short = ordered(cond, np.arange(4)) | {"length": np.array([4, 4], np.uint32)}
    few = (Label(3), Map(2), Pairs(3), Length(4))
    alone = applied(egnn(8, 2, 4, conditions=few), x[:, :4], short)
    close(alone(x[:, :4], short)[0], before[0, :4])


def test_a_bond_changes_what_its_atoms_do(x64):
    """A network would ignore bonds, or take a missing one for features of 0."""
    x, cond = inputs(3)
    apply = applied(egnn(8, 1, 4, conditions=CONDITIONS), x, cond)
    before, other = apply(x, cond), cond | {"pairs": cond["pairs"].copy()}
    other["pairs"][1, 0, 1] += 1.0
    change = np.abs(apply(x, other) - before).max(2)
    assert change[1, 0] > 1e-4 and not change[0].any() and not change[1, 1:].any()
    other["pairs"][1, 0, 1] = 0.0
    none = apply(x, other)
    other["pairs"][1, 0, 1] = np.nan
    assert np.abs(apply(x, other) - none)[1, 0].max() > 1e-4


def test_packed_points_commute_in_their_coordinates_alone(x64):
    """Elements of atoms would turn with the molecule, or depend on its orientation or padding."""
    x, cond = inputs(3)
    packed = np.concatenate([x, np.random.default_rng(2).normal(size=(2, POINTS, 4))], -1)
    cond = {"length": cond["length"]}
    apply = applied(egnn(8, 2, 4, features=4, conditions=(Length(POINTS),)), packed, cond)
    before = apply(packed, cond)
    assert np.abs(before[1]).min() > 1e-3 and not before[0, 4:].any()
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10 * np.abs(before).max())
    for q in (rotation(3, 2), rotation(3, 3)):
        turn = lambda a, q=q: np.concatenate([a[..., :3] @ q, a[..., 3:]], -1)
        close(apply(turn(packed), cond), turn(before))
    order = np.array([2, 0, 3, 1, 4])
    close(apply(packed[:, order], cond), before[:, order])
    moved = packed + np.array([3.0, -1.0, 2.0, 0, 0, 0, 0])
    close(apply(moved, cond), before)
    wide = np.pad(packed, ((0, 0), (0, 2), (0, 0)), constant_values=np.nan)
    more = applied(egnn(8, 2, 4, features=4, conditions=(Length(POINTS + 2),)), wide, cond)
    close(more(wide, cond)[:, :POINTS], before)
    other = packed.copy()
    other[:, 0, 3:] += 1.0  # an element changes what its neighbours do
    assert np.abs(apply(other, cond) - before)[:, 1, :3].min() > 1e-4


def test_the_second_output_is_one_invariant_number_for_a_point(x64):
    """The variance of a step would depend on the orientation of a molecule."""
    x = inputs(3)[0]
    apply = applied(egnn(8, 1, 4, learn_variance=True), x)
    before = apply(x)[1]
    assert np.ptp(before, axis=-1).max() == 0 and np.ptp(before[..., 0]) > 1e-2
    np.testing.assert_allclose(apply(x @ rotation(3, 3) + 1.0)[1], before, rtol=1e-10)


def test_a_transformer_without_positions_commutes_with_permutations_alone(x64):
    """A cloud would have an order that its data do not have."""
    x, order = inputs(3)[0], np.array([2, 0, 3, 1, 4])
    apply = applied(dit(width=8, depth=2, heads=2, patch=1, positions="none"), x)
    before = apply(x)
    np.testing.assert_allclose(apply(x[:, order]), before[:, order], atol=1e-10)
    turned = apply(x @ rotation(3, 2))
    assert np.abs(turned - before @ rotation(3, 2)).max() > 1e-2


def test_points_that_are_given_have_no_order_either(x64):
    """A cloud would depend on the order in which a user lists the points that were seen."""
    x, order = inputs(3)[0], np.array([2, 0, 3, 1, 4])
    seen = {"seen": np.random.default_rng(2).normal(size=(2, 4, 3))}
    tokens = Tokens(3, "seen", mechanism="cross", layers=2, waves=2)
    settings: dict[str, Any] = dict(width=8, depth=1, heads=2, patch=1, positions="none", waves=3)
    apply = applied(dit(**settings, conditions=(tokens,)), x, seen)
    before = apply(x, seen)
    reordered = {"seen": seen["seen"][:, [3, 1, 0, 2]]}
    np.testing.assert_allclose(apply(x[:, order], reordered), before[:, order], atol=1e-10)
    assert np.abs(apply(x, {"seen": seen["seen"] + 0.1}) - before).max() > 1e-3


def test_radial_features_are_gaussians_at_even_places():
    found = bumps(jnp.full((1, 1, 1, 1), 3.0), 3, 6.0)[0, 0, 0]
    np.testing.assert_allclose(found, np.exp(-0.5 * np.array([1.5, 0, 1.5]) ** 2), rtol=1e-6)


def test_other_items_and_settings_are_refused():
    init = egnn(width=4, depth=1).init
    for shape in ((2, 4), (2, 1, 3), (2, 4, 4, 1)):
        with pytest.raises(ValueError, match=r"egnn with input .*needs points \(B, N, d\)"):
            jax.eval_shape(init, jax.random.key(0), jnp.zeros(shape), jnp.ones(2), None)
    narrow = egnn(width=4, depth=1, features=3).init
    with pytest.raises(ValueError, match=r"needs points \(B, N, d \+ 3\) with N >= 2"):
        jax.eval_shape(narrow, jax.random.key(0), jnp.zeros((2, 4, 3)), jnp.ones(2), None)
    refused: list[dict[str, Any]] = [
        {"features": -1},
        {"width": 1},
        {"depth": 0},
        {"radial": 1},
        {"reach": 0.0},
    ]
    for setting in refused:
        with pytest.raises(ValueError, match=next(iter(setting))):
            egnn(**setting)
