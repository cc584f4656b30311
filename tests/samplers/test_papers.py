"""Samplers against their papers' formulas, written straight into NumPy.

The formulas run on vectors of coefficients: each network call gives a fresh unit vector, so what
comes out is the map that `unroll` gives, for all data and all networks at once.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
from plain import FRAMES, assert_same, label

from diffjax.samplers import SAMPLERS, unroll
from diffjax.samplers.conformance import DOWN, TIMES, at_lambda
from diffjax.sde import levels


class Paper:
    """Levels along the grid, and a network that answers with unit vectors.

    a, s, l, r, t: alpha, sigma, lambda, rho, t at the times of the grid.
    """

    def __init__(self, sde, times, size):
        self.sde, self.steps = sde, len(times) - 1
        self.t, self.a, self.s, self.l, self.r = self.at(times)
        self.basis, self.inputs = np.eye(1 + 2 * size), []
        self.x = self.basis[0]

    def at(self, times):
        at = levels(self.sde, times)
        return times, at.alpha, at.sigma, at.lam, at.sigma / at.alpha

    def net(self, u):
        self.inputs.append(u)
        return self.basis[len(self.inputs)]

    def between(self, i, share):
        """Return alpha and sigma at lambda_i + share h."""
        lam = self.l[i] + share * (self.l[i + 1] - self.l[i])
        at = levels(self.sde, at_lambda(self.sde, np.array([lam])))
        return at.alpha[0], at.sigma[0]

    def data(self, i, eps):
        """Return x0 from eps at time i: the step to sigma = 0."""
        return (self.x - self.s[i] * eps) / self.a[i]


def dpm_solver_2(p):
    """arXiv:2206.00927, Alg. 1, r = 1/2."""
    for i in range(p.steps):
        e = p.net(p.x)
        if p.s[i + 1] == 0:
            return p.data(i, e)
        h = p.l[i + 1] - p.l[i]
        a, s = p.between(i, 1 / 2)
        middle = p.net(a / p.a[i] * p.x - s * math.expm1(h / 2) * e)
        p.x = p.a[i + 1] / p.a[i] * p.x - p.s[i + 1] * math.expm1(h) * middle
    return p.x


def dpm_solver_3(p):
    """arXiv:2206.00927, Alg. 2, r1 = 1/3, r2 = 2/3."""
    r1, r2 = 1 / 3, 2 / 3
    for i in range(p.steps):
        e = p.net(p.x)
        if p.s[i + 1] == 0:
            return p.data(i, e)
        h = p.l[i + 1] - p.l[i]
        (a1, s1), (a2, s2) = p.between(i, r1), p.between(i, r2)
        d1 = p.net(a1 / p.a[i] * p.x - s1 * math.expm1(r1 * h) * e) - e
        curve = math.expm1(r2 * h) / (r2 * h) - 1
        u2 = a2 / p.a[i] * p.x - s2 * math.expm1(r2 * h) * e - s2 * r2 / r1 * curve * d1
        d2 = p.net(u2) - e
        x = p.a[i + 1] / p.a[i] * p.x - p.s[i + 1] * math.expm1(h) * e
        p.x = x - p.s[i + 1] / r2 * (math.expm1(h) / h - 1) * d2
    return p.x


def dpmpp_2s(p):
    """arXiv:2211.01095, Alg. 1, r = 1/2."""
    for i in range(p.steps):
        m = p.net(p.x)
        if p.s[i + 1] == 0:
            return p.a[i + 1] * m
        h = p.l[i + 1] - p.l[i]
        a, s = p.between(i, 1 / 2)
        m = p.net(s / p.s[i] * p.x - a * math.expm1(-h / 2) * m)
        p.x = p.s[i + 1] / p.s[i] * p.x - p.a[i + 1] * math.expm1(-h) * m
    return p.x


def heun(p):
    """arXiv:2206.00364, Alg. 1, with eps = (x - D) / rho."""
    for i in range(p.steps):
        d = p.net(p.x)
        if p.s[i + 1] == 0:
            return p.data(i, d)
        step, hat = p.r[i + 1] - p.r[i], p.x / p.a[i]
        again = p.net(p.a[i + 1] * (hat + step * d))
        p.x = p.a[i + 1] * (hat + step * (d + again) / 2)
    return p.x


def runge_kutta(p, stages, weights):
    """Apply Butcher's tableau to d(x / alpha) / d rho = eps."""
    for i in range(p.steps):
        step, hat, ks = p.r[i + 1] - p.r[i], p.x / p.a[i], []
        for row in [(), *stages]:
            if p.s[i + 1] == 0 and row:
                return p.data(i, ks[0])
            rho = p.r[i] + step * sum(row)
            at = levels(p.sde, at_lambda(p.sde, np.array([-math.log(rho)])))
            moved = hat + step * sum((c * k for c, k in zip(row, ks, strict=True)), 0 * p.x)
            ks.append(p.net(at.alpha[0] * moved))
        p.x = p.a[i + 1] * (hat + step * sum(b * k for b, k in zip(weights, ks, strict=True)))
    return p.x


