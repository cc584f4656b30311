"""Settings for all tests: strict broadcasting, one compile cache for the run."""

import os
import tempfile

import pytest

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # xdist workers inherit it from their parent
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="diffjax-test-xla-")

import jax

jax.config.update("jax_num_cpu_devices", 8)  # virtual ones, for meshes in one process
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture
def x64():
    """Run the test in float64."""
    with jax.enable_x64(True):
        yield
