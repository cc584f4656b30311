"""Geometric augmentation against closed forms, and the labels that the network receives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data.augment import WIDTHS, Affine, Amounts, change
from diffjax.data.form import labelled

pytestmark = pytest.mark.typed

H, W = 24, 32
MANY = 2**14


def amounts(n: int = 1, **given) -> Amounts:
    """Return the same amounts for n images."""
    none = {name: jnp.zeros((n, 2) if name == "move" else n) for name in Amounts._fields}
    shape = lambda name: (n, 2) if name == "move" else (n,)
    told = {k: jnp.broadcast_to(jnp.asarray(v, jnp.float32), shape(k)) for k, v in given.items()}
    return Amounts(**none | told)


changed = jax.jit(change)


@functools.cache
def made(p: float = 0.3):
    """Draw many amounts, with the labels that the network receives."""
    augment = Affine(p=p, turn=True)
    amounts = jax.jit(augment.draw, static_argnums=1)(jax.random.key(0), MANY)
    return amounts, jax.jit(augment.labels_of)(amounts)


def drawn(*shape) -> jnp.ndarray:
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32))


def rotation(angle):
    """Return the counter-clockwise rotation, in coordinates that point right and down."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


# Each change as a map of the plane, p -> A p + t, right and down from the centre.
MAPS = {
    "scale": (dict(scale=1.5), 2**0.3 * np.eye(2), (0, 0)),
    "rotate": (dict(rotate=0.4), rotation(0.4), (0, 0)),
    "stretch": (dict(stretch=2.0), np.diag([2**0.4, 2**-0.4]), (0, 0)),
    "stretch along an axis": (
        dict(stretch=-1.0, axis=0.7),
        rotation(0.7) @ np.diag([2**-0.2, 2**0.2]) @ rotation(-0.7),
        (0, 0),
    ),
    "move": (dict(move=(0.5, -0.25)), np.eye(2), (0.5 * W / 8, -0.25 * H / 8)),
}
LAST_COMES_FIRST = dict(scale=-1.0, rotate=-0.6, stretch=1.0, axis=0.3, move=(0.3, 0.2))
MAPS["all"] = (
    LAST_COMES_FIRST,
    rotation(0.3) @ np.diag([2**0.2, 2**-0.2]) @ rotation(-0.3) @ rotation(-0.6) * 2**-0.2,
    (0.3 * W / 8, 0.2 * H / 8),
)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("degree", [1, 2])
def test_a_polynomial_image_is_moved_by_its_map(name, degree):
    """The direction, centre or order of the changes would be wrong, or the image blurred.

    Cubic convolution is exact on quadratics. Only pixels whose origin lies well inside are
    compared.
    """
    given, matrix, shift = MAPS[name]
    y, x = np.mgrid[:H, :W].astype(np.float64)
    p = np.stack([x - (W - 1) / 2, y - (H - 1) / 2])
    f = lambda p: ((0.03 * p[0] - 0.02 * p[1] + 0.1) ** degree)[..., None]
    origin = np.einsum("ij,jyx->iyx", np.linalg.inv(matrix), p - np.reshape(shift, (2, 1, 1)))
    seen = changed(jnp.asarray(f(p)[None], jnp.float32), amounts(**given))[0]
    inside = (np.abs(origin[0]) < W / 2 - 3) & (np.abs(origin[1]) < H / 2 - 3)
    assert inside.mean() > 0.3
    np.testing.assert_allclose(seen[inside], f(origin)[inside], atol=3e-6)


def test_what_needs_no_resampling_is_exact_to_the_bit():
    """An image that was only mirrored would be slightly blurred by rounding."""
    x, same = drawn(1, W, W, 3), np.testing.assert_array_equal
    same(changed(x, amounts()), x)
    same(changed(x, amounts(flip=1)), x[:, :, ::-1])
    same(changed(x, amounts(flip_y=1)), x[:, ::-1])
    for k in range(4):
        same(changed(x, amounts(turn=k)), np.rot90(x, k, (1, 2)))
    moved = changed(x, amounts(move=(3 * 8 / W, -5 * 8 / W)))[0]
    same(moved[: W - 5, 3:], x[0, 5:, : W - 3])
    same(moved[:, 2], moved[:, 4])  # mirrored at the border


