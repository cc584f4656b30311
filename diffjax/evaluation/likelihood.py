"""Metrics of a network on a set of images, in bits per dimension: `(subject, **settings)`.

num: items, 0 for all. repeats: estimates per image, each with noise of its own.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from diffjax import grids, likelihood
from diffjax.arrays import Cond
from diffjax.config import lookup
from diffjax.denoiser import Denoiser
from diffjax.draws import Draw, Likelihood, Uniform
from diffjax.evaluation.images import Subject, over, report
from diffjax.prediction import Sample
from diffjax.sde import SDE, ends


def bpd(
    subject: Subject,
    num: int = 0,
    repeats: int = 1,
    dequantize: str = "",
    trace: str = "rademacher",
    probes: int = 1,
    solver: str = "dopri5",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    steps: int = 0,
    most: int = 1000,
) -> dict[str, Any]:
    """-log2 of the probability by the ODE (arXiv:2011.13456, app. D.2; arXiv:2305.03935).

    Of grey levels, each a bin of the density at t_min, where `dequantize` is truncated_normal (the
    default for images) or uniform; of a density, where it is none. The mean over repeats is an
    upper bound on the bits; `importance_weighted`, their log-mean-exp, a tighter one if the trace
    is exact. steps: so many equal ones in place of adaptive ones.
    """
    dequantize = dequantize or ("truncated_normal" if subject.discrete else "none")
    noise = lookup(likelihood.DEQUANTIZERS, dequantize, "dequantize")
    estimator = lookup(likelihood.TRACES, trace, "trace")
    if subject.discrete == (dequantize == "none"):
        allowed = "uniform, truncated_normal" if subject.discrete else "none"
        raise ValueError(f"dequantize={dequantize!r}: for these data, allowed: {allowed}")
    how = likelihood.Ode(solver, rtol, atol, steps, most)
    adaptive = {"solver": solver, "rtol": rtol, "atol": atol, "most": most}
    protocol = subject.protocol() | {
        "repeats": positive(repeats),
        "dequantize": dequantize,
        "trace": trace,
        "probes": subject.size if trace == "exact" else probes,
        **({"solver": "rk4", "steps": steps} if steps else adaptive),
    }
    own = {} if trace == "exact" else {"probes": probes}
    draw = functools.partial(estimator, **own)
    jax.eval_shape(lambda: draw(jax.random.key(0), subject.size))  # bad settings are refused now

    def values(
        denoise: Denoiser, x0: Sample, keys: Key[Array, " b"], cond: Cond
    ) -> dict[str, Array]:
        found = likelihood.log_weights(denoise, x0, keys, cond, how, draw, noise, repeats)
        return {"log_weights": found[0], "steps": found[1]}

    found, folder = over(subject, "bpd", protocol, num, values)
    first, each = how.passes
    unit = subject.size * math.log(2)
    bits = -found["log_weights"].astype(np.float64) / unit
    means = summary(bits) | {"passes": float((first + each * found["steps"]).mean())}
    kept = {"index": found["index"], "bits": bits}
    if repeats > 1:
        kept["importance_weighted"] = _tighter(bits, unit)
        means["importance_weighted"] = float(kept["importance_weighted"].mean())
    return report(folder, protocol, kept, **means)


def vlb(
    subject: Subject, num: int = 0, repeats: int = 1, samples: int = 16, steps: int = 0
) -> dict[str, Any]:
    """The variational bound (arXiv:2107.00630), its terms, and the diffusion term by log-SNR.

    In continuous time by `samples` noise levels per image, uniform in log-SNR where that is finite;
    or of the discrete process of `steps` uniform steps.
    """
    if not subject.discrete:
        raise ValueError("vlb: needs grey levels, and the items are floats; allowed: bpd")
    sde = subject.denoise.sde
    draw = noise_levels(sde)
    times = grids.uniform(sde, steps) if steps else None
    noise = {"steps": steps} if steps else {"samples": positive(samples), "draw": str(draw)}
    protocol = subject.protocol() | {"repeats": positive(repeats), **noise}

    def values(
        denoise: Denoiser, x0: Sample, keys: Key[Array, " b"], cond: Cond
    ) -> dict[str, Array]:
        def one(i: Array) -> likelihood.Bound:
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            own_draw = {"samples": samples, "draw": draw}
            return likelihood.vlb(denoise, x0, own, cond, times=times, **own_draw)

        found = jax.lax.map(one, jnp.arange(repeats))
        return {k: jnp.moveaxis(v, 0, 1) for k, v in found._asdict().items()}

    found, folder = over(subject, "vlb", protocol, num, values)
    terms = {k: found[k].astype(np.float64) for k in ("prior", "diffusion", "decoder")}
    bits = np.sum([*terms.values()], axis=0)
    levels = found["at_logsnr"].mean((0, 1)).tolist()
    means: dict[str, Any] = summary(bits) | {k: float(v.mean()) for k, v in terms.items()}
    means["at_logsnr"] = {
        str(low): v for low, v in zip(likelihood.EDGES, levels, strict=False) if v
    }
    return report(folder, protocol, {"index": found["index"], "bits": bits}, **means)


def noise_levels(sde: SDE) -> Draw:
    """Where the bound is estimated: uniform in log-SNR; in t where that is unbounded."""
    finite = bool(np.isfinite(ends(sde).lam[1]))
    return Likelihood(stratified=True) if finite else Uniform(stratified=True)


def summary(bits: np.ndarray) -> dict[str, float]:
    """Mean of bits (N, R), and its standard error over images; `noise`: that of the repeats alone,
    which more of them lower."""
    count, repeats = bits.shape
    each = bits.mean(1)
    found = {"bits": float(each.mean())}
    if count > 1:
        found["standard_error"] = float(each.std(ddof=1) / count**0.5)
    if repeats > 1:
        found["noise"] = float((bits.var(1, ddof=1).mean() / (repeats * count)) ** 0.5)
    return found


def _tighter(bits: np.ndarray, unit: float) -> np.ndarray:
    """-log2 of the mean of 2^-(unit bits) over repeats, per dimension (arXiv:1509.00519)."""
    least = bits.min(1, keepdims=True)
    return least[:, 0] - np.log(np.exp(-(bits - least) * unit).mean(1)) / unit


def positive(value: int) -> int:
    if value < 1:
        raise ValueError(f"{value} repeats or samples: needs at least 1")
    return value
