"""Diffusion transformers: shapes, conditions, positions, the loop over blocks, sizes."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import random_like
from flax import linen as nn

from diffjax.nets import dit
from diffjax.nets.conditions import Label, Map, Tokens, Vector
from diffjax.nets.dit import BlockSettings, DiT, TransformerBlock
from diffjax.nets.positions import centre, fold, rotate, rotations, sincos, unfold, waved

B = 3
SMALL = {"width": 12, "depth": 2, "heads": 2}
CONDITIONS = (Label(3), Vector(2), Tokens(5), Map(1))
ALL = {"norm": "rms", "qk_norm": True, "mlp": "swiglu", "positions": "rotary"}


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def inputs(shape=(4, 4, 2)):
    cond = {
        "label": jnp.array([0, 2, 1]),
        "vector": drawn(B, 2, seed=1),
        "tokens": drawn(B, 4, 5, seed=2),
        "map": drawn(B, *shape[:-1], 1, seed=3),
    }
    return drawn(B, *shape), jnp.linspace(1.0, 900.0, B), cond


def shapes(network, x, cond=None):
    key = jax.random.key(0, impl="unsafe_rbg")
    return jax.eval_shape(network.init, key, x, jnp.zeros(len(x)), cond)


@functools.cache
def made(**settings):
    """Return a small network, random parameters, and compiled `apply`."""
    network = dit(**{**SMALL, **settings})
    *given, cond = inputs()
    known = {c.name: cond[c.name] for c in settings.get("conditions", ())}
    params = random_like(shapes(network, given[0], known))
    return network, params, jax.jit(network.apply)


def far(a, b):
    """Return the largest difference per sample, relative to the largest value of `b`."""
    return np.abs(a - b).reshape(len(a), -1).max(1) / np.abs(b).max()


FLUX = {"qk_norm": True, "positions": "rotary", "axes": (0, 2, 4), "single": 1}
SD3 = {"positions": "learned", "side": 5, "dual": 1, "mlp": "swiglu"}


def test_learned_positions_begin_as_sines_and_are_cut_from_the_middle():
    """Stable Diffusion 3 would see images of another size than its training at other places."""
    x = jnp.zeros((1, 6, 4, 1))
    params = dit(**SMALL, positions="learned", side=5, stretch=2).init(
        jax.random.key(0, impl="unsafe_rbg"), x, jnp.zeros(1), None
    )
    table = params["positions"]
    chex.assert_trees_all_close(table.reshape(25, 12), sincos((5, 5), 12, 2.0))
    chex.assert_trees_all_equal(centre(table, (3, 2)), table[1:4, 1:3].reshape(6, 12))


@pytest.mark.parametrize(
    "form",
    [(), tuple(ALL.items()), tuple(FLUX.items()), tuple(SD3.items())],
    ids=["plain", "all", "flux", "sd3"],
)
@pytest.mark.parametrize("shape", [(8, 3), (4, 6, 3), (3, 4, 2, 3), (4, 4, 4, 1)], ids=str)
def test_sequences_images_and_videos(shape, form):
    """Only square images would work."""
    time = 2 if shape[0] == 4 else 1
    network = dit(**SMALL, **dict(form), patch_time=time)
    x = jnp.zeros((2, *shape))
    params = shapes(network, x)
    out = jax.eval_shape(network.apply, params, x, jnp.zeros(2), None)
    assert out.shape == x.shape
    features = np.prod(2 if len(shape) < 4 else (time, 2, 2)) * shape[-1]
    features *= 2 if len(shape) == 3 else 1
    assert params["patches"]["kernel"].shape[0] == features


@pytest.mark.parametrize(
    ("grid", "sides"), [((6,), (3,)), ((4, 6), (2, 3)), ((2, 4, 6), (1, 2, 2))], ids=str
)
def test_fold_takes_patches_and_unfold_puts_them_back(grid, sides):
    """Patches would be mixed: tokens without neighbourhoods, and shuffled images."""
    x = np.asarray(drawn(2, *grid, 3))
    tokens = np.asarray(fold(jnp.asarray(x), sides))
    second = x[1][(*(slice(s) for s in sides[:-1]), slice(sides[-1], 2 * sides[-1]))]
    chex.assert_trees_all_equal(tokens[1, 1], second.ravel())
    counts = tuple(n // s for n, s in zip(grid, sides, strict=True))
    chex.assert_trees_all_equal(unfold(jnp.asarray(tokens), counts, sides), x)


def test_every_condition_matters_and_missing_has_one_meaning():
    """A condition would be ignored, or guidance compare with what dropout has not trained."""
    _, params, apply = made(conditions=CONDITIONS, **ALL, depth=1)
    x, c_noise, cond = inputs()
    output = apply(params, x, c_noise, cond)
    for name, value in cond.items():
        null = -1 if name == "label" else jnp.nan
        for changed in (value.at[0].set(1 - value[0]), value.at[0].set(null)):
            moved = far(apply(params, x, c_noise, cond | {name: changed}), output)
            assert moved[0] > 1e-3 > 1e-5 > moved[1:].max(), name
    nothing = {k: jnp.full_like(v, -1 if k == "label" else jnp.nan) for k, v in cond.items()}
    absent = apply(params, x, c_noise, None)
    chex.assert_trees_all_close(apply(params, x, c_noise, nothing), absent, atol=1e-4)
    learned = {k: v for k, v in params.items() if k in ("no_tokens", "no_vector")}
    for name in learned:
        other = params | {name: jax.tree.map(jnp.square, params[name])}
        assert far(apply(other, x, c_noise, None), absent).min() > 1e-3


class Stack(DiT):
    """A network of the blocks alone."""

    @nn.compact
    def __call__(self, *given):
        return self._blocks(*given)


@pytest.mark.parametrize(
    ("skips", "tokens"),
    [(False, 0), pytest.param(True, 5, marks=pytest.mark.thorough)],
    ids=["plain", "all"],
)
def test_the_loop_is_one_block_after_the_other(skips, tokens):
    """Blocks would share parameters, run in another order, or skips join the wrong ones."""
    form, depth = BlockSettings(12, 2), 5 if skips else 3
    settings = {"conditions": (Tokens(tokens),)} if tokens else {}
    _, params, _ = made(depth=depth, long_skips=skips, **settings)
    c, x, text = drawn(B, 12), drawn(B, 4, 12, seed=1), drawn(B, 3, 12, seed=2)
    there = jnp.ones((B, 3), bool)
    streams, rest = (x, text if tokens else None), (c, None, there if tokens else None)
    stack = Stack(form, depth, long_skips=skips)

    def unrolled(params):
        given, kept = streams, []
        names = [f"{part}/{i}" for part in ("blocks", "first") for i in range(9)]
        names += ["middle", *(f"second/{i}" for i in range(9)), "last"]
        for name in names:
            part, _, i = name.partition("/")
            if part not in params or (i and int(i) >= len(params[part]["main"]["out"]["bias"])):
                continue
            own = jax.tree.map(lambda a, i=i: a[int(i)], params[part]) if i else params[part]
            block = TransformerBlock(form, last=part == "last")
            skip = kept.pop() if "skip" in own else None
            given, _ = block.apply({"params": own}, given, skip, *rest)
            kept += [given[0]] if part == "first" else []
        return given[0]

    looped = lambda params: stack.apply({"params": params}, *streams, *rest)
    ours, theirs = jax.jit(lambda p: (looped(p), unrolled(p)))(params)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-4)
    own = ("blocks", "first", "second", "middle", "last")
    biases = [params[k]["main"]["out"]["bias"] for k in own if k in params]
    assert sum(bias.size for bias in biases) == 12 * depth
    assert np.abs(ours - x).max() > 0.1


@pytest.mark.thorough
def test_remat_keeps_parameters_and_gradients():
    """A checkpoint could not be resumed with `remat`, or training would differ."""
    x, c_noise, _ = inputs()
    grads, made_again = {}, {}
    for remat in ("", "all", "cheap"):
        network, params, _ = made(remat=remat)
        grad = jax.grad(lambda p, f=network.apply: (f(p, x, c_noise, None) ** 2).mean())
        program = str(jax.make_jaxpr(grad)(params))
        made_again[remat] = [program.count(f" = {name}") for name in ("dot_general", "attention")]
        grads[remat] = jax.jit(grad)(params) if remat != "cheap" else params
    chex.assert_trees_all_close(grads["all"], grads[""], rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_equal_shapes(grads["cheap"], grads[""])
    (dots, attentions), cheap, everything = (made_again[k] for k in ("", "cheap", "all"))
    assert cheap == [dots, attentions + 1]
    assert everything[0] > dots and everything[1] == attentions + 1


def test_rotary_attention_sees_differences_of_positions_only():
    """A pattern would mean something else at every position."""
    grid, d = (3, 4, 5), 12
    q, k = drawn(1, 60, 2, d), drawn(1, 60, 2, d, seed=1)
    turn = jnp.asarray(rotations(grid, d))
    same = lambda a: jnp.broadcast_to(a[:, :1], a.shape)  # one content everywhere
    logits = np.einsum("blhd,bmhd->lmh", rotate(same(q), turn), rotate(same(k), turn))
    at = np.indices(grid).reshape(3, -1).T
    apart = {}
    for (i, j), value in zip(np.ndindex(60, 60), logits.reshape(-1, 2), strict=True):
        apart.setdefault(tuple(at[i] - at[j]), []).append(value)
    assert len(apart) == 5 * 7 * 9
    assert max(np.ptp(v, axis=0).max() for v in apart.values()) < 1e-4
    assert np.ptp([v[0] for v in apart.values()], axis=0).min() > 0.1
    lengths = [np.linalg.norm(a, axis=-1) for a in (rotate(q, turn), q)]
    np.testing.assert_allclose(*lengths, rtol=1e-5)


def test_waves_tell_near_points_apart():
    """The features of two near points would be all alike, as those of one linear layer are."""
    x, rate = np.array([[0.2, -0.7, 1.3]]), 2.0 ** np.arange(4)
    found = np.asarray(waved(jnp.asarray(x), 4))
    angle = (rate[:, None] * x).ravel()
    np.testing.assert_allclose(found[0], [*x[0], *np.sin(angle), *np.cos(angle)], atol=1e-6)
    near = waved(jnp.asarray(x + 0.1), 4) - found
    assert np.abs(near[0, :3]).max() < 0.11 and np.abs(near[0, 3:]).max() > 0.5


@pytest.mark.parametrize("grid", [(7,), (3, 4), (2, 3, 2)], ids=str)
def test_every_position_is_another(grid):
    """Tokens would be indistinguishable along some axis."""
    for made in map(np.asarray, (sincos(grid, 14), rotations(grid, 14))):
        apart = np.abs(made[:, None] - made[None]).max(-1) + np.eye(len(made))
        assert apart.min() > 0.1 and len(made) == np.prod(grid)


@pytest.mark.parametrize(
    ("settings", "shape", "message"),
    [
        ({}, (4, 5, 3), r"patch=2 and input \(2, 4, 5, 3\): needs W divisible"),
        ({"patch": 3}, (4, 3), "patch=3 .*needs L divisible"),
        ({"patch_time": 2}, (3, 4, 4, 1), "patch_time=2 .*needs T divisible"),
        ({}, (5,), r"dit with input \(2, 5\): needs \(B, L, C\)"),
        ({"positions": "rotary", "width": 6}, (4, 4, 1), "positions='rotary' .* there are 3"),
        ({"positions": "rotary", "width": 8}, (2, 4, 4, 1), "rotary.* on 3 axes .*there are 4"),
        ({"width": 9, "heads": 3}, (4, 4, 1), "positions='sincos' .* width=9"),
        ({"positions": "learned", "side": 3}, (8, 4, 1), r"a grid of \(4, 2\) patches: the lear"),
        ({"positions": "rotary", "axes": (6,)}, (4, 4, 1), r"axes=\(6,\) .*needs 2 of them"),
    ],
)
def test_what_cannot_work_is_refused_by_name(settings, shape, message):
    """The error would come from a reshape deep inside."""
    with pytest.raises(ValueError, match=message):
        shapes(dit(**{**SMALL, **settings}), jnp.zeros((2, *shape)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, "heads=5: must divide width=12"),
        ({"size": "M"}, "size='M': unknown; known: 'S', 'B', 'L', 'XL'"),
        ({"positions": "fixed"}, "positions='fixed': unknown; known"),
        ({"positions": "learned"}, "side=0 with positions='learned': needs both"),
        ({"side": 4}, "side=4 with positions='sincos': needs both"),
        ({"axes": (2, 4)}, r"axes=\(2, 4\) with positions='sincos': needs 'rotary'"),
        ({"axes": (3, 3), "positions": "rotary"}, "even numbers whose sum is the width 6 of a he"),
        ({"dual": -1}, "dual=-1: needs dual >= 0"),
        ({"dual": 2, "single": 1}, "dual=2, single=1: more than the blocks of depth=2"),
        ({"dual": 2, "conditions": (Tokens(5),)}, "dual=2: more than the blocks of depth=2"),
        ({"single": 1, "long_skips": True}, "single=1: not with long_skips=True or modulation"),
        ({"single": 1, "conditions": (Tokens(5, mechanism="cross"),)}, "single=1: not with tokens"),
        ({"remat": "some"}, "remat='some': unknown; known: '', 'all', 'cheap'"),
        ({"depth": 0}, "depth=0: needs depth >= 1"),
        ({"patch": 0}, "patch=0"),
        ({"waves": -1}, "waves=-1: needs waves >= 0"),
        ({"stretch": 0.0}, "stretch=0.0: needs stretch > 0"),
        ({"modulation": "all"}, "modulation='all': unknown; known: 'own', 'shared'"),
        (
            {"modulation": "shared", "conditions": (Tokens(5, mechanism="joint"),)},
            "modulation='shared': not with tokens by joint attention",
        ),
        ({"depth": 1, "long_skips": True}, "depth=1: needs depth >= 2"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        dit(**{**SMALL, **settings})


def test_fresh_parameters_are_drawn_as_published():
    """Training would start from other scales than those of the paper."""
    network = dit(width=64, depth=2, heads=2, conditions=(Label(500),))
    x = jnp.zeros((1, 8, 8, 4))
    key = jax.random.key(0, impl="unsafe_rbg")
    params = jax.jit(network.init)(key, x, jnp.zeros(1), None)
    block = params["blocks"]["main"]
    for name in ("qkv", "out", "mlp_in", "mlp_out"):
        kernel = np.asarray(block[name]["kernel"])
        limit = np.sqrt(6 / sum(kernel.shape[1:]))
        assert 0.97 * limit < np.abs(kernel).max() <= limit
        assert np.abs(kernel[0] - kernel[1]).max() > limit / 2
    for zero in (block["modulation"], params["modulation"], params["out"]):
        assert not any(np.any(a) for a in zero.values())
    for name in ("label", "noise_in", "noise_out"):
        (tensor,) = (v for k, v in params[name].items() if k != "bias")
        assert np.std(tensor) == pytest.approx(0.02, rel=0.05)


def xl_and_small(size, **settings):
    network = dit(size, conditions=(Label(1000),), learn_variance=True, **settings)
    x = jax.ShapeDtypeStruct((2, 32, 32, 4), jnp.float32)
    return network, x, shapes(network, x)


@pytest.mark.parametrize(
    ("size", "count"),
    [("S", 32_865_056), ("B", 130_315_808), ("L", 457_840_672), ("XL", 674_834_720)],
)
def test_sizes_are_those_of_the_paper(size, count):
    """Results could not be compared with published ones. The fixed positions are not counted."""
    *_, params = xl_and_small(size)
    assert sum(a.size for a in jax.tree.leaves(params)) == count


def test_program_does_not_grow_with_depth():
    """The largest networks would take many minutes to compile."""

    def length(size):
        network, x, params = xl_and_small(size, remat="all")
        t, label = jnp.zeros(2), {"label": jnp.zeros(2, jnp.int32)}
        loss = lambda params, x: sum((a**2).mean() for a in network.apply(params, x, t, label))
        return len(jax.jit(jax.grad(loss)).lower(params, x).as_text())

    assert length("XL") < 1.5 * length("S")