def midpoint(p):
    """The midpoint method, in rho."""
    return runge_kutta(p, [(1 / 2,)], (0, 1))


def rk4(p):
    """Kutta's fourth-order method, in rho."""
    return runge_kutta(p, [(1 / 2,), (0, 1 / 2), (0, 0, 1)], (1 / 6, 1 / 3, 1 / 3, 1 / 6))


def lms(p, order=4):
    """Linear multistep in rho: weights that integrate 1, v, .., v^(k-1) exactly over the step."""
    es = []
    for i in range(p.steps):
        es.insert(0, p.net(p.x))
        step, k = p.r[i + 1] - p.r[i], np.arange(min(order, i + 1))
        v = (p.r[i - k] - p.r[i]) / step
        weights = np.linalg.solve(v[None] ** k[:, None], 1 / (k + 1))
        moved = p.x / p.a[i] + step * sum(w * e for w, e in zip(weights, es, strict=False))
        p.x = p.a[i + 1] * moved
    return p.x


SINGLESTEP = (0.5, 1.0), (1.0, 1.0), (0.3, 0.5)
FIXED = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]]


def transfer(p, x, e, start, end):
    """arXiv:2202.09778, eq. 11, as DDIM's step between two levels (alpha, sigma)."""
    (a, s), (b, q) = start, end
    return b / a * x + (q - b / a * s) * e


def ipndm(p, order=4):
    """arXiv:2204.13902, app. B."""
    es = []
    for i in range(p.steps):
        es.insert(0, p.net(p.x))
        weights = FIXED[min(order, i + 1) - 1]
        e = sum(w * e for w, e in zip(weights, es, strict=False))
        p.x = transfer(p, p.x, e, (p.a[i], p.s[i]), (p.a[i + 1], p.s[i + 1]))
    return p.x


def pndm(p):
    """arXiv:2202.09778, Alg. 2: pseudo Runge-Kutta three times, then pseudo linear multistep."""
    es = []
    for i in range(p.steps):
        here, there = (p.a[i], p.s[i]), (p.a[i + 1], p.s[i + 1])
        es.insert(0, p.net(p.x))
        e = es[0]
        if there[1] and i < 3:
            at = levels(p.sde, np.array([(p.t[i] + p.t[i + 1]) / 2]))
            middle = at.alpha[0], at.sigma[0]
            e2 = p.net(transfer(p, p.x, e, here, middle))
            e3 = p.net(transfer(p, p.x, e2, here, middle))
            e4 = p.net(transfer(p, p.x, e3, here, there))
            e = (e + 2 * e2 + 2 * e3 + e4) / 6
        elif there[1]:
            e = sum(w * e for w, e in zip(FIXED[3], es, strict=False))
        p.x = transfer(p, p.x, e, here, there)
    return p.x


