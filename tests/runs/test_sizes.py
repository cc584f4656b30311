"""Samples of another size than that of training."""

import numpy as np
import pytest
from redrawn import redrawn

from diffjax import builder
from diffjax.config import ConfigError, load
from diffjax.nets.positions import sincos
from diffjax.runs.sizes import sized

UNET = {"name": "unet", "channels": 8, "multipliers": (1, 1), "blocks": 1, "attention": (4,)}
DIT = {"name": "dit", "width": 8, "depth": 1, "heads": 2}


def trained(network, config="digits_vp"):
    made = load(config)
    return redrawn(builder.experiment(made | {"network": network}))


@pytest.fixture(scope="module")
def unet():
    return trained(UNET | {"heads": 2})


def test_positions_cover_the_range_of_training():
    """Published PixArt would see patches further away than any of its training."""
    h, w, h0, scale = 6, 4, 3, 2.0
    ours = np.asarray(sincos((h, w), 8, scale, (h0, h0))).reshape(h, w, 8)
    frequency = 1e4 ** -(np.arange(2) / 2)  # of diffusers: index / (n / base) / scale
    for axis, n, features in ((1, w, slice(0, 4)), (0, h, slice(4, 8))):
        angle = np.outer(np.arange(n) / (n / h0) / scale, frequency)
        row = ours[0, :, features] if axis else ours[:, 0, features]
        np.testing.assert_allclose(
            row, np.concatenate([np.sin(angle), np.cos(angle)], 1), atol=1e-6
        )


@pytest.mark.parametrize("network", [UNET | {"heads": 2}, DIT, DIT | {"positions": "rotary"}])
def test_the_size_of_training_changes_nothing(network):
    """A network would be another one once a size is stated."""
    made = trained(network)
    e, again = made.experiment, sized(made, 8).experiment
    assert again.form == e.form
    x, cond = np.ones((1, 8, 8, 1), np.float32), {"label": np.zeros(1, np.int32)}
    outs = [t.denoise(x, np.full(1, 0.5, np.float32), cond).x0 for t in (made, sized(made, 8))]
    np.testing.assert_array_equal(*outs)


def test_attention_stays_on_its_levels(unet):
    """A network would lose its attention, and with it the meaning of its parameters."""
    large = sized(unet, (16, 24))
    assert large.config["network"]["attention"] == (8,)
    samples = large.sample(1, steps=1)
    assert samples.x.shape == (1, 16, 24, 1)
    again = unet.sample(1, size=(16, 24), steps=1)
    np.testing.assert_array_equal(samples.x, again.x)


def test_what_has_no_other_size_is_refused_by_name(unet):
    """A user would get an error of a layer, or samples of noise."""
    for size, more, line in (
        (9, {}, r"--size=9x9: .*needs sides that 2 divides"),
        ((8, 0), {}, r"--size: width=0: needs width >= 1"),
        ((8, 8, 8), {}, r"--size: \(8, 8, 8\): needs height and width"),
        (
            16,
            {"start": np.zeros((8, 8, 1), np.uint8)},
            r"--size=16x16: --from has items of its own",
        ),
    ):
        with pytest.raises(ConfigError, match=line):
            unet.job(size=size, **more)
    table = trained(DIT | {"positions": "learned", "side": 6})
    assert sized(table, (12, 4)).experiment.form.shape == (12, 4, 1)
    with pytest.raises(ConfigError, match=r"learned 6 positions along .*needs sides up to 12"):
        table.job(size=14)
    points = redrawn(builder.experiment(load("moons_vp")))
    with pytest.raises(ConfigError, match=r"--size=8: points items \(2,\); needs images"):
        points.job(size=8)
    other = trained(
        {
            "name": "edm2",
            "channels": 8,
            "multipliers": (1,),
            "blocks": 1,
            "attention": (),
            "head_channels": 4,
        }
    )
    with pytest.raises(ConfigError, match="the network has a fixed size"):
        other.job(size=16)


CLOUDS = {"name": "dit", "width": 8, "depth": 1, "heads": 2, "patch": 1, "positions": "none"}


def test_clouds_have_any_number_of_points():
    """A network of points without positions would be tied to the number of training."""
    made = trained(CLOUDS | {"waves": 2}, "dw4")
    many = sized(made, (12,))
    assert many.experiment.form.shape == (12, 2)
    x = made.sample(2, size=12, steps=2).x
    assert x.shape == (2, 12, 2) and np.isfinite(x).all()
    np.testing.assert_allclose(x.mean(1), 0, atol=1e-5)
    np.testing.assert_array_equal(sized(made, 4).sample(1, steps=2).x, made.sample(1, steps=2).x)


def test_clouds_without_another_number_of_points_are_refused():
    """A network of DW4 would sample twelve particles, of which it knows nothing."""
    made = trained(CLOUDS, "dw4")
    for size, line in (((3, 4), "needs points"), (0, "points=0: needs points >= 1")):
        with pytest.raises(ConfigError, match=f"--size: .*{line}"):
            made.job(size=size)
    with pytest.raises(
        ConfigError, match=r"--size=9: positions='sincos', patch=1: the network has a fixed size"
    ):
        trained(CLOUDS | {"positions": "sincos"}, "dw4").job(size=9)
