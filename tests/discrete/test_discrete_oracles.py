"""Discrete diffusion against all 81 states: the bound is -log p, and samplers have its law."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from diffjax import nets, parameterization, schedules, sde
from diffjax.denoiser import Denoiser, Model
from diffjax.discrete import Masked, Uniform, draw, tokens
from diffjax.discrete.processes import lost, rate, time
from diffjax.samplers.tokens import ancestral, first_hitting

PROCESSES = (Masked, Uniform)
FLOW = sde.Flow(schedules.Logit())


def states(k: int, length: int) -> np.ndarray:
    return np.array([*itertools.product(range(k), repeat=length)])


def law(name: str) -> tuple[int, int, np.ndarray]:
    """Return levels K, length L and the probabilities of all K^L items."""
    if name == "ising":  # a ring of six spins in a field
        spins = 2 * states(2, 6) - 1
        p = np.exp(0.7 * (spins * np.roll(spins, 1, 1)).sum(1) + 0.2 * spins.sum(1))
        return 2, 6, p / p.sum()
    p = np.random.Generator(np.random.Philox(key=3)).gamma(2.0, size=81)
    return 3, 4, p / p.sum()


def forward(process, k: int, gone: float) -> np.ndarray:
    """Return q(x_t | x0) of one token, (K, states)."""
    fresh = np.eye(k + 1)[k] if process is Masked else np.full(k, 1 / k)
    return (1 - gone) * np.eye(k, len(fresh)) + gone * fresh[None]


def joint(q: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """Return the products of q over tokens, (clean, noisy)."""
    return np.prod(q[clean[:, None, :], noisy[None, :, :]], -1)


def denoised(process, name: str, gone: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all noisy states, their q(x_t | x0), and log p(x0 of each token | x_t)."""
    k, length, p = law(name)
    clean, noisy = states(k, length), states(k + (process is Masked), length)
    q = joint(forward(process, k, gone), clean, noisy)
    weights = p[:, None] * q
    each = np.stack([weights[clean[:, i] == c].sum(0) for i in range(length) for c in range(k)])
    each = each.reshape(length, k, -1).transpose(2, 0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        post = np.where(
            each.sum(-1, keepdims=True) > 0, each / weights.sum(0)[:, None, None], 1 / k
        )
    return noisy, q, np.log(np.maximum(post, 1e-300))


FIXED = {name: make() for name, make in schedules.SCHEDULES.items() if not make().init()}
"""All schedules; those that are learned are refused by the loss."""


def nodes() -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of a quadrature over (0, 1), dense at both ends."""
    u, w = np.polynomial.legendre.leggauss(48)
    u, w = (u + 1) / 2, w / 2
    return u**3 * (10 - 15 * u + 6 * u**2), w * 30 * u**2 * (1 - u) ** 2


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", ["random", "ising"])
def test_the_bound_of_the_exact_denoiser_is_minus_log_p_of_every_item(process, name):
    """A missing term, or a weight that is off, would show in some item, under some schedule."""
    k, length, p = law(name)
    shares, weights = nodes()
    tables = [denoised(process, name, m) for m in shares]
    clean, noisy = states(k, length), tables[0][0]
    pairs = np.stack(np.meshgrid(range(len(clean)), range(len(noisy)), indexing="ij"), -1)
    x0, x = clean[pairs[..., 0].ravel()], noisy[pairs[..., 1].ravel()]
    with jax.enable_x64(True):
        nats = np.zeros(len(clean))  # of the share of lost tokens, in place of time
        for m, w, (_, q, logits) in zip(shares, weights, tables, strict=True):
            seen = np.broadcast_to(logits, (len(clean), *logits.shape)).reshape(
                -1, *logits.shape[1:]
            )
            t = time(FLOW, jnp.full(len(x), m))
            density = process(k).bound(FLOW, jnp.asarray(seen), jnp.asarray(x0), jnp.asarray(x), t)
            density = np.where(q > 0, np.reshape(density / rate(FLOW, t), q.shape), 0)
            nats += w * (q * density).sum(1)
    np.testing.assert_allclose(nats, -np.log(p), atol=1e-6)


@pytest.mark.parametrize("name", FIXED)
def test_lost_tokens_of_every_schedule(name):
    """The bound is an integral over the share of lost tokens: it would depend on the schedule."""
    process = sde.VP(FIXED[name], t_min=1e-3, t_max=1.0 if name != "geometric" else 0.9)
    with jax.enable_x64(True):
        share = jnp.linspace(0.01, 0.99, 33)
        t = time(process, share)
        np.testing.assert_allclose(lost(process, t), share, atol=1e-9)
        assert float(lost(process, jnp.array(process.t_min))) == 0
        assert float(lost(process, jnp.array(process.t_max))) == 1
        gone = lambda t: -jax.nn.sigmoid(process.logsnr(t))  # another form, by differences
        slope = (gone(t + 1e-7) - gone(t - 1e-7)) / 2e-7
        ends = gone(jnp.array([process.t_min, process.t_max]))
        exact = slope / (ends[1] - ends[0])
        keep = np.abs(np.asarray(exact / rate(process, t)) - 1) < 1e-5
        assert keep.mean() > 0.9, "the schedules of tables have kinks, where differences are off"


@pytest.mark.parametrize("process", PROCESSES)
def test_the_law_of_the_steps_tends_to_the_data(process):
    """The total variation falls as 1 / N; one step gives the product of the marginals."""
    k, length, p = law("random")
    noisy, _, _ = denoised(process, "random", 1.0)
    clean, off = (noisy < k).all(1), []
    for steps in (1, 8, 64):
        shares = np.linspace(1, 0, steps + 1)
        now = joint_from(process, k, noisy)
        for t, s in itertools.pairwise(shares):
            logits = denoised(process, "random", t)[2]
            one = jnp.ones(len(noisy))
            with jax.enable_x64(True):
                step = process(k).step(*map(jnp.asarray, (logits, noisy)), s * one, t * one)
            step = np.exp(np.asarray(step, np.float64))
            np.testing.assert_allclose(step.sum(-1), 1, atol=1e-5)
            now = now @ np.prod(step[:, np.arange(length)[None], noisy], -1)
        np.testing.assert_allclose(now.sum(), 1, atol=1e-5)
        off.append(np.abs(now[clean] - p).sum() / 2)
    assert off[0] > 0.2 and off[2] < 0.03 and 5 < off[1] / off[2] < 11, off


def joint_from(process, k: int, noisy: np.ndarray) -> np.ndarray:
    return np.prod(forward(process, k, 1.0)[0][noisy], -1)


def test_marginals_of_the_uniform_process_are_a_matrix_exponential():
    generator = np.full((3, 3), 1 / 3) - np.eye(3)
    exact = scipy.linalg.expm(generator * -np.log(1 - 0.4))
    np.testing.assert_allclose(forward(Uniform, 3, 0.4), exact, atol=1e-12)
    t = jnp.broadcast_to(time(FLOW, jnp.array(0.4)), 3)
    x0 = jnp.broadcast_to(jnp.arange(3)[:, None], (3, 40000))
    x = Uniform(3).perturb(jax.random.key(0), FLOW, x0, t)
    counted = np.array([[(row == j).mean() for j in range(3)] for row in np.asarray(x)])
    np.testing.assert_allclose(counted, exact, atol=4 * 0.5 / 200)


def exact_denoiser(process, name: str, at: float) -> Denoiser:
    """Return the exact denoiser as a table; that of the uniform process at one share only."""
    noisy, _, logits = denoised(process, name, at)
    base = noisy.max() + 1
    place = jnp.asarray(base ** np.arange(noisy.shape[1])[::-1], jnp.int32)

    def apply(params, x, c_noise, cond, *, key=None):
        return params["table"][x.astype(jnp.int32) @ place]

    init: Any = lambda *shapes: {}
    network = nets.Network(init, apply)
    model = Model(FLOW, parameterization.X0(), network)
    return Denoiser(model, {"network": {"table": jnp.asarray(logits, jnp.float32)}})


def drawn(plan, denoise, num: int, length: int, begin: int = 0) -> np.ndarray:
    index = jnp.arange(begin, begin + num)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(1), i))(index)
    result = jax.jit(plan.run)(denoise, jnp.zeros((num, length)), keys, None)
    assert int(result.bad) == -1
    return np.asarray(result.x)


def indices(x: np.ndarray, levels: int) -> np.ndarray:
    return np.asarray(tokens(jnp.asarray(x), levels))


def chi2(k: np.ndarray, p: np.ndarray, levels: int) -> float:
    """Return the statistic of the counts of items over its standard deviations above the mean."""
    code = (k * levels ** np.arange(k.shape[1])[::-1]).sum(1)
    counts, expected = np.bincount(code, minlength=len(p)), p * len(k)
    large = expected > 5
    value = ((counts - expected)[large] ** 2 / expected[large]).sum()
    return (value - large.sum()) / math.sqrt(2 * large.sum())


def test_one_token_per_row_samples_the_exact_law():
    k, length, p = law("random")
    denoise = exact_denoiser(Masked, "random", 0.5)  # the same at all times
    plan = first_hitting(FLOW, np.linspace(1, 0, length + 1), Masked(k), (length,))
    whole = drawn(plan, denoise, 20000, length)
    assert abs(chi2(indices(whole, k), p, k)) < 4
    part = drawn(plan, denoise, 7, length, begin=100)
    np.testing.assert_array_equal(part, whole[100:107])  # sample k depends on its key only
    at_once = first_hitting(FLOW, np.linspace(1, 0, 2), Masked(k), (length,))
    assert at_once.rows == 1
    assert chi2(indices(drawn(at_once, denoise, 20000, length), k), p, k) > 40


@pytest.mark.parametrize("process", PROCESSES)
def test_one_ancestral_step_samples_the_product_of_the_marginals(process):
    k, length, p = law("random")
    clean = states(k, length)
    each = [[p[clean[:, i] == c].sum() for c in range(k)] for i in range(length)]
    product = np.prod([np.array(each)[i, clean[:, i]] for i in range(length)], 0)
    plan = ancestral(FLOW, np.array([1.0, 0.0]), process(k))
    x = drawn(plan, exact_denoiser(process, "random", 1.0), 20000, length)
    assert abs(chi2(indices(x, k), product, k)) < 4


def test_rare_tokens_have_their_rate():
    """Tokens of probability 5e-6 would be drawn at another rate."""
    num, rare = 2**23, 5e-6
    logits = jnp.broadcast_to(jnp.log(jnp.array([1 - rare, rare], jnp.float32)), (1, num, 2))
    count = int(draw(jax.random.split(jax.random.key(0), 1), logits).sum())
    assert abs(count - num * rare) < 4 * math.sqrt(num * rare), count


def test_what_does_not_suit_is_refused():
    with pytest.raises(ValueError, match="allowed: ancestral"):
        first_hitting(FLOW, np.linspace(1, 0, 3), Uniform(3), (4,))
    with pytest.raises(ValueError, match="temperature=0"):
        ancestral(FLOW, np.linspace(1, 0, 3), Uniform(3), temperature=0.0)
    with pytest.raises(ValueError, match="levels <= 256"):
        Masked(257)
