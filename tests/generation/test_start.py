"""Image-to-image sampling: samples that start from items."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import analytic
from diffjax.arrays import keys_at, stream
from diffjax.generation import Generation
from diffjax.grids import uniform
from diffjax.guidance import Conditional
from diffjax.samplers import ancestral, ddim, moments, sample, start_from
from diffjax.samplers.plan import Plan
from diffjax.samplers.starts import last_part
from diffjax.schedules import Linear
from diffjax.sde import VP

SDE, SHAPE, NUM, TIMES = VP(Linear()), (2,), 1000, uniform(VP(Linear()), 100)
MEAN, VAR = np.float32([0.7, -0.4]), np.float32([0.25, 0.5])
FAR = np.full((NUM, 2), 3.0, np.float32)
"""Items that are not of the data."""


def generation(x0: np.ndarray, strength: float, sampler=ancestral, **more) -> Generation:
    denoise = analytic.gaussian(jnp.asarray(MEAN), jnp.asarray(VAR)).denoiser(SDE)
    plan = Plan(sampler(SDE, last_part(TIMES, strength)), Conditional())
    return Generation(denoise, plan, 3, NUM, SHAPE, x0=x0, batch_size=NUM, **more)


def started(*args, **more) -> np.ndarray:
    return np.concatenate([*generation(*args, **more)])


def test_strength_1_gives_the_law_of_the_data():
    """Samples would depend on their starting image, although none of it remains."""
    x, table = started(FAR, 1.0, ddim), ddim(SDE, TIMES)
    left = 3 * float(SDE.alpha(jnp.asarray(TIMES[0])))
    for k in range(2):
        exact = moments(table, SDE, mean=MEAN[k], var=VAR[k])  # out of 100 rows
        assert abs(exact[0] - MEAN[k]) < 0.02
        assert abs(x[:, k].mean() - exact[0]) < 4 * np.sqrt(VAR[k] / NUM) + left
        np.testing.assert_allclose(exact[1], VAR[k], rtol=0.06)
        np.testing.assert_allclose(x[:, k].var(), exact[1], rtol=4 * np.sqrt(2 / NUM))


def test_they_are_those_of_start_from_whatever_the_batch():
    """The command would differ from the library function `start_from`.

    Previews would start from the prior, or a sample depend on its batch.
    """
    x0 = np.random.default_rng(0).normal(size=(NUM, 2)).astype(np.float32)
    keys = keys_at(stream(3, "sample"), jnp.arange(NUM))
    part, x, keys = start_from(SDE, jnp.asarray(x0), TIMES, 0.3, keys)
    denoise = analytic.gaussian(jnp.asarray(MEAN), jnp.asarray(VAR)).denoiser(SDE)
    by_hand = sample(denoise, ancestral(SDE, part), x, keys)
    assert len(part) == 31
    whole = started(x0, 0.3)
    np.testing.assert_allclose(whole, by_hand, atol=1e-5)
    np.testing.assert_array_equal(started(x0, 0.3, preview=lambda seen: None, every=20), whole)
    near, far = started(FAR, 0.3), started(FAR, 0.05)
    assert np.abs(far - 3).mean() < 0.3 < np.abs(near - 3).mean()  # a lower strength keeps more


def test_items_of_another_number_or_shape_are_refused():
    """Items of another number or shape would be broadcast."""
    with pytest.raises(ValueError, match=r"x0: 3 values for 1000 samples"):
        generation(FAR[:3], 0.5)
    with pytest.raises(ValueError, match=r"x0: the items have the shape \(1,\); needs \(2,\)"):
        generation(FAR[:, :1], 0.5)
