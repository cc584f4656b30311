"""Operators: adjoints, spectra, closed forms and refusals; measurements and refusals."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from problems import SHAPE, catalogue

from diffjax.inverse import (
    OPERATORS,
    Blur,
    Function,
    Mask,
    Matrix,
    Measurement,
    Scale,
    Spectral,
    adjoint,
    measured,
)
from diffjax.inverse.operators.base import Operator

pytestmark = pytest.mark.usefixtures("x64")


def test_adjoints_and_spectra_of_the_whole_catalogue():
    """<A x, y> would differ from <x, A^T y>, or f(A A^T) be a function of another matrix."""
    rng = np.random.default_rng(0)
    operators = {k: v for k, v in catalogue().items() if v[0].linear}
    extra = {
        "scale": (Scale(jnp.asarray(rng.uniform(0.5, 2, (1, 4)))), (4,)),
        "masks": (Mask(jnp.asarray(rng.random((2, 4, 4, 1)) < 0.5)), (4, 4, 3)),
        "kernels": (Blur(jnp.asarray(rng.random((2, 4, 5, 1)))), (4, 5, 2)),
    }
    operators |= extra
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape))
    xs = {k: draw(2, *shape) for k, (_, shape) in operators.items()}

    @jax.jit
    def both(operators, xs):
        out = {}
        for k, operator in operators.items():
            seen = operator(xs[k])
            y = jnp.sin(3 * seen + 1)
            back = adjoint(operator, xs[k])
            products = (seen * y).sum(), (xs[k] * back(y)).sum()
            spectra = ()
            if isinstance(operator, Spectral):
                root = lambda v, f=operator.gram: f(v, jnp.sqrt)
                spectra = operator(back(y)), operator.gram(y, lambda s: s), root(root(y))
            out[k] = products, spectra
        return out

    for name, (products, spectra) in both({k: v[0] for k, v in operators.items()}, xs).items():
        np.testing.assert_allclose(*products, rtol=1e-10, err_msg=name)
        assert bool(spectra) == (name not in ("bicubic", "projections")), name
        for other in spectra[1:]:
            np.testing.assert_allclose(other, spectra[0], atol=1e-10, err_msg=name)


def test_every_operator_treats_items_alone_and_keeps_the_type():
    """A sample would depend on its batch, or float32 data become float64."""
    rng = np.random.default_rng(1)
    operators = {name: operator for name, (operator, _) in catalogue().items()}
    draw = lambda shape: jnp.asarray(rng.uniform(-1, 1, (2, *shape)), jnp.float32)
    xs = {name: draw(shape) for name, (_, shape) in catalogue().items()}
    seen = jax.jit(lambda f, xs: {k: (f[k](x), f[k](x[:1])) for k, x in xs.items()})(operators, xs)
    for name, (several, alone) in seen.items():
        assert isinstance(operators[name], Operator)
        assert several.dtype == jnp.float32, name
        np.testing.assert_allclose(several[:1], alone, atol=1e-6, err_msg=name)


def test_closed_forms():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    shifted = np.zeros((1, 4, 4, 1))
    shifted[0, 1] = [[1], [0], [0], [0]]
    average, still = OPERATORS["average"]((4, 4, 1)), OPERATORS["motion_blur"]((4, 4, 1), 1.0)
    whole = OPERATORS["hadamard"]((8,), share=1.0)
    seen = jax.jit(lambda: (average(x), Blur(shifted)(x), still(x), whole(jnp.eye(8))))()
    assert seen[0].ravel().tolist() == [2.5, 4.5, 10.5, 12.5]
    np.testing.assert_allclose(seen[1], np.roll(x, 1, 1), atol=1e-12)
    np.testing.assert_allclose(seen[2], x, atol=1e-12)
    matrix = np.asarray(seen[3])
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(8), atol=1e-12)
    np.testing.assert_allclose(abs(matrix), 8**-0.5, atol=1e-12)
    for name in ("gaussian_blur", "motion_blur"):
        assert np.sum(OPERATORS[name](SHAPE).kernel) == pytest.approx(1)
    steps = np.asarray(OPERATORS["motion_blur"]((4, 4, 1), 3.0, 90.0).kernel)[0, :, :, 0]
    assert steps[:, 1:].max() < 1e-12 and steps[1, 0] == pytest.approx(steps[3, 0])


def test_masks_of_several_items_differ_and_do_not_depend_on_the_others():
    several = OPERATORS["pixels"](SHAPE, share=0.5, seed=[4, 5])
    alone = OPERATORS["pixels"](SHAPE, share=0.5, seed=5)
    assert (several.keep[1] == alone.keep[0]).all()
    assert (several.keep[0] != several.keep[1]).any()


def test_jpeg_is_that_of_pillow_up_to_rounding_of_pixels():
    """Quantisation tables, transform or scale would differ from those of JPEG."""
    rng = np.random.default_rng(0)
    smooth = 128 + 100 * np.sin(np.arange(16)[:, None] / 3 + np.arange(24)[None] / 5)
    grey = (smooth + rng.normal(0, 10, smooth.shape)).clip(0, 255).astype(np.uint8)
    for quality in (10, 50, 90):
        Image.fromarray(grey).save(stream := io.BytesIO(), "JPEG", quality=quality)
        theirs = np.asarray(Image.open(stream), float)
        # Pillow's pixels are centred at 128, ours at 127.5.
        x = jnp.asarray((grey[None, :, :, None] - 128.0) / 127.5)
        ours = OPERATORS["jpeg"]((16, 24, 1), quality)(x)[0, :, :, 0] * 127.5 + 128
        # Its cosine transform is one of integers, so single coefficients round otherwise.
        away = abs(np.clip(ours, 0, 255) - theirs)
        assert away.max() < 2 and away.mean() < 0.35


def test_nonlinear_operators_have_the_derivatives_that_they_state():
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, *SHAPE)))
    jpeg, phase = OPERATORS["jpeg"](SHAPE), OPERATORS["phase"](SHAPE, oversample=2.0)

    @jax.jit
    def seen(x, v):
        return jax.jvp(jpeg, (x,), (v,)), jax.jvp(phase, (0 * x,), (v,)), phase(x)

    (value, slope), at_zero, magnitudes = seen(x, v := jnp.sin(x))
    np.testing.assert_allclose(slope, v, atol=1e-12)
    assert abs(value - x).max() > 0.05
    assert not np.any(at_zero)
    assert magnitudes.shape == (1, 12, 12, 3)
    assert np.sum(magnitudes**2) == pytest.approx(np.sum(x**2))  # Parseval


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OPERATORS["box"](SHAPE, size=0.9), "top=0.25: needs 0 <= top <= 0.1"),
        (lambda: OPERATORS["half"](SHAPE, "up"), "side='up': unknown; known: 'left'"),
        (lambda: OPERATORS["pixels"](SHAPE, share=2), "share=2: needs 0 <= share <= 1"),
        (lambda: OPERATORS["grey"]((8, 8, 1)), r"needs images \(H, W, 3\)"),
        (lambda: OPERATORS["grey"](SHAPE, "sum"), "weights='sum': unknown; known: 'mean', 'luma'"),
        (lambda: OPERATORS["average"](SHAPE, 3), r"factor=3: .*allowed: \[1, 2, 4, 8\]"),
        (lambda: OPERATORS["bicubic"]((8,)), r"bicubic of items \(8,\)"),
        (lambda: OPERATORS["gaussian_blur"](SHAPE, 0.0), "std=0.0: needs 0 < std"),
        (lambda: OPERATORS["motion_blur"](SHAPE, 9.0), "length=9.0: needs 1 <= length <= 8"),
        (lambda: OPERATORS["hadamard"](SHAPE), "needs 2\\^k values in an item, not 192"),
        (lambda: OPERATORS["projections"](SHAPE, share=0.0), "share=0.0: needs 0 < share <= 1"),
        (lambda: OPERATORS["phase"](SHAPE, -1.0), "oversample=-1.0: needs 0 <= oversample"),
        (lambda: OPERATORS["jpeg"]((12, 8, 3)), "factor=8: does not divide"),
        (lambda: OPERATORS["jpeg"](SHAPE, 101), "quality=101: needs 1 <= quality <= 100"),
        (lambda: adjoint(Function(jnp.exp), jnp.ones((1, 2))), "Function is not linear"),
        (lambda: Mask(jnp.ones((2, 3), bool))(jnp.ones((3, 3))), "keep of 2 items beside 3"),
        (lambda: Measurement(jnp.ones((1, 2)), Scale(), -0.1), "std=-0.1: needs std >= 0"),
        (lambda: Measurement(jnp.ones((1, 2)), Scale(), np.inf), "std=inf: needs std >= 0"),
        (lambda: Measurement(jnp.ones((2, 2)), Scale(), jnp.ones(3)), r"std \(3,\): needs"),
        (lambda: Measurement(jnp.ones((1, 2)), None, 0.1), "operator=None: needs an instance"),
        (lambda: Measurement(jnp.ones((1, 2), int), Scale(), 0.1), "y of type int64: needs floats"),
        (
            lambda: Measurement(jnp.ones((2, 2)), Scale()).check(jnp.ones((3, 2))),
            r"y \(2, 2\): Scale maps samples \(3, 2\) to \(3, 2\); allowed: \(3, 2\), \(1, 2\)",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_simulated_measurements_have_the_noise_of_their_own_key():
    keys, std = jax.random.split(jax.random.key(0), 4000), np.linspace(0, 2, 4000)
    draw = jax.jit(
        lambda keys, std: measured(jnp.ones((4000, 2)), Matrix(jnp.ones((1, 2))), std, keys)
    )
    y = np.asarray(draw(keys, std).y)
    away = (y[:, 0] - 2) / np.where(std > 0, std, 1)
    assert away[0] == 0 and away.std() == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(draw(keys[::-1], std[::-1]).y, y[::-1])
