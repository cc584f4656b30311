"""Schedules by definition, in 50-digit arithmetic: alpha^2 and sigma^2 of VP at a time."""

import decimal
import functools
import itertools
from decimal import Decimal

import numpy as np

from diffjax.schedules import (
    Cosine,
    Edm,
    Exponential,
    Geometric,
    Karras,
    Laplace,
    Learned,
    Linear,
    Logit,
    Polynomial,
    Quadratic,
    ScaledLinear,
    Sigmoid,
)

decimal.getcontext().prec = 50
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def sin(x: Decimal) -> Decimal:
    """Taylor series."""
    term, total, n = x, x, 1
    while abs(term) > Decimal("1e-48"):
        n += 2
        term *= -x * x / (n * (n - 1))
        total += term
    return total


def power(x: Decimal, p: Decimal) -> Decimal:
    """x^p for x > 0."""
    return (p * x.ln()).exp()


def logistic(x: Decimal) -> Decimal:
    """1 / (1 + exp(-x)), at infinite x too."""
    return 1 / (1 + (-x).exp())


Marginal = tuple[Decimal, Decimal]
"""alpha^2 and sigma^2 in VP."""
TIMES = np.concatenate([np.geomspace(1e-6, 0.5, 40), 1 - np.geomspace(1e-6, 0.5, 40)[:-1]])


def of_integral(b: Decimal) -> Marginal:
    """alpha^2 = exp(-B)."""
    alpha2 = (-b).exp()
    return alpha2, 1 - alpha2


def of_ratio(sigma: Decimal, alpha: Decimal = Decimal(1)) -> Marginal:
    """Return (alpha^2, sigma^2) of VP for sigma and alpha of any frame."""
    return alpha**2 / (alpha**2 + sigma**2), sigma**2 / (alpha**2 + sigma**2)


def of_logsnr(l: Decimal) -> Marginal:
    """alpha^2 = logistic(l)."""
    return logistic(l), logistic(-l)


def linear(schedule: Linear, t: Decimal) -> Marginal:
    """B = b0 t + (b1 - b0) t^2 / 2."""
    low, high = Decimal(schedule.beta_min), Decimal(schedule.beta_max)
    return of_integral(low * t + (high - low) * t * t / 2)


def scaled_linear(schedule: ScaledLinear, t: Decimal) -> Marginal:
    """beta = (a + d t)^2: B = a^2 t + a d t^2 + d^2 t^3 / 3."""
    a = Decimal(schedule.beta_min).sqrt()
    d = Decimal(schedule.beta_max).sqrt() - a
    return of_integral(a**2 * t + a * d * t**2 + d**2 * t**3 / 3)


def quadratic(schedule: Quadratic, t: Decimal) -> Marginal:
    """beta = b0 + (b1 - b0) t^2: B = b0 t + (b1 - b0) t^3 / 3."""
    low, high = Decimal(schedule.beta_min), Decimal(schedule.beta_max)
    return of_integral(low * t + (high - low) * t**3 / 3)


def exponential(schedule: Exponential, t: Decimal) -> Marginal:
    """B = rate t."""
    return of_integral(Decimal(schedule.rate) * t)


def cosine(schedule: Cosine, t: Decimal) -> Marginal:
    """cos(a) = sin(pi/2 - a)."""
    s = Decimal(schedule.s)
    at = lambda t: sin(PI / 2 - (t + s) / (1 + s) * PI / 2) ** 2
    alpha2 = at(t) / at(Decimal(0))
    return alpha2, 1 - alpha2


def sigmoid(schedule: Sigmoid, t: Decimal) -> Marginal:
    """(S(end) - S(u)) / (S(end) - S(start)), u from start to end, all over tau."""
    start, end, tau = Decimal(schedule.start), Decimal(schedule.end), Decimal(schedule.tau)
    first, last = logistic(start / tau), logistic(end / tau)
    alpha2 = (last - logistic((t * (end - start) + start) / tau)) / (last - first)
    return alpha2, 1 - alpha2


