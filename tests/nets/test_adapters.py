"""Adapters against their definitions: what is merged, its gradients, its rank and its optimum."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax import nets
from diffjax.io.trees import flat, nested
from diffjax.nets.adapted import PARAMS, adapted
from diffjax.nets.adapters import DoRA, LoRA, kernels
from diffjax.nets.conditions import Label, Tokens

SETTINGS = {"where": "kernel|weight", "rank": 2, "alpha": 3.0}
KINDS = {
    "lora": LoRA(**SETTINGS),
    "rslora": LoRA(**SETTINGS, rank_stabilized=True),
    "dora": DoRA(**SETTINGS),
    "dora_in": DoRA(**SETTINGS, axis="input"),
}
SMALL = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,)}
BOTH = (Label(3), Tokens(4, name="text"))
NETWORKS = {
    "unet": (nets.unet(**SMALL, heads=2, conditions=(Label(3),)), "Block|Attention"),
    "edm2": (nets.edm2(**SMALL, head_channels=4, conditions=(Label(3),)), "Block"),
    "mm_dit": (nets.dit(width=16, depth=3, heads=2, conditions=BOTH), "blocks|last"),
    "long_skips": (nets.dit(width=16, depth=5, heads=2, long_skips=True), "first|second|middle"),
}


def redrawn(shapes, seed=0):
    """Return a tree of these shapes with other numbers in each leaf."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), shapes)


@functools.cache
def parameters(name):
    """Return redrawn parameters of a network of images."""
    network = NETWORKS[name][0]
    x, c_noise = jnp.zeros((1, 8, 8, 1)), jnp.zeros(1)
    return redrawn(jax.eval_shape(network.init, jax.random.key(0), x, c_noise, {}))


def layer() -> Any:
    """Return a network of one layer that is not square."""
    init: Any = lambda key, *_: {"out": {"kernel": jax.random.normal(key, (5, 7))}}
    apply: Any = lambda params, x, *_, key=None: x @ params["out"]["kernel"]
    return nets.Network(init, apply)


def begun(network: Any) -> Any:
    """Return the first parameters of a network of one layer."""
    return network.init(jax.random.key(0), None, None, None)


def adapter_of(kind, name):
    """Return an adapter of a kind for the blocks of a network, and the network."""
    network, where = NETWORKS[name]
    return type(KINDS[kind])(**{**vars(KINDS[kind]), "where": where}), network


