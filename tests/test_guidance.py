"""The combination of predictions, and the actual number of network calls."""

import functools
from dataclasses import dataclass, field, replace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.analytic import Mixture, gaussian, gaussian_flow
from diffjax.grids import logsnr_uniform, uniform
from diffjax.guidance import (
    APG,
    RAMPS,
    REFERENCES,
    RULES,
    THRESHOLDS,
    Cached,
    CFGZero,
    Classifier,
    Conditional,
    Dynamic,
    Guidance,
    Guided,
    Linear,
    Negative,
    Null,
    OtherNetwork,
    Pair,
    Query,
    Reference,
    Rescale,
    Rule,
    Several,
    Static,
    Thresholded,
)
from diffjax.prediction import Denoise, Prediction
from diffjax.samplers import ddim, dpmpp_2m, initial, run, sample
from diffjax.samplers.plan import Plan
from diffjax.schedules import Cosine
from diffjax.schedules import Linear as LinearBetas
from diffjax.sde import SDES, VE, VP

SDE = VP(LinearBetas())
LABEL = np.array([0, 1, 1, 0, -1])
B = len(LABEL)
MEAN = jnp.array([[-1.0, 0.5], [1.0, 0.0]])
DATA = Mixture(jnp.array([0.7, 0.3]), MEAN, 0.1 + 0.1 * MEAN**2)


class Calls(list):
    """Batch sizes of the calls so far; a program holds the list by identity."""

    __hash__ = object.__hash__


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Counted:
    """A denoiser that records, at run time, the batch size of each call."""

    denoise: Denoise
    calls: Any = field(metadata={"static": True})

    @property
    def sde(self):
        return self.denoise.sde

    def __call__(self, x, t, cond=None, *, key=None):
        size = x.shape[0]
        jax.debug.callback(lambda: self.calls.append(size))
        return self.denoise(x, t, cond, key=key)


def exact(sde=SDE):
    return DATA.denoiser(sde)


def worse(sde=SDE):
    """Return the denoiser of wider data, as a smaller network might have learned it."""
    return replace(DATA, var=2 * DATA.var).denoiser(sde)


def inputs(dtype=jnp.float32):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(B, 2)), dtype)
    return x, jnp.linspace(0.1, 0.9, B, dtype=dtype), {"label": jnp.asarray(LABEL)}


def reference(name, calls=None):
    """Return an entry of the catalogue with what it needs beyond its settings."""
    other = Counted(worse(), calls) if calls is not None else worse()
    return REFERENCES[name](**({"denoise": other} if name == "network" else {}))


@jax.jit
def guide(guidance, denoise, x, t, cond, weight):
    return guidance(Query(denoise, x, t, cond), weight, guidance.init(x))


@jax.jit
def ask(denoise, x, t, cond=None):
    return denoise(x, t, cond)


def at(guidance, weight, denoise=None, cond=None, dtype=jnp.float32):
    x, t, label = inputs(dtype)
    denoise = exact() if denoise is None else denoise
    return guide(guidance, denoise, x, t, cond or label, jnp.asarray(weight, dtype))[0]


def rows(weights, rule=ddim, sde=SDE):
    table = rule(sde, uniform(sde, len(weights)))
    return replace(table, weight=np.asarray(weights, float))


def keys(n=B):
    return jax.random.split(jax.random.key(0, impl="unsafe_rbg"), n)


# The product of all catalogues.


