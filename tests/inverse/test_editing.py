"""Editing: inversions that return to the image, interpolation between images, soft masks."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.arrays import expand
from diffjax.grids import uniform
from diffjax.guidance import APG, Guided, Null
from diffjax.inverse.editing import interpolate, invert, noises, slerp
from diffjax.inverse.inpainting import inpainting
from diffjax.prediction import predict
from diffjax.samplers import ancestral, ddim, dpmpp_2m, moments, sample, start_from
from diffjax.schedules import Linear
from diffjax.sde import VP

SDE = VP(Linear(), t_min=0.02)
SIZE = 6
VAR = 0.25
TIMES = uniform(SDE, 11)
TABLE = ddim(SDE, TIMES)[:-1]
NOISY = ancestral(SDE, TIMES)[:-1]
KEYS = jax.random.split(jax.random.key(0), SIZE)
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (SIZE, 4)), jnp.float32)
GAUSSIAN, CURVED, OTHER = ({"label": jnp.full(SIZE, k)} for k in range(3))


@jax.tree_util.register_static
@dataclass(frozen=True)
class Network:
    """The denoiser of N(0, 1/4) under the label 0, a curved one that mixes values under others."""

    sde = SDE

    def __call__(self, x, t, cond=None, *, key=None):
        alpha, sigma = expand(SDE.alpha(t), x), expand(SDE.sigma(t), x)
        label = expand(cond["label"], x) if cond else 1
        linear = alpha * VAR / (alpha**2 * VAR + sigma**2) * x
        curved = 0.8 * jnp.tanh(alpha * (x + 0.5 * x[:, ::-1]) + 0.6 * label - 0.9)
        return predict(SDE, x, t, jnp.where(label == 0, linear, curved))


def naive(steps: int) -> float:
    """Return the scale of N(0, 1/4) data after an explicit inversion and its way back."""
    down = uniform(SDE, steps + 1)[:-1]
    there = moments(ddim(SDE, down[::-1]), SDE, 0.0, VAR, (0.0, 1.0))
    return float(np.sqrt(moments(ddim(SDE, down), SDE, 0.0, VAR, there)[1]))


@pytest.mark.thorough
def test_the_inverse_of_gaussian_data():
    """The inverse would shrink, as that of an increasing grid does: 0.62, 0.91, 0.98 of the data
    after 10, 50 and 250 steps."""
    np.testing.assert_allclose([naive(n) for n in (10, 50, 250)], [0.624, 0.912, 0.982], atol=1e-3)
    gain = np.sqrt(moments(TABLE, SDE, 0.0, VAR, (0.0, 1.0))[1])  # the table's map is linear
    latent = invert(Network(), TABLE, IMAGES, cond=GAUSSIAN)
    np.testing.assert_allclose(gain * latent.x, IMAGES, rtol=1e-5, atol=1e-6)
    assert latent.residual.shape == (10, SIZE)


@pytest.mark.typed
def test_an_image_returns_from_its_latent():
    """Rows would be solved in a wrong order, or for another network than the table runs."""
    latent = invert(Network(), TABLE, IMAGES, cond=CURVED, iterations=20)
    back = lambda cond: sample(Network(), TABLE, latent.x, KEYS, cond=cond)
    np.testing.assert_allclose(back(CURVED), IMAGES, atol=1e-5)
    edited = np.asarray(back(OTHER))
    assert 0.05 < np.abs(edited - IMAGES).mean() < 1
    with pytest.raises(FloatingPointError, match=r"invert: row \d+ of 10, .*iterations=1,"):
        invert(Network(), TABLE, IMAGES, cond=CURVED, iterations=1)


@pytest.mark.typed
def test_noises_return_the_image_and_edit_it():
    """The noise of a row would belong to another one, or to another mean."""
    start, z = noises(Network(), NOISY, IMAGES, KEYS, cond=CURVED)
    assert z.shape == (10, SIZE, 4)
    run = lambda cond: sample(Network(), NOISY, start, KEYS, cond=cond, noise=z)
    np.testing.assert_allclose(run(CURVED), IMAGES, atol=1e-5)
    assert 0.05 < np.abs(np.asarray(run(OTHER)) - IMAGES).mean() < 1
    # The copies are independent, so consecutive noises differ from those of one path.
    assert np.asarray(z).std() > 1.05
    other, _ = noises(Network(), NOISY, IMAGES, KEYS[::-1], cond=CURVED)
    assert np.abs(np.asarray(start - other)).min() > 0


@pytest.mark.typed
def test_between_two_images():
    """The ends would be other images, or the latents between them too short."""
    second = IMAGES[::-1]
    between = interpolate(
        Network(), TABLE, IMAGES, second, np.array([0, 0.5, 1]), cond=CURVED, iterations=20
    )
    np.testing.assert_allclose(between[0], IMAGES, atol=1e-5)
    np.testing.assert_allclose(between[2], second, atol=1e-5)
    np.testing.assert_allclose(between[1], between[1][::-1], atol=1e-4)
    a, b = jnp.array([[3.0, 0.0], [1.0, 1.0]]), jnp.array([[0.0, 3.0], [2.0, 2.0]])
    middle = slerp(a, b, jnp.asarray(0.5))
    np.testing.assert_allclose(middle, [[4.5**0.5, 4.5**0.5], [1.5, 1.5]], rtol=1e-6)


@pytest.mark.typed
def test_a_soft_mask_is_image_to_image_of_each_value():
    """Kept values would change, or a strength of one half differ from that of `start_from`."""
    times = uniform(SDE, 20)
    part, x, keys = start_from(SDE, IMAGES, times, 0.5, KEYS)
    half = sample(Network(), ddim(SDE, part), x, keys, cond=CURVED)
    _, x, keys = start_from(SDE, IMAGES, times, 1.0, KEYS)  # equal noise

    def run(strength):
        guidance = inpainting(IMAGES, strength, times)
        return sample(Network(), ddim(SDE, times), x, keys, cond=CURVED, guidance=guidance)

    np.testing.assert_allclose(run(0.5), half, atol=1e-5)
    np.testing.assert_allclose(run(0.0), IMAGES, atol=1e-6)
    mask = np.array([0.0, 1.0, 0.5, 0.0])
    mixed = np.asarray(run(mask))
    np.testing.assert_allclose(mixed[:, [0, 3]], IMAGES[:, [0, 3]], atol=1e-6)
    assert (np.abs(mixed[:, 1:3] - IMAGES[:, 1:3]) > 1e-3).all()


MEMORY = Guided(Null(), APG(momentum=-0.5))
REFUSED = [
    (invert, {"table": NOISY}, "adds noise; allowed: ODE samplers"),
    (invert, {"table": ddim(SDE, TIMES)}, r"row 10 .*no inverse; allowed: .*table\[:-1\]"),
    (invert, {"table": dpmpp_2m(SDE, TIMES)[:-1]}, "uses outputs or noises of earlier rows"),
    (invert, {"iterations": 0}, "iterations=0"),
    (invert, {"tolerance": 0.0}, "tolerance=0.0"),
    (invert, {"guidance": MEMORY}, "memory of earlier rows"),
    (noises, {"table": TABLE}, "adds no noise"),
    (noises, {"table": ancestral(SDE, TIMES)}, r"row 10 of 11 adds no noise"),
    (interpolate, {"shares": np.array([0.5, 1.2])}, "shares=1.2: needs 0 <= shares <= 1"),
    (interpolate, {"other": IMAGES[:2]}, "other has the shape"),
    (inpainting, {"strength": 1.5}, "strength=1.5: needs 0 <= strength <= 1"),
    (inpainting, {"strength": np.nan}, "strength=nan: needs 0 <= strength <= 1"),
]


@pytest.mark.parametrize(("function", "changes", "message"), REFUSED)
def test_what_cannot_work_is_refused(function, changes, message):
    """Editing would run, and return another image."""
    arguments = {"denoise": Network(), "table": TABLE, "x": IMAGES, "cond": CURVED}
    more = {
        noises: {"keys": KEYS},
        interpolate: {"other": IMAGES, "shares": np.array([0.5])},
    }.get(function, {})
    if function is inpainting:
        arguments = {"x0": IMAGES, "times": TIMES}
    with pytest.raises(ValueError, match=message):
        function(**{**arguments, **more, **changes})