def multistep(p, order, eta, middle):
    """MATH 7: D1 and D2 from quotients of outputs in lambda, with psi1, psi2, psi3."""
    ms, size = [], (len(p.basis) - 1) // 2
    for i in range(p.steps):
        ms.insert(0, p.net(p.x))
        if p.s[i + 1] == 0:
            return p.a[i + 1] * ms[0]
        h = p.l[i + 1] - p.l[i]
        big = (1 + eta) * h
        psi1 = -math.expm1(-big)
        psi2 = 1 - psi1 / big
        psi3 = 1 / 2 - psi2 / big
        total = psi1 * ms[0]
        if min(order, i + 1) >= 2:
            r0 = (p.l[i] - p.l[i - 1]) / h
            d0 = (ms[0] - ms[1]) / r0
            total = total + (psi1 / 2 if middle else psi2) * d0
        if min(order, i + 1) >= 3:
            r1 = (p.l[i - 1] - p.l[i - 2]) / h
            d1 = (ms[1] - ms[2]) / r1
            second = (d0 - d1) / (r0 + r1)
            total = total + psi2 * r0 * second + 2 * psi3 * second
        x = p.s[i + 1] / p.s[i] * math.exp(-eta * h) * p.x + p.a[i + 1] * total
        z = p.basis[size + len(p.inputs)]
        p.x = x + p.s[i + 1] * math.sqrt(-math.expm1(-2 * eta * h)) * z
    return p.x


def dpmpp_2m(p, exact=False, eta=0.0):
    """arXiv:2211.01095, Alg. 2; with noise arXiv:2309.05019."""
    return multistep(p, 2, eta, not exact)


def dpmpp_3m(p, eta=0.0):
    """DPM-Solver++ 3M: 2M with the second difference, which published code halves."""
    return multistep(p, 3, eta, False)


def unipc(p, order=3, bh1=False, corrector=True):
    """arXiv:2302.04867, Alg. 5 to 8, in x0: R c = b for B = h or exp(h) - 1, with hh = -h."""

    def move(i, k, x, outputs, points):
        """Return the state at time i + 1 from the differences of `outputs` at `points` to m0."""
        hh = -(p.l[i + 1] - p.l[i])
        big = hh if bh1 else math.expm1(hh)
        base = p.s[i + 1] / p.s[i] * x - p.a[i + 1] * math.expm1(hh) * outputs[0]
        if not points:
            return base
        r = np.array(points)
        g, b = math.expm1(hh) / hh - 1, []
        for j in range(1, len(r) + 1):
            b.append(math.factorial(j) * g / big)
            g = g / hh - 1 / math.factorial(j + 1)
        c = np.linalg.solve(r[None] ** np.arange(len(r))[:, None], b)
        c = [1 / 2] if len(r) == 1 else c
        differences = [(m - outputs[0]) / q for m, q in zip(outputs[1:], r, strict=True)]
        total = sum(w * d for w, d in zip(c, differences, strict=True))
        return base - p.a[i + 1] * big * total

    ms, x = [p.net(p.x)], p.x
    for i in range(p.steps):
        if p.s[i + 1] == 0:
            return p.a[i + 1] * ms[0]
        k, h = min(order, i + 1, p.steps - i), p.l[i + 1] - p.l[i]
        points = [(p.l[i - j] - p.l[i]) / h for j in range(1, k)]
        predicted = move(i, k, x, ms[:k], points)
        if i == p.steps - 1:
            return predicted
        new = p.net(predicted)
        x = move(i, k, x, [*ms[:k], new], [*points, 1.0]) if corrector else predicted
        ms.insert(0, new)
    return x


