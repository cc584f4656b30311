"""Moments in parts: batches, devices and hosts must give what one pass over all items gives."""

import jax
import numpy as np
import pytest

from diffjax.devices import mesh
from diffjax.evaluation.gaussian import distance, gaussian
from diffjax.evaluation.moments import merged, moments
from diffjax.features import extractors

pytestmark = pytest.mark.typed


@pytest.mark.parametrize("offset", [0.0, 1e5])
@pytest.mark.parametrize("parts", [1, 3, 50])
def test_merged_parts_are_the_moments_of_all(parts, offset):
    """FID would depend on the batch size, or lose digits where the mean is far from 0."""
    x = np.random.default_rng(0).normal(size=(500, 6)) @ np.triu(np.ones((6, 6))) + offset
    found = merged(moments(part) for part in np.array_split(x, parts))
    assert found.count == 500
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(x.T), rtol=1e-9)


def test_blocks_of_float32_are_summed_in_float64(monkeypatch):
    """Float32 sums would lose the digits that distinguish two good models."""
    x = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32) + 100
    monkeypatch.setattr("diffjax.evaluation.moments.BLOCK", 64)
    np.testing.assert_allclose(moments(x).covariance, np.cov(x.T.astype(np.float64)), rtol=1e-10)


def test_one_device_and_eight_agree(monkeypatch):
    """The FID of the same samples would depend on the machine."""
    weight = jax.random.normal(jax.random.key(0), (12, 5))
    x = np.random.default_rng(0).integers(0, 256, (100, 2, 2, 3), np.uint8)
    apply = lambda p, x: {"pool": jax.nn.gelu(x.reshape(len(x), -1) / 255.0 @ p["w"])}
    found = []
    for devices in (1, 8):
        layout = mesh.layout(jax.devices()[:devices])
        monkeypatch.setattr(extractors, "layout", lambda layout=layout: layout)
        seen = extractors.network("random", {"w": weight}, apply, "")
        found.append(moments(extractors.extract(seen, x, batch_size=16)["pool"]))
    law = gaussian(np.zeros(5), np.eye(5))
    one, eight = (distance(gaussian(m.mean, m.covariance), law) for m in found)
    assert one == pytest.approx(eight, rel=1e-6)
    most = np.abs(found[0].covariance).max()
    np.testing.assert_allclose(found[0].mean, found[1].mean, rtol=1e-6)
    np.testing.assert_allclose(found[0].covariance, found[1].covariance, atol=1e-6 * most)
