"""Denoisers in tiles: equality with the whole, seams, memory and refusals."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import nets, parameterization, schedules, sde
from diffjax.denoiser import Denoiser, Model
from diffjax.generation import Tiled
from diffjax.generation.tiled import weights

FLOW = sde.Flow(schedules.Logit())
SIDES = (32, 32)


@dataclass(frozen=True)
class Local:
    """A network whose output depends on `reach` pixels around, on a map, and on the time."""

    reach: int = 2

    def __call__(self, params, x, c_noise, cond, *, key=None):
        size = 2 * self.reach + 1
        kernel = jnp.asarray(np.random.default_rng(0).normal(size=(size, size, 2, 1)), x.dtype)
        both = jnp.concatenate([x, cond["low"]], -1)
        dims = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(both, kernel, (1, 1), "SAME", dimension_numbers=dims)
        return jnp.sin(h + c_noise[:, None, None, None]) + params["shift"]


@dataclass(frozen=True)
class Global:
    """A network whose output is the mean of all that it sees."""

    def __call__(self, params, x, c_noise, cond, *, key=None):
        return jnp.broadcast_to(x.mean((1, 2, 3), keepdims=True), x.shape)


def denoiser(apply):
    network = nets.Network(lambda *shapes: {}, apply)
    model = Model(FLOW, parameterization.Velocity(), network)
    return Denoiser(model, {"network": {"shift": jnp.float32(0.1)}})


def inputs(*shape):
    rng = np.random.default_rng(1)
    x, low = rng.normal(size=(2, 3, *shape, 1)).astype(np.float32)
    return jnp.asarray(x), jnp.array([0.2, 0.5, 0.8]), {"low": jnp.asarray(low)}


@pytest.mark.parametrize("shape", [(32, 32), (56, 80), (33, 100), (57, 32)])
def test_tiles_equal_the_whole_for_a_local_denoiser(shape):
    """Seams would be visible in images larger than those of training."""
    x, t, cond = inputs(*shape)
    whole = denoiser(Local())(x, t, cond)
    tiles = Tiled(denoiser(Local()), SIDES, maps=("low",))(x, t, cond)
    for ours, theirs in zip(tiles[:3], whole[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert tiles.log_var is None


def test_a_receptive_field_beyond_the_margin_shows():
    """The test above would pass for tiles that see everything."""
    x, t, cond = inputs(56, 80)
    reach = denoiser(Local(reach=6))
    difference = np.abs(Tiled(reach, SIDES, maps=("low",))(x, t, cond).x0 - reach(x, t, cond).x0)
    assert difference.max() > 0.1


def test_no_seam_is_larger_than_the_ramp_between_two_tiles():
    """A border of tiles would be a step in the image, where the network sees far."""
    x, t, _ = inputs(32, 200)
    output = np.asarray(Tiled(denoiser(Global()), SIDES)(x, t, {}).output)[:, 0, :, 0]
    steps, range_ = np.abs(np.diff(output, axis=1)).max(), np.ptp(output, axis=1).max()
    assert 0 < steps < range_ / 3.9  # the ramp has four pixels


@pytest.mark.parametrize("side", [16, 32, 64])
def test_weights_of_neighbours_have_the_sum_1(side):
    """The prediction would be darker where tiles overlap."""
    last = side - side // 4
    total = np.zeros(last + side)
    total[:side] += weights(0, side, last + side)
    total[last:] += weights(last, side, last + side)
    np.testing.assert_allclose(total, 1)


def test_memory_is_that_of_one_tile():
    """An image of any size would need the memory of all of its tiles at once."""

    def peak(width):
        tiled = Tiled(denoiser(Wide()), SIDES)
        x = jax.ShapeDtypeStruct((1, 32, width, 1), jnp.float32)
        run = jax.jit(lambda x: tiled(x, jnp.full(1, 0.5), {}).x0)
        return run.lower(x).compile().memory_analysis().temp_size_in_bytes

    few, many = peak(56), peak(536)
    assert many - few < 40 * 4 * 32 * (536 - 56)  # arrays of the image, not of 64 channels


@dataclass(frozen=True)
class Wide:
    """A network with 512 channels inside."""

    def __call__(self, params, x, c_noise, cond, *, key=None):
        kernel = jnp.ones((3, 3, 1, 512), x.dtype) / 9
        dims = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dims)
        return jnp.tanh(h).mean(-1, keepdims=True)


def test_items_smaller_than_a_tile_are_refused():
    """The network would be called with sides that it never saw."""
    x, t, cond = inputs(32, 16)
    with pytest.raises(ValueError, match="smaller than tiles of the sides \\(32, 32\\)"):
        Tiled(denoiser(Local()), SIDES, maps=("low",))(x, t, cond)
