"""A Gaussian video, whose frames are lanes: three orders, and a continuation, approach its law."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import samplers
from diffjax.analytic import LaneDenoiser
from diffjax.grids import uniform
from diffjax.samplers import affine_moments, lanes
from diffjax.samplers.lanes import autoregressive, full, pyramid, times_of
from diffjax.schedules import Cosine
from diffjax.sde import VP, levels

SDE = VP(Cosine(), t_min=1e-6, t_max=0.999)
FRAMES, SHAPE = 4, (4, 1, 2, 1)
ORDERS = {
    "full": full,
    "pyramid": functools.partial(pyramid, delay=3),
    "autoregressive": autoregressive,
}


def law():
    """Return the covariance of a video: AR(1) over frames times that of two pixels."""
    place = np.arange(FRAMES)
    time = 0.8 ** abs(place[:, None] - place)
    return np.kron(time, np.array([[1.0, 0.5], [0.5, 1.0]]))


def divergence(found, exact):
    """Return KL(N(0, found) || N(0, exact)) in nats."""
    inside = np.trace(np.linalg.solve(exact, found)) - len(exact)
    return 0.5 * (inside + np.linalg.slogdet(exact)[1] - np.linalg.slogdet(found)[1])


def sampled(order, steps, known=0):
    """Return the joint covariance of samples whose first `known` frames are real ones."""
    cov, frame = law(), np.arange(FRAMES)
    times = times_of(uniform(SDE, steps), ORDERS[order], frame, frame < known)
    table = lanes(samplers.ancestral, SDE, times)
    spread = np.repeat(levels(SDE, table.t[0]).sigma, 2)
    start = np.diag(spread**2)
    start[: 2 * known] = start[:, : 2 * known] = 0
    start[: 2 * known, : 2 * known] = cov[: 2 * known, : 2 * known]
    with jax.enable_x64(True):
        denoise = LaneDenoiser(SDE, jnp.zeros(SHAPE), jnp.asarray(cov))
        begin = (np.zeros(len(cov)), start)
        return affine_moments(table, denoise, SHAPE, start=begin)[1]


@pytest.mark.parametrize("known", [0, 2])
@pytest.mark.parametrize("order", ORDERS)
def test_each_order_of_frames_approaches_the_law_of_the_video(order, known):
    """A network that is exact would not make videos of the data, or not the right future."""
    far, near = (divergence(sampled(order, steps, known), law()) for steps in (10, 80))
    assert 0 < near < 0.1 * far and near < 0.03
