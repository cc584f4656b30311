"""All combinations of schedule, frame, parameterization, draw of t and weight.

Some minutes, so only on demand: pytest -m exhaustive. The pairs are tested everywhere else.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.denoiser import Model
from diffjax.draws import DRAWS
from diffjax.nets import Network
from diffjax.objectives import Context, Denoising
from diffjax.parameterization import PARAMETERIZATIONS
from diffjax.schedules import SCHEDULES
from diffjax.sde import SDES
from diffjax.weights import WEIGHTS

REFUSALS = ("sigma is infinite at t_max", "alpha is 0 at t_max", "is infinite at t_max", "is -inf")


def init(key, x, c_noise, cond):
    return {}


def apply(params, x, c_noise, cond, *, key=None):
    return 0.1 * x


def allowed(make):
    """Return the object, or None where it is refused for one of the known reasons."""
    try:
        return make()
    except ValueError as error:
        if not any(reason in str(error) for reason in REFUSALS):
            raise
        return None


@pytest.mark.exhaustive
@pytest.mark.parametrize("frame", SDES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_all_of_them_together(schedule, frame):
    """A combination would be neither refused by name nor finite."""
    seen = 0
    for t_max, name, draw in itertools.product((1.0, 0.98), PARAMETERIZATIONS, DRAWS):
        sde = allowed(lambda t_max=t_max: SDES[frame](SCHEDULES[schedule](), t_max=t_max))
        model = sde and allowed(lambda name=name, sde=sde: build(name, sde))
        if not model:
            assert t_max == 1
            continue
        loss = Denoising(draw=DRAWS[draw]())
        if allowed(lambda loss=loss, model=model: loss.draw.check(model.sde) or loss) is None:
            assert t_max == 1
            continue
        key, batch = jax.random.key(0), {"x": jnp.linspace(-1, 1, 6).reshape(3, 2)}
        value, _, _ = loss(Context(model, {"network": {}}, batch, key, loss.draw.init()))
        assert np.isfinite(value)
        t, _ = loss.draw(model.sde, jnp.array([0.0, 0.3, 0.999]), loss.draw.init())
        for weight in WEIGHTS.values():
            w = np.asarray(weight(model, t))
            assert (w >= 0).all() and np.isfinite(w).all(), (name, draw, weight)
            seen += 1
    assert seen >= len(PARAMETERIZATIONS) * len(DRAWS) * len(WEIGHTS)


def build(name, sde):
    return Model(sde, PARAMETERIZATIONS[name](), Network(init, apply))
