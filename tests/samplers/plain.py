"""What the sampler tests share: processes, tables run in plain NumPy, a mixture's exact denoiser.

The mixture lives in coordinates x / alpha and rho = sigma / alpha, where no frame is left.
"""

from itertools import pairwise

import numpy as np
from scipy import integrate

from diffjax.arrays import float64
from diffjax.samplers import SAMPLERS, unroll
from diffjax.samplers.table import NOISES, OUTPUTS, eps, x0
from diffjax.schedules import Linear
from diffjax.sde import SDES, VP, levels

MEAN, VAR = 0.7, 0.3
"""The Gaussian data of exact laws."""
FRAMES = {name: make(Linear(), t_min=0.02) for name, make in SDES.items()}
TIMES = np.array([0.95, 0.7, 0.52, 0.3, 0.17, 0.06, 0.02])
"""Of no symmetry: an equal step would hide a wrong weight."""
DOWN = np.append(TIMES, 0.0)
ALWAYS = {"low": 0.0, "high": 1e9}
"""Noise of `sa_solver` at all levels."""
VARIANTS = [(name, {}) for name in SAMPLERS] + [
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
NOISY |= {"churn", "restart", "dpmpp_sde", "seeds_2", "sa_solver", "annealed_langevin"}


def of_the_ode(name, **settings):
    """Whether a sampler is deterministic; a test says that this is right."""
    return not (name in NOISY or name.startswith("ancestral") or settings.get("eta"))


def marginal(sde, t):
    """Mean and variance of x_t for N(MEAN, VAR) data."""
    at = levels(sde, np.array([t]))
    return float(at.alpha[0] * MEAN), float(at.alpha[0] ** 2 * VAR + at.sigma[0] ** 2)


def simulate(table, output, x, zs=None, exact=None):
    """The meaning of a table, row by row, on arrays. output: (i, u) -> y.

    exact: (y, x) of the first rows, which take the place of what those rows make.
    """
    still = np.zeros_like(x)
    ys, olds = [still] * (OUTPUTS + 1), [still] * (NOISES + 1)
    for i in range(len(table)):
        if not table.active[i]:
            continue
        z = still if zs is None else zs[i]
        u = sum(c * a for c, a in zip(table.input[i], [x, *ys[:-1], z, *olds[:-1]], strict=True))
        y = output(i, u)
        if exact and i < len(exact):
            y, x = exact[i]
        else:
            registers = [x, y, *ys[:-1], z, *olds[:-1]]
            x = sum(c * a for c, a in zip(table.update[i], registers, strict=True))
        ys[table.keep[i]], olds[table.keep_noise[i]] = y, z
    return x


WEIGHT, CENTRE, SPREAD = np.array([0.6, 0.4]), np.array([-1.0, 0.8]), np.array([0.1, 0.2])


def posterior_mean(x, rho):
    """E[x0 | x] of the mixture at x = x0 + rho eps."""
    var = SPREAD + rho**2
    away = x[..., None] - CENTRE
    logp = np.log(WEIGHT) - 0.5 * (away**2 / var + np.log(var))
    share = np.exp(logp - logp.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    return (share * (CENTRE + SPREAD * away / var)).sum(-1)


def mixture_output(table, sde):
    """(i, u) -> y of a table for the mixture."""
    at = levels(sde, table.t)

    def output(i, u):
        mean = posterior_mean(u / at.alpha[i], at.sigma[i] / at.alpha[i])
        return mean if table.read is x0 else (u - at.alpha[i] * mean) / at.sigma[i]

    return output


def ode(x, lam):
    """x / alpha along the exact flow at decreasing noise levels `lam`, the first being that of x.

    d (x / alpha) / d lambda = -rho eps = x0 - x / alpha.
    """
    slope = lambda l, x: posterior_mean(x, np.exp(-l)) - x
    made = [x]
    for low, high in pairwise(lam):
        done = integrate.solve_ivp(slope, (low, high), made[-1], "DOP853", rtol=1e-13, atol=1e-14)
        made.append(done.y[:, -1])
    return np.array(made)


def as_x0(table, sde):
    """The unrolled maps with every output that is eps written as (u - alpha x0) / sigma."""
    maps, at, rows = unroll(table), levels(sde, table.t), len(table)
    if table.read is not eps:
        return maps
    basis = np.eye(1 + 2 * rows)
    outputs = basis.copy()
    for i in range(rows):
        u = maps.inputs[i] @ outputs
        outputs[1 + i] = (u - at.alpha[i] * basis[1 + i]) / at.sigma[i]
    return type(maps)(maps.inputs @ outputs, maps.result @ outputs)


def assert_same(ours, theirs, tolerance=1e-12):
    """Equal as linear functions of x_T, all outputs and all noises."""
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def at_lambda(sde, lam):
    """Times at log(alpha / sigma) = lam."""
    return np.array(float64(sde.inverse)(2 * np.asarray(lam)))


VP_LINEAR = VP(Linear(), t_min=0.02)