@pytest.mark.thorough
@pytest.mark.parametrize("name", REFERENCES)
def test_everything_goes_together(name):
    """A combination would fail in the loop, forget its memory, or miscount its passes.

    It could also mix up samples, return views of another x_t, or have an effect at weight 1.
    """
    x, t, cond = inputs()
    weights, calls = [3.0, 1.0, 1.5, 0.0, 2.0, 1.0, 4.0], Calls()
    plain = ask(exact(), x, t, cond)
    entries, turn = {}, [*REFERENCES].index(name)
    for i, rule in enumerate(RULES):  # all pairs of the three, few programs
        threshold = [None, *THRESHOLDS][(turn + i) % (1 + len(THRESHOLDS))]
        made = Guided(reference(name, calls), RULES[rule]())
        assert isinstance(made.reference, Reference) and isinstance(made.rule, Rule)
        made = Thresholded(made, THRESHOLDS[threshold]()) if threshold else made
        assert isinstance(made, Guidance)
        entries[rule, threshold] = made

    @jax.jit
    def loop(denoise, x):
        """Return the predictions of all rows, by every rule and threshold."""

        def row(guidance, memory, weight):
            p, memory = guidance(Query(denoise, x, t, cond), weight, memory)
            return memory, p

        return [
            jax.lax.scan(functools.partial(row, g), g.init(x), jnp.asarray(weights))[1]
            for g in entries.values()
        ]

    same = np.arange(B) != 1
    first = loop(Counted(exact(), calls), x)
    jax.effects_barrier()
    assert sum(calls) == sum(g.passes(np.array(weights)) for g in entries.values()) * B
    second = loop(Counted(exact(), calls), x.at[1].add(1.0))
    for (_, threshold), p, other in zip(entries, first, second, strict=True):
        chex.assert_tree_all_finite(p)
        chex.assert_trees_all_equal(p.output, p.x0)
        for x0, eps in zip(p.x0, p.eps, strict=True):
            np.testing.assert_allclose(SDE.perturb(x0, eps, t), x, atol=1e-4)
        if not threshold:
            chex.assert_trees_all_close(jax.tree.map(lambda a: a[1], p), plain, rtol=1e-5)
        np.testing.assert_array_equal(other.x0[:, same], p.x0[:, same])
        assert np.abs(other.x0[:, 1] - p.x0[:, 1]).max() > 1e-3


@functools.cache
def guided_in(frame, turns):
    """Return views in this frame at equal log-SNR, by every rule with a kind of reference, or both.

    turns: of the references, which meet the rules in turn.
    """
    sde = SDES[frame](Cosine(), t_min=0.05, t_max=0.95)
    x, t, cond = inputs()
    rules = [Linear(), Rescale(), APG(norm=0.5)]  # the velocity of CFGZero is that of the process
    references = [OtherNetwork(worse(sde)), Null()]
    pairs = [(references[(i + k) % 2], rule) for k in turns for i, rule in enumerate(rules)]

    @jax.jit
    def views(weight):
        made, y = [], x * jnp.hypot(sde.alpha(t), sde.sigma(t))[:, None]
        for guidance in (Guided(Cached(ref), rule) for ref, rule in pairs):
            p, _ = guidance(Query(exact(sde), y, t, cond), weight, guidance.init(y))
            made.append((p.x0, p.eps))
        return made

    return views(jnp.asarray(2.5))


@pytest.mark.thorough
@pytest.mark.parametrize("turns", [(0,), pytest.param((1,), marks=pytest.mark.thorough)], ids=str)
@pytest.mark.parametrize(
    "frame", ["ve", *(pytest.param(f, marks=pytest.mark.thorough) for f in ("flow", "sub_vp"))]
)
def test_every_process_guides_alike(frame, turns):
    """Guidance would be right for VP only: at equal log-SNR the views are those of VP."""
    there, here = guided_in(frame, turns), guided_in("vp", turns)
    chex.assert_trees_all_close(there, here, rtol=2e-4, atol=2e-4)


def test_passes_of_a_run_are_those_that_were_made():
    """Guidance would call the network twice where a row has weight 1, or in two batches."""
    calls, x = Calls(), inputs()[0]
    plan = Plan(rows([1.0, 2.0, 0.0, 1.0, 3.0]), Guided())
    x0 = sample(
        Counted(exact(), calls), plan.table, x, keys(), cond=inputs()[2], guidance=plan.guidance
    )
    jax.block_until_ready(x0)
    jax.effects_barrier()
    assert calls == [B, 2 * B, 2 * B, B, 2 * B]
    assert sum(calls) == plan.passes * B and plan.passes == 8 and plan.rows == 5
    assert Plan(plan.table, Conditional()).passes == 5


