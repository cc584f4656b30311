"""Code that a new Python or JAX would break first: imports, catalogues, training, sampling."""

import importlib
import inspect
import pkgutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ended

import diffjax
from diffjax import builder, grids, samplers, schedules
from diffjax.data import SOURCES
from diffjax.nets import NETWORKS
from diffjax.parameterization import PARAMETERIZATIONS
from diffjax.sde import SDES, VP
from diffjax.weights import WEIGHTS

pytestmark = pytest.mark.newest
NAMES = [
    module.name
    for module in pkgutil.walk_packages(diffjax.__path__, "diffjax.")
    if not module.name.endswith("__main__")
]
vp = VP(schedules.Cosine(), t_min=1e-3, t_max=0.99)


def test_every_module_is_imported():
    """A moved import of a new release would stop every command that needs it."""
    for name in NAMES:
        importlib.import_module(name)
    assert len(NAMES) > 100


def test_every_entry_of_the_catalogues_takes_the_arguments_of_its_signature():
    """`inspect` and annotations, read at run time, would differ between versions of Python."""
    listing = builder.listing()
    for table in (samplers.SAMPLERS, grids.GRIDS, SOURCES, NETWORKS, WEIGHTS, SDES):
        assert all(inspect.signature(getattr(entry, "plan", entry)) for entry in table.values())
    assert all(name in listing for name in (*samplers.SAMPLERS, *grids.GRIDS))
    assert all(PARAMETERIZATIONS[name]() for name in PARAMETERIZATIONS)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_traced(name):
    """A new Flax or JAX would refuse the code of a module."""
    network = NETWORKS[name]()
    x = jnp.zeros(
        {"mlp": (1, 2), "wavenet": (1, 16, 2), "egnn": (1, 5, 3)}.get(name, (1, 16, 16, 3))
    )
    params = jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(1), {})
    out = jax.eval_shape(network.apply, params, x, jnp.zeros(1), {})
    assert jax.tree.leaves(out)[0].shape == x.shape


def test_every_sampler_takes_normal_data_to_their_law():
    """NumPy and JAX in float64 on the host would no longer compute tables."""
    times = grids.logsnr_uniform(vp, 60)
    for name, entry in samplers.SAMPLERS.items():
        if entry.plan.__name__ == "learned" or getattr(entry(vp, times), "learned", False):
            continue  # needs a second output of a network
        table = entry(vp, times)
        assert str(table)
        mean, var = (np.asarray(a) for a in samplers.moments(table, vp, mean=0.7, var=0.25)[:2])
        assert abs(mean - 0.7) < 0.1 and np.isfinite(var), name
        # tests/samplers compares the distributions of the others, each with its own settings.
        assert table.noisy.any() or abs(var - 0.25) < 0.2, name


def test_a_run_is_trained_sampled_and_evaluated(toy, monkeypatch, tmp_path):
    """Commands would fail with new versions of orbax, grain, matplotlib or TensorBoard."""
    assert ended(monkeypatch, "sample", f"--workdir={toy}", f"--out={tmp_path / 'a.npz'}") == 0
    with np.load(tmp_path / "a.npz") as found:
        assert np.isfinite(found["arr_0"]).all()
    flags = [f"--workdir={toy}", "--num=20", "--real=40", "--metrics=frechet"]
    assert ended(monkeypatch, "evaluate", *flags) == 0
    assert (toy / "evaluation.json").exists()


def test_the_newest_python_is_one_that_the_package_declares():
    """The classifiers would promise less, or more, than what is tested."""
    assert (3, 11) <= sys.version_info[:2] <= (3, 13)