@pytest.mark.parametrize("name", NETWORKS)
def test_an_adapter_begins_with_its_own_numbers_in_each_block(name):
    """Blocks of a stack would begin alike, or an adapter with another scale than that of PEFT."""
    adapter, network = adapter_of("lora", name)
    base = parameters(name)
    own = flat(adapter.init(jax.random.key(1), base, network.stacks))
    chosen = adapter.chosen(base, network.stacks)
    assert {path.rpartition("/")[0] for path in own} == set(chosen)
    assert any(kernel.stack for kernel in chosen.values()) == bool(network.stacks)
    for path, kernel in chosen.items():
        down = np.asarray(own[f"{path}/down"])
        assert len(np.unique(down)) == down.size
        assert 0.8 * kernel.inputs**-0.5 < np.abs(down).max() <= kernel.inputs**-0.5
        assert not np.any(own[f"{path}/up"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_an_adapter_that_begins_changes_nothing(name, kind):
    """A run would not begin with the network that it adapts (A1)."""
    adapter, network = adapter_of(kind, name)
    base = parameters(name)
    shapes = flat(jax.eval_shape(lambda: adapter.init(jax.random.key(1), base, network.stacks)))
    drawn = redrawn(shapes)
    own = {k: v if k.endswith("/down") else 0 * v for k, v in drawn.items()}
    changed = flat(adapter.merge({**base, PARAMS: nested(own)}, network.stacks))
    exact = np.testing.assert_array_equal
    same = exact if kind.endswith("lora") else lambda a, b: np.testing.assert_allclose(a, b, 1e-6)
    for path, value in flat(base).items():
        same(changed[path], value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_each_block_of_a_stack_has_its_own_change_of_low_rank(name, kind):
    """All blocks would share one change, or blocks would be mixed (A4, and W' by its formula)."""
    adapter, network = adapter_of(kind, name)
    base = parameters(name)
    shapes = jax.eval_shape(lambda: adapter.init(jax.random.key(1), base, network.stacks))
    own = flat(redrawn(shapes, 1))
    merged = flat(adapter.merge({**base, PARAMS: redrawn(shapes, 1)}, network.stacks))
    scale = 3 / np.sqrt(2) if kind == "rslora" else 1.5
    for path, kernel in adapter.chosen(base, network.stacks).items():
        for i in range(kernel.stack) or [...]:
            w, new = (np.asarray(tree[path][i], np.float64) for tree in (flat(base), merged))
            a, b = (own[f"{path}/{part}"][i].astype(np.float64) for part in ("down", "up"))
            moved = w + scale * np.einsum("...ir,ro->...io", a, b)
            if "dora" in kind:
                axes = tuple(range(w.ndim - (1 if kind == "dora" else 2)))
                axes += (w.ndim - 1,) if kind == "dora_in" else ()
                size = lambda w, axes=axes: np.sqrt((w**2).sum(axes, keepdims=True))
                m = own[f"{path}/magnitude"][i]
                m = size(w) + (m if kind == "dora" else m[:, None])
                np.testing.assert_allclose(size(new), np.abs(m), rtol=1e-5)  # A6
                moved *= m / size(moved)
            else:
                delta = (new - w).reshape(-1, w.shape[-1])
                assert np.linalg.matrix_rank(delta, tol=1e-4 * np.linalg.norm(delta)) <= 2
            np.testing.assert_allclose(new, moved, rtol=1e-4, atol=1e-5)


def test_the_factors_of_a_convolution_are_two_convolutions():
    """A file of another program would be merged in another layout."""
    rng = np.random.default_rng(0)
    x, kernel, down, up = (
        jnp.asarray(rng.normal(size=s), jnp.float32)
        for s in ((1, 6, 6, 3), (3, 3, 3, 5), (3, 3, 3, 2), (2, 5))
    )
    conv = lambda x, w: jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    merged = KINDS["lora"].changed(kernel, {"down": down, "up": up})
    apart = conv(x, kernel) + 1.5 * conv(conv(x, down), up[None, None])
    np.testing.assert_allclose(conv(x, merged), apart, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_at_the_start(kind):
    """At B = 0, dL/dA is 0 and dL/dB is s A^T dL/dW; a scale of DoRA would leak in (A2)."""
    adapter, network = KINDS[kind], layer()
    params = begun(adapted(network, adapter))
    x, y = (jnp.asarray(np.random.default_rng(0).normal(size=(9, n)), jnp.float32) for n in (5, 7))
    loss = lambda params, net: ((net.apply(params, x, None, None) - y) ** 2).sum()
    ours = jax.grad(loss)(params, adapted(network, adapter))
    of_kernel = jax.grad(loss)({"out": params["out"]}, network)["out"]["kernel"]
    own, down = ours[PARAMS]["out"]["kernel"], params[PARAMS]["out"]["kernel"]["down"]
    np.testing.assert_array_equal(own["down"], 0)
    wanted = adapter.scale * down.T @ of_kernel
    np.testing.assert_allclose(own["up"], wanted, rtol=1e-5, atol=1e-4)
    if "dora" in kind:  # dL/dm = <dL/dW, W / |W|> over the row
        axis, w = (0 if kind == "dora" else 1), params["out"]["kernel"]
        expected = (of_kernel * w / jnp.linalg.norm(w, axis=axis, keepdims=True)).sum(axis)
        np.testing.assert_allclose(own["magnitude"], expected, rtol=1e-4)


def test_the_norm_of_dora_has_no_gradient():
    """Away from the start, the gradient is m / |V| dL/dW' without the term of the norm."""
    adapter, rng = DoRA("out", rank=2), np.random.default_rng(0)
    drawn = lambda *s: jnp.asarray(rng.normal(size=s), jnp.float32)
    kernel, slope = drawn(5, 7), drawn(5, 7)
    parts = {"down": drawn(5, 2), "up": drawn(2, 7), "magnitude": drawn(7)}
    grads = jax.grad(lambda parts: (slope * adapter.changed(kernel, parts)).sum())(parts)
    moved = kernel + parts["down"] @ parts["up"]
    m = jnp.linalg.norm(kernel, axis=0) + parts["magnitude"]
    direct = parts["down"].T @ (slope * (m / jnp.linalg.norm(moved, axis=0))[None])
    np.testing.assert_allclose(grads["up"], direct, rtol=1e-4, atol=1e-5)


def test_a_row_of_zeros_stays_finite():
    """A layer that begins with zeros would become infinite with DoRA."""
    parts = {"down": jnp.ones((2, 1)), "up": jnp.zeros((1, 3)), "magnitude": jnp.zeros(3)}
    adapter = DoRA("out", rank=1)
    value, grads = jax.value_and_grad(
        lambda parts: adapter.changed(jnp.zeros((2, 3)), parts).sum()
    )(parts)
    assert value == 0 and all(np.isfinite(g).all() for g in grads.values())
    np.testing.assert_array_equal(grads["up"], 2)  # so that it can leave zero


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_training_reaches_the_best_change_of_its_rank(rank):
    """The optimum of a linear network is known by Eckart and Young (A5); a full rank reaches the
    optimum of full fine-tuning, 0 (A8)."""
    rng = np.random.default_rng(0)
    target, root = rng.normal(size=(5, 7)), np.diag([2.0, 1.5, 1.0, 0.7, 0.5])
    network: Any = adapted(layer(), LoRA("out", rank=rank))
    params = begun(network)
    missing = root @ (target - np.asarray(params["out"]["kernel"]))
    best = (np.linalg.svd(missing, compute_uv=False)[rank:] ** 2).sum()
    x, y = jnp.asarray(root, jnp.float32), jnp.asarray(root @ target, jnp.float32)
    loss = lambda own: ((network.apply({**params, PARAMS: own}, x, None, None) - y) ** 2).sum()
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 3000))

    def step(carry, _):
        own, state = carry
        updates, state = optimizer.update(jax.grad(loss)(own), state)
        return (optax.apply_updates(own, updates), state), None

    begin = params[PARAMS], optimizer.init(params[PARAMS])
    (own, _), _ = jax.jit(lambda begin: jax.lax.scan(step, begin, length=3000))(begin)
    assert (missing**2).sum() > 20
    np.testing.assert_allclose(loss(own), best, rtol=1e-5, atol=1e-7)


def test_adapted_networks_are_equal_where_their_settings_are():
    """Each call would compile again."""
    one, two = (adapted(nets.mlp(width=8), LoRA("Dense", rank=2)) for _ in range(2))
    assert one == two and hash(one) == hash(two)
    assert one != adapted(nets.mlp(width=8), LoRA("Dense", rank=3))


def test_the_constraint_of_a_network_is_kept_beside_an_adapter():
    """A network that holds its weights at a norm would lose its adapter, or the norm."""
    network = adapted(NETWORKS["edm2"][0], LoRA("Block", rank=2))
    own = network.adapter.init(jax.random.key(0), parameters("edm2"))
    params = {**parameters("edm2"), PARAMS: own}
    projected = network.project(params)
    one = flat(projected)["first/weight"]
    np.testing.assert_allclose((one**2).mean((0, 1, 2)), 1, rtol=1e-3)
    np.testing.assert_array_equal(flat(projected[PARAMS]), flat(params[PARAMS]))


BAD = {
    "rank=0: ": {"rank": 0},
    "alpha=0": {"alpha": 0.0},
    "where='[': not a regular expression": {"where": "["},
}


@pytest.mark.parametrize("message", BAD)
def test_settings_out_of_range_are_refused(message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        LoRA(**{"where": "out", **BAD[message]})
    with pytest.raises(ValueError, match="axis='rows'"):
        DoRA("out", axis="rows")


def test_an_adapter_that_does_not_suit_the_kernels_is_refused():
    """A pattern without a match would train nothing."""
    base = begun(layer())
    with pytest.raises(ValueError, match=r"where='in': matches no kernel; known: 1 \(out/kernel\)"):
        LoRA("in").chosen(base)
    with pytest.raises(ValueError, match=r"rank=6: .*out/kernel \(5, 7\)\); allowed: rank <= 5"):
        LoRA("out", rank=6).chosen(base)
    init: Any = lambda *_: {PARAMS: {"kernel": jnp.ones((2, 2))}}
    with pytest.raises(ValueError, match="parameters named 'adapter'"):
        begun(adapted(nets.Network(init, layer().apply), LoRA("kernel", rank=1)))
    assert kernels({"out": {"bias": jnp.ones(3)}}) == {}
