"""Samplers: functions that plan a `Table` of rows; one file per family and their catalogue.

A sampler plans the table of a process and its times, and `sample` runs it. `run` also returns the
states of all rows, and `previews` yields some of them while the others are computed; `check` raises
the error of an output that is not finite.

    >>> import jax
    >>> from diffjax import analytic, grids, samplers, schedules, sde
    >>> vp = sde.VP(schedules.Linear())
    >>> denoise = analytic.gaussian(jax.numpy.zeros(2), jax.numpy.ones(2)).denoiser(vp)
    >>> table = samplers.dpmpp_2m(vp, grids.uniform(vp, 4))
    >>> x, keys = samplers.initial(vp, jax.random.split(jax.random.key(0), 3), (2,))
    >>> samplers.sample(denoise, table, x, keys).shape
    (3, 2)
    >>> result = samplers.run(denoise, table, x, keys, path=True)
    >>> [a.shape for a in result.path], samplers.check(result.bad, table)
    ([(4, 3, 2), (4, 3, 2)], None)
    >>> [seen.row for seen in samplers.previews(denoise, table, x, keys, every=2)]
    [2, 4]
"""

from typing import TYPE_CHECKING, Any

from diffjax.arrays import catalogue
from diffjax.samplers.affine import affine_moments
from diffjax.samplers.correctors import CORRECTORS, annealed_langevin, langevin, refresh
from diffjax.samplers.first_order import (
    ancestral,
    ancestral_learned,
    ancestral_optimal,
    ancestral_upper,
    consistency,
    ddim,
    ddim_sde,
    ddim_variance,
    euler_maruyama,
    reverse_diffusion,
)
from diffjax.samplers.flow_maps import flow_map
from diffjax.samplers.lanes import ORDERS, lanes
from diffjax.samplers.multistep import (
    ab_angle,
    ab_logsnr,
    deis,
    dpmpp_2m,
    dpmpp_3m,
    ipndm,
    lms,
    pndm,
)
from diffjax.samplers.program import Combination, Program, Sampler, sampler
from diffjax.samplers.repaint import repaint
from diffjax.samplers.run import (
    Preview,
    Result,
    check,
    previews,
    run,
    sample,
)
from diffjax.samplers.runge_kutta import (
    dpm_solver_1,
    dpm_solver_2,
    dpm_solver_3,
    dpmpp_2s,
    euler_angle,
    euler_logsnr,
    euler_t,
    heun,
    heun_t,
    midpoint,
    midpoint_t,
    rk4,
    rk4_t,
)
from diffjax.samplers.starts import initial, start_from
from diffjax.samplers.stochastic import churn, dpmpp_sde, restart, sa_solver, seeds_2
from diffjax.samplers.table import Table, moments, unroll
from diffjax.samplers.tuning import Optimized, Refinement, optimize, refine
from diffjax.samplers.unipc import unipc

if TYPE_CHECKING:
    from diffjax.samplers.conformance import difference, judge

SAMPLERS = catalogue(
    ddim,
    ddim_variance,
    ddim_sde,
    ancestral,
    ancestral_upper,
    ancestral_learned,
    ancestral_optimal,
    consistency,
    flow_map,
    euler_maruyama,
    reverse_diffusion,
    euler_t,
    euler_logsnr,
    euler_angle,
    heun,
    heun_t,
    midpoint,
    midpoint_t,
    rk4,
    rk4_t,
    dpm_solver_1,
    dpm_solver_2,
    dpm_solver_3,
    dpmpp_2s,
    lms,
    deis,
    ab_logsnr,
    ab_angle,
    ipndm,
    pndm,
    dpmpp_2m,
    dpmpp_3m,
    unipc,
    churn,
    restart,
    dpmpp_sde,
    seeds_2,
    sa_solver,
    annealed_langevin,
    repaint,
)

__all__ = [
    "CORRECTORS",
    "ORDERS",
    "SAMPLERS",
    "Combination",
    "Optimized",
    "Preview",
    "Program",
    "Refinement",
    "Result",
    "Sampler",
    "Table",
    "affine_moments",
    "check",
    "difference",
    "initial",
    "judge",
    "lanes",
    "langevin",
    "moments",
    "optimize",
    "previews",
    "refine",
    "refresh",
    "run",
    "sample",
    "sampler",
    "start_from",
    "unroll",
]


def __getattr__(name: str) -> Any:
    """Load the judges on first use.

    Their module computes when it is imported, and the processes of a run must connect before JAX
    computes.
    """
    if name in ("difference", "judge"):
        from diffjax.samplers import conformance

        return getattr(conformance, name)
    raise AttributeError(f"module 'diffjax.samplers' has no attribute {name!r}")
