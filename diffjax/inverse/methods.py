"""Methods of restoration by name: the guidance, or the particles, of a published algorithm.

A method is a function `(measurement, inside, **settings) -> Guidance`; `inside` is the guidance
that predicts x0, such as classifier-free guidance. Cost, exactness and bias are stated where the
objects are defined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from diffjax import checks
from diffjax.guidance.base import Guidance
from diffjax.inverse.covariances import (
    ITERATIONS,
    Covariance,
    Flat,
    Infinite,
    Prior,
    Rows,
    Tweedie,
    Unit,
    Zero,
)
from diffjax.inverse.daps import Drawn
from diffjax.inverse.ddrm import DDRM
from diffjax.inverse.denoising import Joint
from diffjax.inverse.measurement import Measurement
from diffjax.inverse.posterior import Posterior
from diffjax.inverse.potentials import Observation
from diffjax.inverse.proposals import Plain, Proposal, Twisted
from diffjax.inverse.replacement import Replacement


@dataclass(frozen=True)
class Particles:
    """Settings of `steer` for a measurement, in place of a guidance.

    inside: the guidance of the model that is steered. count: particles per sample. proposal: how
    they move. threshold: the share of `count` below which they are resampled.

    >>> import jax.numpy as jnp
    >>> from diffjax.guidance import Conditional
    >>> from diffjax.inverse import Scale
    >>> measurement = Measurement(jnp.ones((1, 2)), Scale(1.0), 0.5)
    >>> METHODS["particles"].build(measurement, Conditional(), count=4).count
    4
    """

    potential: Observation
    inside: Guidance
    count: int
    proposal: Proposal
    threshold: float


@dataclass(frozen=True)
class Method:
    """A method of restoration.

    build: `(measurement, inside, **settings) -> Guidance | Particles`; raises ValueError where the
    measurement does not suit. sampler: the sampler that it is defined with, "" for any. only:
    whether it works with no other sampler.

    >>> import jax.numpy as jnp
    >>> from diffjax.guidance import Conditional
    >>> from diffjax.inverse import Scale
    >>> measurement = Measurement(jnp.ones((1, 2)), Scale(1.0), 0.5)
    >>> METHODS["tweedie"].build(measurement, Conditional(), iterations=3).covariance
    Tweedie(iterations=3)
    >>> METHODS["daps"].sampler, METHODS["daps"].only
    ('consistency', True)
    """

    build: Callable[..., Guidance | Particles]
    sampler: str = ""
    only: bool = field(default=False)


def tweedie(measurement: Measurement, inside: Guidance, iterations: int = 2) -> Posterior:
    """Return the posterior with the Tweedie covariance: MMPS."""
    return Posterior(measurement, Tweedie(iterations), inside)


def dps(measurement: Measurement, inside: Guidance) -> Posterior:
    """Return the posterior without a covariance: DPS in its score form."""
    return Posterior(measurement, Zero(), inside)


def pigdm(measurement: Measurement, inside: Guidance, iterations: int = ITERATIONS) -> Posterior:
    """Return the posterior for data of variance 1: PiGDM."""
    return Posterior(measurement, Unit(iterations), inside)


def tmpd(measurement: Measurement, inside: Guidance) -> Posterior:
    """Return the posterior with the row sums of the Tweedie covariance: TMPD."""
    return Posterior(measurement, Rows(), inside)


def prior(
    measurement: Measurement, inside: Guidance, var: float = 1.0, iterations: int = ITERATIONS
) -> Posterior:
    """Return the posterior of a Gaussian prior of variance `var`: JFPS."""
    return Posterior(measurement, Prior(var, iterations), inside)


def diffpir(
    measurement: Measurement, inside: Guidance, strength: float = 1.0, iterations: int = ITERATIONS
) -> Posterior:
    """Return the posterior of a flat prior: DiffPIR."""
    return Posterior(measurement, Flat(strength, iterations), inside)


def ddnm(measurement: Measurement, inside: Guidance, iterations: int = ITERATIONS) -> Posterior:
    """Return the projection of x0 on the measurement: DDNM."""
    return Posterior(measurement, Infinite(iterations), inside)


def daps(
    measurement: Measurement,
    inside: Guidance,
    covariance: str = "tweedie",
    iterations: int = 2,
) -> Drawn:
    """Return draws of x0 from its Gaussian posterior: DAPS.

    covariance: `tweedie`, `prior` or `flat`. iterations: of `tweedie`.
    """
    drawable: dict[str, Covariance] = {
        "tweedie": Tweedie(iterations),
        "prior": Prior(),
        "flat": Flat(),
    }
    checks.one_of(drawable, covariance=covariance)
    return Drawn(Posterior(measurement, drawable[covariance], inside))


def ddrm(measurement: Measurement, inside: Guidance, eta: float = 0.85, eta_b: float = 1.0) -> DDRM:
    """Return DDRM, each singular component by its own rule."""
    return DDRM(measurement, eta, eta_b, inside)


def replacement(measurement: Measurement, inside: Guidance) -> Replacement:
    """Return the replacement of the measured part of x_t."""
    return Replacement(measurement, inside)


def denoising(measurement: Measurement, inside: Guidance) -> Joint:
    """Return the exact posterior of pure denoising."""
    return Joint(measurement, inside)


PROPOSALS: dict[str, Proposal] = {"plain": Plain(), "twisted": Twisted()}


def particles(
    measurement: Measurement,
    inside: Guidance,
    count: int = 16,
    proposal: str = "twisted",
    threshold: float = 0.5,
    data_var: float = 1.0,
) -> Particles:
    """Return the settings of sequential Monte Carlo: TDS.

    count: particles per sample. proposal: `twisted` or `plain`. threshold, data_var: see `steer`
    and `Observation`.
    """
    checks.whole(1, count=count)
    checks.one_of(PROPOSALS, proposal=proposal)
    checks.within(0, 1, threshold=threshold)
    observation = Observation(measurement, data_var=data_var)
    return Particles(observation, inside, count, PROPOSALS[proposal], threshold)


METHODS: dict[str, Method] = {
    "tweedie": Method(tweedie),
    "pigdm": Method(pigdm),
    "tmpd": Method(tmpd),
    "dps": Method(dps),
    "prior": Method(prior),
    "diffpir": Method(diffpir),
    "ddnm": Method(ddnm),
    "ddrm": Method(ddrm, "flow_map", only=True),
    "daps": Method(daps, "consistency", only=True),
    "replacement": Method(replacement),
    "repaint": Method(replacement, "repaint", only=True),
    "denoising": Method(denoising),
    "particles": Method(particles, "ancestral"),
}


def products(method: Any) -> int:
    """Return the vector-Jacobian products of the network per row and particle."""
    if isinstance(method, Particles):
        return int(method.proposal.sloped)
    posterior = method.inside if isinstance(method, Drawn) else method
    return posterior.covariance.products if isinstance(posterior, Posterior) else 0
