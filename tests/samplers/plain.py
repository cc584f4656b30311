"""Helpers of the sampler tests: processes, variants of samplers, equality of unrolled maps."""

import numpy as np

from diffjax.samplers import SAMPLERS
from diffjax.schedules import Linear
from diffjax.sde import SDES

FRAMES = {name: make(Linear(), t_min=0.02) for name, make in SDES.items()}
ALWAYS = {"low": 0.0, "high": 1e9}
"""Noise of `sa_solver` at all levels."""
VARIANTS = [(name, {}) for name in SAMPLERS if not SAMPLERS[name].leads] + [
    ("ddim", {"eta": 0.6}),
    ("ddim", {"eta": 1.0}),
    ("ddim_sde", {"eta": 0.4}),
    ("dpmpp_2m", {"exact": True}),
    ("dpmpp_2m", {"eta": 1.0}),
    ("dpmpp_3m", {"eta": 1.0}),
    ("unipc", {"corrector": False}),
    ("unipc", {"bh1": True, "order": 2}),
    ("seeds_2", {"r": 1.0}),
    ("sa_solver", {"predictor": 1, "corrector": 0, **ALWAYS}),
]


def label(method):
    """A test id: name and settings."""
    name, settings = method
    return "-".join([name, *(f"{k}={v}" for k, v in settings.items())])


NOISY = {"ddim_variance", "ddim_sde", "consistency", "euler_maruyama", "reverse_diffusion"}
NOISY |= {"repaint", "churn", "restart", "dpmpp_sde", "seeds_2", "sa_solver", "annealed_langevin"}


def of_the_ode(name, **settings):
    """Return whether a sampler is deterministic; a test checks this list."""
    return not (name in NOISY or name.startswith("ancestral") or settings.get("eta"))


def assert_same(ours, theirs, tolerance=1e-12):
    """Assert equality as linear functions of x_T, all outputs and all noises."""
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())
