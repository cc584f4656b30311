"""Time grids: where a sampler asks the network. `(sde, steps) -> times`, float64, decreasing.

A grid has `steps + 1` times: `steps` from t_max to t_min, then 0, which stands for the data
(sigma = 0). Any explicit array of decreasing times is a grid too; one that ends above 0 leaves its
last noise level in the result.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diffjax.arrays import catalogue, float64
from diffjax.sde import SDE, ends

Grid = Callable[[SDE, int], np.ndarray]


def uniform(sde: SDE, steps: int) -> np.ndarray:
    """Equal steps in t; with t_min = 1/steps the discrete DDPM times (arXiv:2006.11239)."""
    return _to_data(np.linspace(sde.t_max, sde.t_min, _positive(steps)))


def logsnr_uniform(sde: SDE, steps: int) -> np.ndarray:
    """Equal steps in log-SNR (arXiv:2206.00927, sec. 3.4). Refuses an infinite log-SNR at t_max."""
    lam_min, lam_max = ends(sde).lam[::-1]
    if not np.isfinite(lam_min):
        raise ValueError(
            f"grid logsnr_uniform with {sde}: log-SNR is -inf at t_max={sde.t_max}; "
            f"allowed: t_max < 1, or the grid uniform"
        )
    l = 2 * np.linspace(lam_min, lam_max, _positive(steps))
    times = np.clip(float64(sde.inverse)(l), sde.t_min, sde.t_max)
    times[0] = sde.t_max
    return _to_data(times)


def _positive(steps: int) -> int:
    if steps < 1:
        raise ValueError(f"steps={steps}: a grid needs at least 1 step")
    return steps


def _to_data(times: np.ndarray) -> np.ndarray:
    return np.append(times, 0.0)


GRIDS = catalogue(uniform, logsnr_uniform)