def test_each_image_is_changed_by_its_own_amounts_and_the_others_stay():
    x = drawn(3, 8, 8, 1)
    a = amounts(3)._replace(rotate=jnp.array([0.0, 0.5, 0.0]), flip=jnp.array([0.0, 0.0, 1.0]))
    seen = changed(x, a)
    np.testing.assert_array_equal(seen[0], x[0])
    np.testing.assert_array_equal(seen[2], x[2, :, ::-1])
    np.testing.assert_array_equal(seen[1], changed(x[1:2], amounts(rotate=0.5))[0])


def test_constant_images_stay_so():
    """The weights would not sum to 1, or the border would be filled with grey."""
    x = jnp.full((256, 6, 6, 3), 0.7)
    seen = changed(x, jax.tree.map(lambda a: a[:256], made()[0]))
    np.testing.assert_allclose(seen, x, atol=1e-6)


def test_without_chance_nothing_changes():
    x = drawn(4, 6, 5, 3)
    seen, told = Affine(p=0.0)(jax.random.key(0), x)
    assert seen is x
    np.testing.assert_array_equal(told, np.zeros((4, 9)))


def test_where_labels_are_zero_an_image_is_as_it_was():
    """A changed image with labels 0 would leak into samples, whose labels are 0."""
    x, augment = drawn(256, 6, 6, 3), Affine(p=0.3, turn=True)
    amounts, told = jax.tree.map(lambda a: a[:256], made())
    assert told.shape == (256, augment.width) == (256, 11)
    same, silent = (changed(x, amounts) == x).all((1, 2, 3)), (told == 0).all(1)
    assert same[silent].all()
    assert 0.03 < silent.mean() < 0.2  # by their probabilities: 0.5 * 0.85 * 0.7^4 * 0.775
    assert (same & ~silent).mean() < 0.02  # both flips and half a turn


def test_the_amounts_have_the_laws_of_the_paper():
    """Frequencies, strengths or labels would differ from those of table 6 of the paper."""
    p = 0.3
    a, _ = made(p)
    share = {k: float((np.asarray(v).reshape(MANY, -1) != 0).any(1).mean()) for k, v in
             a._asdict().items()}  # fmt: skip
    wanted = dict.fromkeys(Amounts._fields, p) | {"flip": 0.5, "flip_y": p / 2, "axis": 0.5}
    wanted["turn"] = p * 3 / 4
    for name in wanted:
        assert share[name] == pytest.approx(wanted[name], abs=0.02), name
    std = lambda v: float(np.std(np.asarray(v)[np.asarray(v) != 0]))
    assert [std(v) for v in (a.scale, a.stretch, a.move)] == pytest.approx([1, 1, 1], abs=0.05)
    assert [std(v) for v in (a.rotate, a.axis)] == pytest.approx([np.pi / 3**0.5] * 2, abs=0.05)
    together = np.corrcoef(np.stack([a.scale != 0, a.rotate != 0, a.stretch != 0, a.flip != 0]))
    assert np.abs(together - np.eye(4)).max() < 0.05


@pytest.mark.parametrize("name", WIDTHS)
def test_the_labels_of_one_change_stand_alone(name):
    """A change that is switched off would still happen, or keep a place among the labels."""
    others = dict.fromkeys(WIDTHS, False)
    one = Affine(p=1.0, **others | {name: True})
    made = one.draw(jax.random.key(0), 64)
    assert all(not np.any(v) for k, v in made._asdict().items() if k not in (name, "axis"))
    told = one.labels_of(made)
    assert told.shape == (64, one.width) == (64, WIDTHS[name])
    assert np.any(np.asarray(told), axis=0).all()
    assert Affine(p=1.0, **others | {name: True, "labels": False}).width == 0


def test_randomness_is_that_of_the_key():
    x, augment = drawn(8, 6, 6, 1), jax.jit(Affine(p=0.9))
    (a, told), (b, _), (c, _) = (augment(jax.random.key(k), x) for k in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c) and told.shape == (8, 9)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("points", (2,)), ("latent", (8, 8, 3)), ("vector", (8,)), ("video", (4, 8, 8, 3))],
)
def test_what_is_no_image_is_refused(kind, shape):
    with pytest.raises(ValueError, match=r"augment: needs images of 1 or 3 channels; the items"):
        Affine().check(labelled(kind, shape))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"p=1\.5: needs 0 <= p <= 1"):
        Affine(p=1.5)
    with pytest.raises(ValueError, match=r"augment\.turn=True: needs square images"):
        Affine(turn=True).check(labelled("image", (8, 9, 1)))
    Affine(turn=True).check(labelled("image", (8, 8, 1)))