def churn(p, s_churn=30.0, s_min=0.01, s_max=1.0, s_noise=1.0):
    """arXiv:2206.00364, Alg. 2, on x / alpha, with eps = (x - D) / rho."""
    size = (len(p.basis) - 1) // 2
    for i in range(p.steps):
        inside = s_min <= p.r[i] <= s_max
        raised = p.r[i] * (1 + (min(s_churn / p.steps, math.sqrt(2) - 1) if inside else 0))
        alpha = p.a[i]
        if inside:
            alpha = levels(p.sde, at_lambda(p.sde, np.array([-math.log(raised)]))).alpha[0]
        z = p.basis[size + len(p.inputs) + 1]
        hat = p.x / p.a[i] + s_noise * math.sqrt(max(0, raised**2 - p.r[i] ** 2)) * z
        d = p.net(alpha * hat)
        end = hat + (p.r[i + 1] - raised) * d
        if p.s[i + 1]:
            again = p.net(p.a[i + 1] * end)
            end = hat + (p.r[i + 1] - raised) * (d + again) / 2
        p.x = p.a[i + 1] * end
    return p.x


def restart(p, low=0.06, high=0.3, repeats=2, steps=4):
    """arXiv:2306.14878, Alg. 1, on x / alpha, with `steps` given."""
    size, hat = (len(p.basis) - 1) // 2, p.x / p.a[0]
    j = max(i for i in range(p.steps + 1) if p.r[i] >= low)
    k = np.arange(steps + 1) / steps
    back = (high ** (1 / 7) + k * (p.r[j] ** (1 / 7) - high ** (1 / 7))) ** 7
    legs = [p.r[: j + 1], *[back] * repeats, p.r[j:]]
    for number, leg in enumerate(legs):
        if 1 <= number <= repeats:
            hat = hat + math.sqrt(high**2 - p.r[j] ** 2) * p.basis[size + len(p.inputs)]
        for here, there in pairwise(leg):
            alphas = [
                levels(p.sde, at_lambda(p.sde, np.array([-math.log(r)]))).alpha[0]
                for r in (here, there or here)
            ]
            d = p.net(alphas[0] * hat)
            again = p.net(alphas[1] * (hat + (there - here) * d)) if there else d
            hat = hat + (there - here) * (d + again) / 2
    return p.a[-1] * hat


def singlestep(p, r, eta, middle):
    """MATH 9b with eta: a stage at lambda + r h, and the two parts of one Brownian path."""
    size = (len(p.basis) - 1) // 2
    for i in range(p.steps):
        m = p.net(p.x)
        if p.s[i + 1] == 0:
            return p.a[i + 1] * m
        h, (a, s) = p.l[i + 1] - p.l[i], p.between(i, r)
        if r == 1:
            a, s = p.a[i + 1], p.s[i + 1]
        big = (1 + eta) * h
        z1, z2 = p.basis[size + len(p.inputs)], p.basis[size + len(p.inputs) + 1]
        stage = s / p.s[i] * math.exp(-eta * r * h) * p.x - a * math.expm1(-r * big) * m
        d = p.net(stage + s * math.sqrt(1 - math.exp(-2 * eta * r * h)) * z1) - m
        psi1 = 1 - math.exp(-big)
        psi2 = psi1 / 2 if middle else 1 - psi1 / big
        x = p.s[i + 1] / p.s[i] * math.exp(-eta * h) * p.x + p.a[i + 1] * (psi1 * m + psi2 / r * d)
        left = math.exp(-2 * eta * (1 - r) * h)
        noise = math.sqrt(left - math.exp(-2 * eta * h)) * z1 + math.sqrt(1 - left) * z2
        p.x = x + p.s[i + 1] * noise
    return p.x


def seeds_2(p, r=0.5, eta=1.0):
    """arXiv:2305.14267, Alg. 2."""
    return singlestep(p, r, eta, False)


def dpmpp_sde(p, r=0.5, eta=1.0):
    """arXiv:2211.01095, Alg. 1, with noise."""
    return singlestep(p, r, eta, True)