def test_each_reference_makes_the_calls_it_names():
    """Passes would reach the network one at a time, or a cache save none of them."""
    (x, t, cond), weight = inputs(), jnp.asarray(2.0)
    for name, expected in {
        "null": [[2 * B]] * 3,
        "negative": [[2 * B]] * 3,
        "several": [[2 * B]] * 3,
        "network": [[B, B]] * 3,
        "cached": [[2 * B], [B], [2 * B]],
    }.items():
        calls = Calls()
        made = Guided(reference(name, calls))
        step = jax.jit(
            lambda denoise, memory, g=made: g(Query(denoise, x, t, cond), weight, memory)
        )
        memory, seen = made.init(x), []
        for _ in range(3):
            _, memory = step(Counted(exact(), calls), memory)
            jax.effects_barrier()
            seen, calls[:] = [*seen, list(calls)], []
        assert seen == expected, name


@pytest.mark.parametrize("cond", [None, {}])
@pytest.mark.parametrize("name", sorted(set(REFERENCES) - {"network"}))
def test_guidance_without_a_condition_is_refused(cond, name):
    """Both passes would be equal, at twice the cost and without effect."""
    x, t, _ = inputs()
    guidance = Guided(reference(name))
    with pytest.raises(ValueError, match="needs a condition"):
        guidance(Query(exact(), x, t, cond), jnp.asarray(2.0), guidance.init(x))


# References.


def test_weights_1_and_0_are_the_conditional_and_the_reference():
    """Weights would be the paper's omega, which is smaller by one (T27)."""
    x, t, cond = inputs()
    chex.assert_trees_all_equal(at(Guided(), 1.0), ask(exact(), x, t, cond))
    chex.assert_trees_all_close(at(Guided(), 0.0), ask(exact(), x, t), rtol=1e-5, atol=1e-6)
    assert np.abs(at(Guided(), 1.0).x0 - at(Guided(), 0.0).x0).max() > 0.1


