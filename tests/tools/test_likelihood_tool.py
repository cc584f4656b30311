"""Pictures of the density that a network has learned."""

import argparse
import dataclasses
import math
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import diffjax
from diffjax import cli
from diffjax.tools import likelihood as tool


def test_a_density_in_the_plane_is_drawn_with_its_integral(toy, small, capsys, monkeypatch):
    """A heat map would not show the density: with v = 0 it is that of N(0, I)."""
    e = diffjax.load(toy).experiment
    denoise = dataclasses.replace(small.denoise, params={"network": {"c": jnp.zeros(())}})
    normal = {"denoise": denoise, "form": e.form, "reading": e.reading, "config": e.config}
    normal["source"] = e.source("test")
    monkeypatch.setattr(tool, "POINTS", 60)
    drawn = tool.density(dataclasses.replace(small, **normal), argparse.Namespace(num=9, steps=10))
    assert drawn.shape == (500, 600, 3)
    total = float(capsys.readouterr().out.partition("integral ")[2])
    assert total == pytest.approx(math.erf(3 / 2**0.5) ** 2, abs=1e-3)


def test_the_way_between_latents_keeps_their_length():
    """Interpolations would be decoded from latents of a length that no noise has."""
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.normal(size=(3, 4, 4, 1)), jnp.float32) for _ in range(2))
    norm = lambda x: np.linalg.norm(np.asarray(x).reshape(3, -1), axis=1)
    np.testing.assert_allclose(tool.slerp(a, b, 0.0), a, atol=1e-5)
    np.testing.assert_allclose(tool.slerp(a, b, 1.0), b, atol=1e-5)
    np.testing.assert_allclose(norm(tool.slerp(a, b, 0.5)), (norm(a) + norm(b)) / 2, rtol=1e-4)


@pytest.mark.typed
def test_images_are_ranked_mapped_and_joined(small, capsys):
    """The order, the map of an image, or its bound would belong to another image."""
    given = argparse.Namespace(num=3, steps=4, metric="bpd:num=8,steps=4")
    assert tool.rank(small, given).shape[-1] == 3
    assert tool.maps(small, given).shape[-1] == 3
    assert tool.interpolate(small, given).shape[-1] == 3
    assert "grey levels (RMS)" in capsys.readouterr().out
    first, second = tool.pairs(small, 5)
    label = small.source.labels()
    assert (label[first] == label[second]).all() and not set(first) & set(second)


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["map"], "map: needs images, not points (2,)"),
        (["density", "--out=a.jpg"], "--out=a.jpg"),
        (["density", "--split=valid"], "--split: invalid choice: 'valid'"),
        (["density", "--data=digits"], "items of shape (8, 8, 1)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(toy, flags, part, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["likelihood", *flags, f"--workdir={toy}"])
    with pytest.raises(SystemExit) as ended:
        cli.main(tool.run)
    assert ended.value.code == 2
    assert part in capsys.readouterr().err