def sa_solver(p, tau=1.0, low=0.05, high=1.0, predictor=2, corrector=2):
    """arXiv:2309.05019, Alg. 1: lines, with psi1 and psi2 of MATH 7."""
    size, x, ms = (len(p.basis) - 1) // 2, p.x, [p.net(p.x)]
    for i in range(p.steps):
        if p.s[i + 1] == 0:
            return p.a[i + 1] * ms[0]
        eta = tau**2 if low <= p.r[i] <= high else 0.0
        h = p.l[i + 1] - p.l[i]
        psi1 = 1 - math.exp(-(1 + eta) * h)
        psi2 = 1 - psi1 / ((1 + eta) * h)
        z = p.basis[size + len(p.inputs)]
        base = p.s[i + 1] / p.s[i] * math.exp(-eta * h) * x + p.a[i + 1] * psi1 * ms[0]
        base = base + p.s[i + 1] * math.sqrt(1 - math.exp(-2 * eta * h)) * z
        predicted = base
        if predictor == 2 and i:
            slope = h / (p.l[i] - p.l[i - 1]) * (ms[0] - ms[1])
            predicted = base + p.a[i + 1] * psi2 * slope
        if i == p.steps - 1:
            return predicted
        new = p.net(predicted)
        x = base + p.a[i + 1] * psi2 * (new - ms[0]) if corrector else predicted
        ms.insert(0, new)
    return x


PAPERS = [
    (churn, {}),
    (churn, {"s_churn": 0.6, "s_min": 0.1, "s_max": math.inf, "s_noise": 1.007}),
    (restart, {"steps": 4}),
    (restart, {"low": 0.5, "high": 2.0, "repeats": 3, "steps": 2}),
    *((m, {"r": r, "eta": eta}) for m in (seeds_2, dpmpp_sde) for r, eta in SINGLESTEP),
    *((sa_solver, {"predictor": a, "corrector": b}) for a in (1, 2) for b in (0, 2)),
    (sa_solver, {"tau": 0.6, "low": 0.2, "high": 5.0}),
    (dpm_solver_2, {}),
    (dpm_solver_3, {}),
    (dpmpp_2s, {}),
    (heun, {}),
    (midpoint, {}),
    (rk4, {}),
    (pndm, {}),
    *((method, {"order": k}) for method in (lms, ipndm) for k in (1, 2, 3, 4)),
    *(
        (dpmpp_2m, {"exact": exact, "eta": eta})
        for exact in (False, True)
        for eta in (0.0, 0.5, 1.0)
    ),
    *((dpmpp_3m, {"eta": eta}) for eta in (0.0, 0.5, 1.0)),
    *((unipc, {"order": k, "bh1": b}) for k in (1, 2, 3, 4) for b in (False, True)),
    *((unipc, {"order": k, "corrector": False}) for k in (1, 2, 3, 4)),
]


@pytest.mark.parametrize(
    ("frame", "times"),
    [
        pytest.param("sub_vp", DOWN, id="sub_vp-to_data"),
        pytest.param("ve", TIMES, id="ve-above"),
        pytest.param("sub_vp", TIMES, id="sub_vp-above", marks=pytest.mark.thorough),
        pytest.param("ve", DOWN, id="ve-to_data", marks=pytest.mark.thorough),
    ],
)
@pytest.mark.parametrize("method", PAPERS, ids=lambda m: label((m[0].__name__, m[1])))
def test_sampler_is_its_papers_algorithm(frame, times, method):
    """A coefficient, a warm-up order or the last step would differ from the published one."""
    paper, settings = method
    sde = FRAMES[frame]
    table = SAMPLERS[paper.__name__](sde, times, **settings)
    p = Paper(sde, times, len(table))
    result = paper(p, **settings)
    ours = unroll(table)
    assert len(p.inputs) == len(table)
    assert_same(ours, (np.array(p.inputs), result), 1e-11)