def polynomial(schedule: Polynomial, t: Decimal) -> Marginal:
    """alpha = 1 - t^power."""
    alpha2 = (1 - power(t, Decimal(schedule.power))) ** 2
    return alpha2, 1 - alpha2


def laplace(schedule: Laplace, t: Decimal) -> Marginal:
    """l = mean - scale sgn(0.5 - t) log(1 - 2 |t - 0.5|)."""
    half = Decimal("0.5")
    sign = (half - t).compare(Decimal(0))
    log = (1 - 2 * abs(t - half)).ln()
    return of_logsnr(Decimal(schedule.mean) - Decimal(schedule.scale) * sign * log)


def logit(schedule: Logit, t: Decimal) -> Marginal:
    """alpha = 1 - t and sigma = t in Flow."""
    return of_ratio(t, 1 - t)


def geometric(schedule: Geometric, t: Decimal) -> Marginal:
    """sigma / alpha = sigma_min (sigma_max / sigma_min)^t."""
    low, high = Decimal(schedule.sigma_min), Decimal(schedule.sigma_max)
    return of_ratio(low * power(high / low, t))


def karras(schedule: Karras, t: Decimal) -> Marginal:
    """(sigma / alpha)^(1 / rho) linear in t."""
    rho = Decimal(schedule.rho)
    low, high = (power(Decimal(s), 1 / rho) for s in (schedule.sigma_min, schedule.sigma_max))
    return of_ratio(power(low + t * (high - low), rho))


def edm(schedule: Edm, t: Decimal) -> Marginal:
    """sigma / alpha = sigma_max t."""
    return of_ratio(Decimal(schedule.sigma_max) * t)


def learned(schedule: Learned, t: Decimal) -> Marginal:
    """l from logsnr_max to logsnr_min along g, with u = t + exp(-8) sum sigmoid(8 (t - centre))."""

    def u(t: Decimal) -> Decimal:
        centres = [(k + Decimal("0.5")) / schedule.width for k in range(schedule.width)]
        return t + Decimal(-8).exp() * sum(logistic(8 * (t - c)) for c in centres)

    first, last = Decimal(schedule.logsnr_max), Decimal(schedule.logsnr_min)
    zero, one = u(Decimal(0)), u(Decimal(1))
    return of_logsnr(first - (first - last) * (u(t) - zero) / (one - zero))


def logsnr(marginal: Marginal) -> Decimal:
    """log(alpha^2 / sigma^2)."""
    return (marginal[0] / marginal[1]).ln()


def table(betas: list[Decimal]) -> list[Decimal]:
    """l at t = 0, 1 / T, ..., 1: that of the product of 1 - beta, on a line before 1 / T."""
    alpha2, l = Decimal(1), []
    for beta in betas:
        alpha2 *= 1 - beta
        l.append(logsnr((alpha2, 1 - alpha2)))
    return [l[0] + (l[0] - l[1]), *l]


def between(nodes: list[Decimal], t: Decimal) -> Marginal:
    """l linear in t between the nodes."""
    steps = len(nodes) - 1
    k = min(int(t * steps), steps - 1)
    return of_logsnr(nodes[k] + (t * steps - k) * (nodes[k + 1] - nodes[k]))


@functools.cache
def linear_table(steps: int) -> list[Decimal]:
    """betas on a line from 1e-4 to 0.02."""
    low, high = Decimal("1e-4"), Decimal("0.02")
    return table([low + (high - low) * k / (steps - 1) for k in range(steps)])


@functools.cache
def scaled_linear_table(steps: int) -> list[Decimal]:
    """Square roots of betas on a line, from 0.00085 to 0.012."""
    low, high = Decimal("0.00085").sqrt(), Decimal("0.012").sqrt()
    return table([(low + (high - low) * k / (steps - 1)) ** 2 for k in range(steps)])


@functools.cache
def cosine_table(steps: int) -> list[Decimal]:
    """beta = min(1 - f(t) / f(s), 0.999), f the squared cosine."""
    f = [cosine(Cosine(), Decimal(k) / steps)[0] for k in range(steps + 1)]
    return table([min(1 - t / s, Decimal("0.999")) for s, t in itertools.pairwise(f)])
