"""Grids optimized for a sampler, and samples that start from noised images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiers import some

from diffjax.analytic import gaussian, gaussian_flow
from diffjax.grids import uniform
from diffjax.samplers import SAMPLERS, Refinement, optimize, refine, sample, start_from
from diffjax.samplers.tuning import error
from diffjax.schedules import Cosine, Linear
from diffjax.sde import VP, levels

pytestmark = pytest.mark.typed

MULTISTEP = ("dpmpp_2m", "unipc")
SDE, VAR = VP(Cosine(), t_max=0.995), np.geomspace(1e-2, 2, 6)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", ["ddim", "heun", *(pytest.param(n, marks=pytest.mark.thorough) for n in MULTISTEP)]
)
def test_the_grid_that_is_made_is_better_and_is_a_grid(name):
    """The reported gain would not be real."""
    plan, times = SAMPLERS[name], uniform(SDE, 7)
    made = optimize(plan, SDE, times, VAR, most=20)
    assert made.after < made.before == error(plan, SDE, times, VAR)
    assert made.after == pytest.approx(error(plan, SDE, made.times, VAR), rel=1e-12)
    assert len(made.times) == len(times) and (np.diff(made.times) < 0).all()
    np.testing.assert_array_equal(made.times[[0, -2, -1]], times[[0, -2, -1]])


def test_error_is_the_distance_of_the_laws():
    """The error would not be the distance of the two distributions.

    One row gives the posterior mean, whose distribution is known: alpha S / (alpha^2 S + sigma^2)
    x.
    """
    at = levels(SDE, np.array([SDE.t_max]))
    total = at.alpha**2 * VAR + at.sigma**2
    deviation = at.alpha * VAR / np.sqrt(total)
    expected = np.sqrt(((deviation - np.sqrt(VAR)) ** 2).sum() / VAR.sum())
    found = error(SAMPLERS["ddim"], SDE, np.array([SDE.t_max, 0.0]), VAR)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("times", "var", "match"),
    [
        ([0.9, 0.1, 0.0], VAR, "at least three above 0"),
        ([0.9, 0.5, 0.1], np.array([1.0, 0.0]), "needs positive variances"),
    ],
)
def test_what_cannot_be_optimized_is_refused_by_name(times, var, match):
    with pytest.raises(ValueError, match=match):
        optimize(SAMPLERS["ddim"], SDE, np.array(times), var)


@pytest.mark.parametrize(
    ("strength", "steps"), some([(1.0, 20), (0.5, 10), (0.01, 1)], [(0.5, 10)])
)
def test_image_to_image_begins_at_its_share_of_the_grid(strength, steps):
    """The image would have another noise level than that at which the sampler begins."""
    sde = VP(Linear())
    times, keys = uniform(sde, 20), jax.random.split(jax.random.key(0), 4000)
    x0 = jnp.full((4000, 1), 0.8)
    part, x, keys = start_from(sde, x0, times, strength, keys)
    assert len(part) == steps + 1 and part[-1] == 0
    np.testing.assert_array_equal(part, times[-steps - 1 :])
    at = levels(sde, part[:1])
    assert abs(float(x.mean()) - at.alpha * 0.8) < 5 * at.sigma / 4000**0.5
    assert float(x.std()) == pytest.approx(at.sigma[0], rel=0.05)
    made = sample(
        gaussian(jnp.zeros(1), jnp.ones(1)).denoiser(sde), SAMPLERS["ddim"](sde, part), x, keys
    )
    if steps == 1:  # hardly noised: the image itself
        assert float(jnp.abs(made - 0.8).max()) < 0.2


@pytest.mark.parametrize("strength", [0.0, 1.1, float("nan")])
def test_bad_strength_is_refused_by_name(strength):
    with pytest.raises(ValueError, match=rf"strength={strength}: needs (0 <|a finite)"):
        start_from(
            SDE,
            jnp.zeros((1, 1)),
            uniform(SDE, 5),
            strength,
            jax.random.split(jax.random.key(0), 1),
        )


def test_there_and_back_by_inversion():
    """An image would not return from its latent. The error falls with the order."""
    sde, x0 = VP(Linear(), t_min=0.01), jnp.linspace(-2, 2, 8)[:, None]
    denoise = gaussian(jnp.full(1, 0.5), jnp.full(1, 0.3)).denoiser(sde)
    keys = jax.random.split(jax.random.key(0), 8)
    errors = {}
    for name in ("ddim", "heun", "rk4"):
        times = uniform(sde, 40)[:-1]
        latent = sample(denoise, SAMPLERS[name](sde, times[::-1]), x0, keys)
        back = sample(denoise, SAMPLERS[name](sde, times), latent, keys)
        errors[name] = float(jnp.abs(back - x0).max())
    assert errors["rk4"] < 0.1 * errors["heun"] and errors["heun"] < 0.1 * errors["ddim"]
    assert errors["ddim"] < 0.5


# refine: steps for a wanted error.


def refined(name, wanted, first=5, most=640):
    """Return the result of `refine` on Gaussian data, and the true error with as many steps."""
    sde, x = VP(Linear(), t_min=0.02, t_max=0.9), np.linspace(-2, 2, 9)[:, None]
    mean, var = jnp.full(1, 0.7), jnp.full(1, 0.3)
    denoise, keys = gaussian(mean, var).denoiser(sde), jax.random.split(jax.random.key(0), 9)
    t, s = jnp.full(9, 0.9), jnp.full(9, 0.02)
    exact = np.asarray(gaussian_flow(sde, mean, var, jnp.asarray(x), t, s))
    made = {}

    def run(steps):
        lam = np.linspace(*levels(sde, np.array([0.9, 0.02])).lam, steps + 1)
        times = np.array(sde.inverse(jnp.asarray(2 * lam)))
        times[[0, -1]] = 0.9, 0.02
        table = SAMPLERS[name](sde, times).pad(160)
        made[steps] = np.asarray(sample(denoise, table, jnp.asarray(x), keys))
        return made[steps]

    found = list(refine(run, SAMPLERS[name].order(), wanted, first, most))
    true = [float(np.sqrt(np.mean((made[f.steps] - exact) ** 2))) for f in found]
    return found, true


@pytest.mark.parametrize("name", some(["ddim", "heun", "dpmpp_2m"], ["heun"]))
def test_the_estimated_error_is_the_true_one(name, x64):
    """The recommended number of steps would have another error than the requested one."""
    found, true = refined(name, 1e-9, first=10, most=40)
    print(name, [f"{f.steps}: {f.error:.2e}, true {e:.2e}" for f, e in zip(found, true)])  # noqa: B905
    assert [f.steps for f in found] == [10, 20, 40]
    for estimate, error_ in zip(found[1:], true[1:], strict=True):
        assert 1 / 1.5 < estimate.error / error_ < 1.5


def test_refining_stops_at_the_wanted_error_or_at_the_most_steps():
    """Steps would be doubled without end, or one time too often."""
    asked = []

    def first_order(steps):
        asked.append(steps)
        return np.full(3, 1.0 / steps)  # 1 / n off 0: the estimate is exact

    found = list(refine(first_order, 1, 0.03, first=5, most=640))
    assert [f.steps for f in found] == [5, 10, 20, 40] and asked == [5, 10, 20, 40, 80]
    np.testing.assert_allclose([f.error for f in found], [1 / f.steps for f in found])
    assert isinstance(found[0], Refinement)
    for most, steps in ((19, [5, 10]), (20, [5, 10, 20]), (5, [5])):
        assert [f.steps for f in refine(first_order, 1, 1e-9, 5, most)] == steps
    second = list(refine(lambda n: np.full(3, 4.0 / n**2), 2, 1e-3, first=8))
    np.testing.assert_allclose([f.error for f in second], [4 / f.steps**2 for f in second])
    assert second[-1].steps == 64
