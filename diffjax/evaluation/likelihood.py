"""Likelihood metrics of a network on a set of images, in bits per dimension.

They are functions `(subject, **settings) -> result`. num: number of items, 0 for all. repeats:
number of estimates per image, each with independent noise.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from diffjax import grids, likelihood
from diffjax.arrays import Cond
from diffjax.checks import at_least
from diffjax.data.particles import system_of
from diffjax.denoiser import Denoiser
from diffjax.draws import Draw, Likelihood, Uniform
from diffjax.evaluation.images import Subject, over, report
from diffjax.likelihood.dequantize import Dequantize, none, truncated_normal
from diffjax.likelihood.traces import Trace, rademacher
from diffjax.prediction import Sample
from diffjax.sde import SDE, ends


def bpd(
    subject: Subject,
    num: int = 0,
    repeats: int = 1,
    dequantize: Dequantize | None = None,
    trace: Trace = rademacher,
    ode: likelihood.Ode | None = None,
) -> dict[str, Any]:
    """Compute -log2 of the likelihood by the ODE (arXiv:2011.13456, app. D.2; arXiv:2305.03935).

    It is the probability of grey levels, each a bin of the density at t_min, where `dequantize` is
    truncated_normal (the default for images) or uniform, and a density where it is none. The mean
    over repeats is an upper bound on the bits; `importance_weighted`, their log-mean-exp, is
    tighter if the trace is exact. Dimensions are those of the space of the items. For particles of
    known density p, `kl` is the mean of log p - log q in nats, which is the divergence KL(p || q)
    of the network, with its standard error over items. dequantize, trace: entries of the catalogues
    of `likelihood` with their settings bound. ode: settings of the ODE solver, adaptive by default.

    Raises ValueError for data that do not suit `dequantize`, and for a bad setting, before anything
    is compiled.
    """
    at_least(1, repeats=repeats)
    dequantize = dequantize or (truncated_normal if subject.discrete else none)
    if subject.discrete == (dequantize is none):
        allowed = "uniform, truncated_normal" if subject.discrete else "none"
        raise ValueError(
            f"dequantize={name_of(dequantize)!r}: does not fit these data; allowed: {allowed}"
        )
    ode = ode or likelihood.Ode()
    adaptive = {"solver": ode.solver, "rtol": ode.rtol, "atol": ode.atol, "most": ode.most}
    probes = jax.eval_shape(lambda: trace(jax.random.key(0), subject.size))  # refuses bad settings
    protocol = subject.protocol() | {
        "repeats": repeats,
        "dequantize": name_of(dequantize),
        "trace": name_of(trace),
        "probes": len(probes),
        **({"solver": "rk4", "steps": ode.steps} if ode.steps else adaptive),
    }

    def values(
        denoise: Denoiser, x0: Sample, keys: Key[Array, " b"], cond: Cond
    ) -> dict[str, Array]:
        logs, steps = likelihood.log_weights(
            denoise, x0, keys, cond, ode, trace, dequantize, repeats
        )
        return {"log_weights": logs, "steps": steps}

    results, folder = over(subject, "bpd", protocol, num, values)
    first, each = ode.passes
    unit = subject.rank * math.log(2)
    bits = -results["log_weights"].astype(np.float64) / unit
    means = summary(bits) | {"passes": float((first + each * results["steps"]).mean())}
    kept = {"index": results["index"], "bits": bits}
    means |= _divergence(subject, results["index"], unit * bits)
    if repeats > 1:
        kept["importance_weighted"] = _tighter(bits, unit)
        means["importance_weighted"] = float(kept["importance_weighted"].mean())
    return report(folder, protocol, kept, **means)


def vlb(
    subject: Subject, num: int = 0, repeats: int = 1, samples: int = 16, steps: int = 0
) -> dict[str, Any]:
    """Estimate the variational bound, its terms, and the diffusion term by log-SNR.

    The bound (arXiv:2107.00630) is in continuous time, from `samples` noise levels per image that
    are uniform in log-SNR where that is finite, or for steps > 0 that of a discrete process of
    `steps` uniform steps.
    """
    at_least(1, repeats=repeats, samples=samples)
    if not subject.discrete:
        raise ValueError("vlb: needs grey levels, and the items are floats; allowed: bpd")
    sde = subject.denoise.sde
    draw = noise_levels(sde)
    times = grids.uniform(sde, steps) if steps else None
    noise = {"steps": steps} if steps else {"samples": samples, "draw": str(draw)}
    protocol = subject.protocol() | {"repeats": repeats, **noise}

    def values(
        denoise: Denoiser, x0: Sample, keys: Key[Array, " b"], cond: Cond
    ) -> dict[str, Array]:
        def one(i: Array) -> likelihood.Bound:
            repeated = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            estimate = {"times": times, "samples": samples, "draw": draw}
            return likelihood.vlb(denoise, x0, repeated, cond, **estimate)

        bounds = jax.lax.map(one, jnp.arange(repeats))
        return {k: jnp.moveaxis(v, 0, 1) for k, v in bounds._asdict().items()}

    results, folder = over(subject, "vlb", protocol, num, values)
    terms = {k: results[k].astype(np.float64) for k in ("prior", "diffusion", "decoder")}
    bits = np.sum([*terms.values()], axis=0)
    levels = results["at_logsnr"].mean((0, 1)).tolist()
    means: dict[str, Any] = summary(bits) | {k: float(v.mean()) for k, v in terms.items()}
    means["at_logsnr"] = {
        str(low): v for low, v in zip(likelihood.EDGES, levels, strict=False) if v
    }
    return report(folder, protocol, {"index": results["index"], "bits": bits}, **means)


def noise_levels(sde: SDE) -> Draw:
    """Return the distribution of times for the bound: uniform in log-SNR, or in t if unbounded."""
    finite = bool(np.isfinite(ends(sde).lam[1]))
    return Likelihood(stratified=True) if finite else Uniform(stratified=True)


def summary(bits: np.ndarray) -> dict[str, float]:
    """Return the mean of bits (N, R) and its standard error over images.

    `noise` is the standard error from the repeats alone, which more repeats reduce.
    """
    count, repeats = bits.shape
    each = bits.mean(1)
    means = {"bits": float(each.mean())}
    if count > 1:
        means["standard_error"] = float(each.std(ddof=1) / count**0.5)
    if repeats > 1:
        means["noise"] = float((bits.var(1, ddof=1).mean() / (repeats * count)) ** 0.5)
    return means


def _divergence(subject: Subject, index: np.ndarray, nats: np.ndarray) -> dict[str, float]:
    """Return KL(p || q) in nats of items of known density p, whose -log q is `nats` (N, R).

    The mean of log p - log q varies far less from item to item than that of -log q.
    """
    system = system_of(subject.source.form)
    if system is None or not np.isfinite(system.log_z):
        return {}
    excess = summary(system.logp(subject.items(index)[0])[:, None] + nats)
    return {"kl": excess["bits"], "kl_error": excess.get("standard_error", math.nan)}


def _tighter(bits: np.ndarray, unit: float) -> np.ndarray:
    """Return -log2 of the mean of 2^-(unit bits) over repeats, per dimension (arXiv:1509.00519)."""
    least = bits.min(1, keepdims=True)
    return least[:, 0] - np.log(np.exp(-(bits - least) * unit).mean(1)) / unit


def name_of(entry: Callable[..., Any]) -> str:
    """Return the name of a catalogue's entry, or of one with some of its settings bound."""
    return entry.func.__name__ if isinstance(entry, functools.partial) else entry.__name__