@pytest.mark.parametrize("weight", [-0.5, 0.3, 2.0, 7.5])
def test_guided_views_are_extrapolated_from_the_reference(weight, x64):
    """Guidance would not extrapolate from the reference, x_ref + w (x_cond - x_ref).

    The two views could also belong to different x_t.
    """
    x, t, cond = inputs(jnp.float64)
    p = at(Guided(), weight, dtype=jnp.float64)
    with_label, without = ask(exact(), x, t, cond), ask(exact(), x, t)
    for view in ("output", "x0", "eps"):
        a, b = getattr(with_label, view), getattr(without, view)
        np.testing.assert_allclose(getattr(p, view), b + weight * (a - b), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(SDE.perturb(p.x0, p.eps, t), x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(p.x0[-1], without.x0[-1], rtol=1e-9)  # no label: nothing to guide


@pytest.mark.parametrize("weight", [-0.5, 2.5])
@pytest.mark.typed
def test_what_must_be_the_same_is(weight):
    """A reference would differ from its definition.

    Each of these is classifier-free guidance, or nothing at all.
    """
    p = at(Guided(), weight)
    near = {"rtol": 1e-4, "atol": 1e-5}
    for same in (
        Negative({"label": -1}),
        Negative({"label": jnp.full(B, -1)}),
        Several({"label": 1.0}),
        Cached(every=1),
        OtherNetwork(exact(), conditional=False),
    ):
        chex.assert_trees_all_close(at(Guided(same), weight), p, **near)
    x, t, cond = inputs()
    for nothing in (OtherNetwork(exact()), Negative(cond), Several({"label": 0.0})):
        chex.assert_trees_all_close(
            at(Guided(nothing), weight), ask(exact(), x, t, cond), rtol=1e-4, atol=1e-5
        )


def test_a_negative_label_is_led_away_from():
    """Samples would be led towards the negative label: the score is w s_0 + (1 - w) s_1."""
    x, t, _ = inputs()
    of = lambda k: {"label": jnp.full(B, k)}
    p = at(Guided(REFERENCES["negative"](label=1)), 3.0, cond=of(0))
    a, b = (ask(exact(), x, t, of(k)).eps for k in (0, 1))
    np.testing.assert_allclose(p.eps, 3 * a - 2 * b, rtol=1e-4, atol=1e-4)


@pytest.mark.typed
def test_the_guided_law_of_two_gaussians_is_a_gaussian():
    """A wrong weight, sign or view would end in another distribution.

    With equal variances at every level p_0^w p_1^(1-w) is N(w m_0 + (1-w) m_1, v), whose flow is
    known.
    """
    means, var, w = jnp.array([[-0.4, 0.2], [0.6, 0.1]]), jnp.full((2,), 0.3), 2.5
    data = Mixture(jnp.ones(2) / 2, means, jnp.stack([var, var]))
    guided, cond = w * means[0] + (1 - w) * means[1], {"label": jnp.zeros(B, int)}
    for sde in (SDE, VE(Cosine(), t_min=0.02, t_max=0.98)):
        x, rest = initial(sde, keys(), (2,))
        table = dpmpp_2m(sde, logsnr_uniform(sde, 100))
        table = replace(table, weight=np.full(len(table), w))
        guidance = Guided(Negative({"label": 1}))
        made = sample(data.denoiser(sde), table, x, rest, cond=cond, guidance=guidance)
        t, s = jnp.full(B, float(table.t[0])), jnp.zeros(B)
        one = gaussian(guided, var).denoiser(sde)
        p = guide(guidance, data.denoiser(sde), x, t, cond, jnp.asarray(w))[0]
        chex.assert_trees_all_close(p.eps, ask(one, x, t).eps, rtol=1e-4, atol=1e-4)
        alone = sample(one, table, x, rest)
        chex.assert_trees_all_close(made, alone, rtol=1e-4, atol=1e-4)
        end = jax.jit(gaussian_flow, static_argnums=0)(sde, guided, var, x, t, s)
        assert np.abs(made - end).max() < 0.02
        assert np.abs(made.mean(0) - guided).max() < 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Two:
    """The exact denoiser of x0 = (a, b) with two labels, `label` of a and `map` of b.

    a and b are independent, so that the score of both conditions is a sum.
    """

    @property
    def sde(self):
        return SDE

    def __call__(self, x, t, cond=None, *, key=None):
        one = exact()
        other = replace(DATA, mean=-2 * MEAN).denoiser(SDE)
        a = one(x[:, :2], t, {"label": cond["label"]})
        there = cond["map"]
        b = other(x[:, 2:], t, {"label": jnp.where(jnp.isnan(there), -1, there).astype(int)})
        return jax.tree.map(lambda *both: jnp.concatenate(both, 1), a, b)


@pytest.mark.parametrize(
    "order",
    [("label", "map"), pytest.param(("map", "label"), marks=pytest.mark.thorough)],
)
@pytest.mark.typed
def test_each_condition_has_a_weight_of_its_own(order):
    """One condition would be weighted by the share of the other.

    Independent coordinates are each guided as if alone, in any order, by 1 + share (w - 1).
    """
    shares, w = {"label": 0.5, "map": 3.0}, 2.0
    x, t, cond = inputs()
    both, values = jnp.concatenate([x, x + 1], 1), jnp.array([0.0, 1, 0, jnp.nan, 1])
    guidance = Guided(Several({name: shares[name] for name in order}))
    p, _ = guide(guidance, Two(), both, t, cond | {"map": values}, jnp.asarray(w))
    assert guidance.passes(np.array([w, 1.0])) == 4
    p_label, _ = guide(Guided(), exact(), x, t, cond, jnp.asarray(1.5))
    np.testing.assert_allclose(p.x0[:, :2], p_label.x0, rtol=1e-4, atol=1e-4)
    other = replace(DATA, mean=-2 * MEAN).denoiser(SDE)
    label = {"label": jnp.where(jnp.isnan(values), -1, values).astype(int)}
    p_map, _ = guide(Guided(), other, x + 1, t, label, jnp.asarray(4.0))
    np.testing.assert_allclose(p.eps[:, 2:], p_map.eps, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (lambda: Several({}), "needs a share"),
        (lambda: Cached(every=0), "every=0"),
        (lambda: Rescale(phi=1.5), "phi=1.5"),
        (lambda: APG(norm=0.0), "norm=0.0"),
        (lambda: APG(momentum=1.0), "momentum=1.0"),
        (lambda: CFGZero(still=-1), "still=-1"),
        (lambda: Static(0.0), "bound=0.0"),
        (lambda: Dynamic(share=0.0), "share=0.0"),
        (lambda: Dynamic(bound=-1.0), "bound=-1.0"),
        (lambda: at(Guided(Several({"map": 1.0})), 2.0), r"shares of \['map'\].*label"),
        (lambda: at(Guided(Negative({"map": 1.0})), 2.0), r"negative \['map'\].*label"),
    ],
)
def test_bad_settings_are_refused_with_their_value(wrong, line):
    with pytest.raises(ValueError, match=line):
        wrong()


def drifts(guidance, steps=40, weight=3.0):
    """Return the result of 40 steps of DDIM for 64 samples of a mixture."""
    cond = {"label": jnp.arange(64) % 2}
    x, rest = initial(SDE, keys(64), (2,))
    table = ddim(SDE, logsnr_uniform(SDE, steps))
    table = replace(table, weight=np.full(len(table), weight))
    return np.asarray(run(exact(), table, x, rest, cond=cond, guidance=guidance).x)


@pytest.mark.thorough
def test_the_error_of_a_cached_reference_is_small_and_first_order():
    """A reused direction would be that of another x_t. The docstring states the error."""
    whole = drifts(Guided())
    unguided = np.sqrt(((drifts(Guided(), weight=1.0) - whole) ** 2).mean())
    error = lambda every: np.sqrt(((drifts(Guided(Cached(every=every))) - whole) ** 2).mean())
    two, four = error(2), error(4)
    assert 0 < two < four
    assert two < 0.05 * unguided and four < 0.15 * unguided


# Rules.


def numbers(seed=1, shape=(3, 4, 4, 2)):
    """Return two predictions at the same x_t in float64."""
    rng = np.random.default_rng(seed)
    x, a, b = rng.normal(size=(3, *shape))
    t = np.array([0.2, 0.5, 0.8])
    p = lambda x0: Prediction(*(jnp.asarray(v) for v in (x0, x0, eps(x, x0, t))))
    return x, t, p(a), p(b)


def values(a):
    """Return one value per sample, in a shape that broadcasts."""
    return np.reshape(a, (-1, 1, 1, 1))


def eps(x, x0, t):
    alpha, sigma = (values(f(jnp.asarray(t))) for f in (SDE.alpha, SDE.sigma))
    return (x - alpha * x0) / sigma


def combine(rule, t, a, b, weight, memory=None, sde=SDE):
    memory = rule.init(a.x0) if memory is None else memory
    return rule(Pair(sde, jnp.asarray(t), a, b), jnp.asarray(weight), memory)


@pytest.mark.parametrize("rule", [Linear(), Rescale(phi=0.0), APG(parallel=1.0, momentum=0.0)])
def test_rules_without_their_correction_are_linear(rule, x64):
    """A correction would remain although its setting is zero."""
    _, t, a, b = numbers()
    p, _ = combine(rule, t, a, b, 3.0)
    np.testing.assert_allclose(p.x0, b.x0 + 3 * (a.x0 - b.x0), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(p.eps, b.eps + 3 * (a.eps - b.eps), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.typed
def test_rules_keep_x_t_in_float64(name, x64):
    """The two views would belong to different states."""
    x, t, a, b = numbers()
    p, _ = combine(RULES[name](), t, a, b, 3.0)
    np.testing.assert_allclose(p.eps, eps(x, np.asarray(p.x0), t), rtol=1e-9, atol=1e-9)
    assert np.abs(p.x0 - a.x0).max() > 0.1


def test_rescale_is_the_formula_of_the_paper(x64):
    """The rule would differ from arXiv:2305.08891, sec. 3.4, in plain NumPy."""
    _, t, a, b = numbers()
    cfg = np.asarray(b.x0 + 5 * (a.x0 - b.x0))
    factor = [np.std(np.asarray(p)) / np.std(q) for p, q in zip(a.x0, cfg, strict=True)]
    rescaled = cfg * np.reshape(factor, (-1, 1, 1, 1))
    p, _ = combine(Rescale(phi=0.7), t, a, b, 5.0)
    np.testing.assert_allclose(p.x0, 0.7 * rescaled + 0.3 * cfg, rtol=1e-10)
    full, _ = combine(Rescale(phi=1.0), t, a, b, 5.0)
    np.testing.assert_allclose(full.x0.std((1, 2, 3)), a.x0.std((1, 2, 3)), rtol=1e-10)


def test_apg_is_the_algorithm_of_the_paper(x64):
    """The rule would differ from arXiv:2410.02416, Alg. 1: momentum, norm and projection."""
    rule, memory = APG(parallel=0.2, norm=8.5, momentum=-0.6), None
    average, cut = np.zeros((3, 4, 4, 2)), 0
    for seed in range(3):
        _, t, a, b = numbers(seed)
        p, memory = combine(rule, t, a, b, 4.0, memory)
        average = np.asarray(a.x0 - b.x0) - 0.6 * average
        for k in range(3):
            d, told = average[k], np.asarray(a.x0[k])
            cut += np.linalg.norm(d) > 8.5
            d = d * min(1, 8.5 / np.linalg.norm(d))
            unit = told / np.linalg.norm(told)
            parallel = (d * unit).sum() * unit
            guided = told + 3 * (d - parallel + 0.2 * parallel)
            np.testing.assert_allclose(p.x0[k], guided, rtol=1e-10, atol=1e-10)
    assert 0 < cut < 9


@pytest.mark.parametrize("frame", SDES)
def test_cfg_zero_scales_the_reference_to_fit(frame, x64):
    """The reference would not have its best scale (arXiv:2503.18886).

    The scale of the velocity is 1 where the difference is orthogonal.
    """
    sde = SDES[frame](Cosine(), t_min=0.1, t_max=0.9)
    x, t, _, _ = numbers()
    alpha, sigma = (values(f(jnp.asarray(t))) for f in (sde.alpha, sde.sigma))
    dalpha, dsigma = map(values, sde.slopes(jnp.asarray(t)))

    def made(u):
        """Return the prediction with velocity u at x."""
        whole = alpha * dsigma - dalpha * sigma
        x0, noise = (dsigma * x - sigma * u) / whole, (alpha * u - dalpha * x) / whole
        return Prediction(*(jnp.asarray(a) for a in (x0, x0, noise)))

    near = {"rtol": 1e-8, "atol": 1e-8}
    u, v = np.random.default_rng(3).normal(size=(2, *x.shape))
    s = values((u * v).sum((1, 2, 3)) / (v * v).sum((1, 2, 3)))
    expected = made(s * v + 3 * (u - s * v))
    p, _ = combine(CFGZero(), t, made(u), made(v), 3.0, sde=sde)
    chex.assert_trees_all_close(p, expected, **near)
    first, memory = combine(CFGZero(still=1), t, made(u), made(v), 3.0, sde=sde)
    chex.assert_trees_all_close(first, made(0 * u), **near)
    second, _ = combine(CFGZero(still=1), t, made(u), made(v), 3.0, memory, sde=sde)
    chex.assert_trees_all_close(second, expected, **near)
    w = u - s * v + v  # differs from v by what is orthogonal to it
    p, q = (combine(rule, t, made(w), made(v), 3.0, sde=sde)[0] for rule in (CFGZero(), Linear()))
    chex.assert_trees_all_close(p, q, **near)


def test_a_still_row_leaves_the_state_where_it_is():
    """The zero velocity of CFG-Zero* would move x in the frame for which it was published."""
    sde = SDES["flow"](LinearBetas(), t_min=0.05, t_max=0.95)
    x, _, cond = inputs()
    guidance, table = Guided(rule=CFGZero(still=2)), rows([2.0] * 4, sde=sde)
    path = run(exact(sde), table, x, keys(), cond=cond, guidance=guidance, path=True).path
    np.testing.assert_allclose(path[0][1], x, rtol=1e-4, atol=1e-4)
    assert np.abs(path[0][2] - x).max() > 0.01


# Thresholds.


@pytest.mark.typed
def test_thresholds_are_their_formulas():
    """A quantile would be over the batch, or a sample within the bound be changed."""
    x0 = jnp.asarray(
        np.random.default_rng(0).normal(size=(4, 5, 5)) * [[[0.1]], [[1]], [[2]], [[5]]]
    )
    np.testing.assert_allclose(Static(0.5)(x0), np.clip(x0, -0.5, 0.5))
    np.testing.assert_array_equal(Static(np.inf)(x0), x0)
    made = Dynamic(share=0.9)(x0)
    for k in range(4):
        s = max(1.0, np.quantile(np.abs(x0[k]), 0.9))
        np.testing.assert_allclose(made[k], np.clip(x0[k], -s, s) / s, rtol=1e-5)
    np.testing.assert_allclose(made[0], x0[0], rtol=1e-6)


@pytest.mark.typed
def test_a_threshold_needs_no_guidance_and_no_condition():
    """An unconditional network could not use a threshold, or would need a second pass."""
    x, t, _ = inputs()
    guidance = Thresholded(Conditional(), Static(0.3))
    p, _ = guide(guidance, exact(), x, t, None, jnp.asarray(1.0))
    np.testing.assert_allclose(p.x0, np.clip(ask(exact(), x, t).x0, -0.3, 0.3), rtol=1e-5)
    np.testing.assert_allclose(SDE.perturb(p.x0, p.eps, t), x, atol=2e-5)
    assert guidance.passes(np.ones(4)) == 4


# A classifier.


def told(x, t, cond):
    """Return log p(y | x_t) of the mixture, exactly; 0 for no label."""
    label = cond["label"]
    share = jnp.where(label < 0, 0.0, jnp.log(DATA.weight)[label])
    return DATA.logp(SDE, x, t, cond) + share - DATA.logp(SDE, x, t)


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_the_exact_classifier_is_classifier_free_guidance(weight):
    """Guidance by a classifier would differ from the classifier-free one.

    eps - w sigma grad log p(y | x_t) of the unconditional model is the guided prediction, exactly.
    """
    classifier, calls = Classifier(jax.tree_util.Partial(told)), Calls()
    p = at(classifier, weight, Counted(exact(), calls))
    jax.effects_barrier()
    chex.assert_trees_all_close(p, at(Guided(), weight), rtol=2e-4, atol=2e-4)
    assert sum(calls) == B * classifier.passes(np.array([weight])) == B
    cut = Thresholded(classifier, Static(0.5))
    assert np.abs(at(cut, 9.0).x0).max() <= 0.5


@pytest.mark.typed
def test_a_classifier_may_guide_a_conditional_network():
    """The gradient would be added to the unconditional prediction only."""
    x, t, cond = inputs()
    both = Classifier(jax.tree_util.Partial(told), conditional=True)
    chex.assert_trees_all_close(at(both, 0.0), ask(exact(), x, t, cond), rtol=1e-5, atol=1e-5)
    twice = at(both, 1.0).eps - at(both, 0.0).eps
    once = at(Guided(), 1.0).eps - at(Guided(), 0.0).eps
    np.testing.assert_allclose(twice, once, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="needs a condition"):
        both(Query(exact(), x, t, {}), jnp.asarray(1.0), both.init(x))


# Ramps.


@pytest.mark.parametrize("name", RAMPS)
@pytest.mark.typed
def test_ramps_have_mean_1(name):
    """A ramp would guide more, on average, than the weight states."""
    t = (np.arange(1000) + 0.5) / 1000
    ramp = RAMPS[name](t)
    assert abs(ramp.mean() - 1) < 1e-6 and (ramp >= 0).all() and (np.diff(ramp) <= 0).all()
    assert name == "constant" or (ramp[0] > 1.9 and ramp[-1] < 0.01)


def test_settings_retrace_and_networks_do_not():
    """Every network, or every call, would compile its own program."""
    traced = jax.tree.structure(Guided(OtherNetwork(worse()), APG()))
    assert traced == jax.tree.structure(Guided(OtherNetwork(replace(worse(), data=DATA)), APG()))
    assert traced != jax.tree.structure(Guided(OtherNetwork(worse()), Rescale()))
    assert hash(jax.tree.structure(Guided(Several({"label": 2.0}))))
