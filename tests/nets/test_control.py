"""Controls: a base that stays as it is, gradients of zero layers, scales, intervals, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import nets
from diffjax.io.trees import flat
from diffjax.nets import T2I, ControlNet, ImagePrompt, controlled
from diffjax.nets.conditions import Label, Tokens
from diffjax.nets.control import split
from diffjax.nets.residuals import Residuals

SMALL = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "heads": 2}
TEXT = (Label(3), Tokens(4, name="text"))
NETWORKS = {
    "unet": nets.unet(**SMALL, conditions=(Label(3),)),
    "text": nets.unet(**SMALL, conditions=TEXT, transformer=(1, 2)),
    "dit": nets.dit(width=16, depth=3, heads=2, conditions=(Label(3),)),
    "mm_dit": nets.dit(width=16, depth=3, heads=2, conditions=TEXT),
    "long_skips": nets.dit(width=16, depth=5, heads=2, long_skips=True, conditions=(Label(3),)),
}
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 1)), jnp.float32)
C_NOISE = jnp.array([0.3, 0.7])
COND = {"label": jnp.array([1, 2]), "edges": jnp.abs(X), "image": jnp.ones((2, 5))}
OTHER = nets.edm2(channels=8, multipliers=(1, 2), blocks=1, attention=(4,), head_channels=4)
CONTROLS = {
    "control_net": ControlNet("edges"),
    "t2i": T2I("edges", widths=(8, 16), blocks=1),
    "light": T2I("edges", widths=(8, 16), blocks=1, form="light"),
    "image_prompt": ImagePrompt("image", size=5, tokens=2, width=6),
}
BASES = {"image_prompt": ("text",), "control_net": (*NETWORKS,)}
THOROUGH = ("text", "mm_dit", "long_skips")
marked = lambda base, *values: pytest.param(
    *values, marks=[pytest.mark.thorough] if base in THOROUGH else []
)
CASES = [marked(b, c, b) for c in CONTROLS for b in BASES.get(c, ("unet",))]


def redrawn(shapes, seed=0):
    """Return a tree of these shapes with other numbers in each leaf."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: (0.3 * rng.normal(size=a.shape)).astype(np.float32), shapes)


def network(control, base):
    return controlled(NETWORKS[base], [CONTROLS[control]])


def given(*controls):
    """Return the label and the conditions of these controls."""
    names = ("label", *(CONTROLS[control].condition for control in controls))
    return {name: COND[name] for name in names}


@functools.cache
def begun(control, base):
    """Return a redrawn base with a new control."""
    params = network(control, base).init(jax.random.key(0), X, C_NOISE, given(control))
    first = {k: v for k, v in params.items() if k != "adapter"}
    return {**redrawn(first), "adapter": params["adapter"]}


def plain(base):
    first = {k: v for k, v in begun("control_net", base).items() if k != "adapter"}
    return NETWORKS[base].apply(first, X, C_NOISE, {"label": COND["label"]})


def missing(control, samples):
    """Return the conditions of a control, missing for some samples."""
    name = CONTROLS[control].condition
    where = jnp.asarray(samples).reshape(-1, *[1] * (COND[name].ndim - 1))
    return {**given(control), name: jnp.where(where, jnp.nan, COND[name])}


@pytest.mark.parametrize("base", [marked(base, base) for base in NETWORKS])
def test_a_control_net_begins_as_its_base(base):
    """The first steps would destroy what the base has learned."""
    params, cond = begun("control_net", base), given("control_net")
    out = network("control_net", base).apply(params, X, C_NOISE, cond)
    np.testing.assert_array_equal(out, plain(base))


@pytest.mark.parametrize(("control", "base"), CASES)
def test_a_missing_condition_and_the_scale_0_are_the_base(control, base):
    """A sample without its map would still be changed, or another sample of its batch."""
    model, cond = network(control, base), given(control)
    params = {**begun(control, base), "adapter": redrawn(begun(control, base)["adapter"], 1)}
    apply = jax.jit(model.apply)
    whole, part = (apply(params, X, C_NOISE, c) for c in (cond, missing(control, [True, False])))
    first = jax.jit(NETWORKS[base].apply)
    own = {k: v for k, v in params.items() if k != "adapter"}
    alone = first(own, X, C_NOISE, {"label": COND["label"]})
    np.testing.assert_array_equal(part[0], alone[0])
    np.testing.assert_allclose(part[1], whole[1], atol=1e-5 * float(np.abs(whole[1]).max()))
    assert all(np.abs(whole - alone).max((1, 2, 3)) > 1e-3 * np.abs(alone).max())
    off = type(CONTROLS[control])(**{**settings(CONTROLS[control]), "scale": 0.0})
    none = controlled(NETWORKS[base], [off]).apply
    np.testing.assert_array_equal(jax.jit(none)(params, X, C_NOISE, cond), alone)


def settings(control):
    return {k: v for k, v in vars(control).items() if k != "labels"}


def test_at_first_only_the_last_layers_have_gradients():
    """The zero layers would stay zero, or the copy would move before they do."""
    model, params = network("control_net", "unet"), begun("control_net", "unet")
    loss = lambda own: jnp.square(
        model.apply({**params, "adapter": own}, X, C_NOISE, given("control_net"))
    ).sum()
    grads = flat(jax.jit(jax.grad(loss))(params["adapter"]))
    moved = {path for path, g in grads.items() if np.abs(g).max() > 0}
    assert moved == {path for path in grads if path.startswith("edges/out/")}


def test_controls_add_up_and_act_where_their_labels_say():
    """Two controls would replace each other, or act at all noise levels."""
    both = [ControlNet("edges"), ImagePrompt("image", size=5, tokens=2, width=6)]
    model = controlled(NETWORKS["text"], both)
    params = redrawn(jax.eval_shape(model.init, jax.random.key(0), X, C_NOISE, COND))
    own, others = split(both, COND)
    base = {k: v for k, v in params.items() if k != "adapter"}
    inputs = (X, C_NOISE, others)
    total = Residuals()
    for each in both:
        mine = params["adapter"][each.condition]
        total += each(mine, NETWORKS["text"], base, own[each.condition], inputs, None)
    ours = model.apply(params, X, C_NOISE, COND)
    theirs = NETWORKS["text"].apply(base, *inputs, residuals=total)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    late = controlled(NETWORKS["text"], [ControlNet("edges", end=0.5), both[1]])
    late = late.within([0.7, 0.6, 0.4, 0.3])  # the first half: labels above 0.5
    out = late.apply(params, X, C_NOISE, COND)
    only_image = model.apply(params, X, C_NOISE, {k: COND[k] for k in ("label", "image")})
    np.testing.assert_allclose(out[0], only_image[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out[1], ours[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("start", "end", "labels"),
    [
        (0.0, 0.5, (0.5, np.inf)),
        (0.5, 1.0, (-np.inf, 0.5)),
        (0.25, 0.75, (0.25, 0.75)),
        (0.3, 0.7, (0.25, 0.5)),
    ],
)
def test_a_control_acts_in_the_rows_of_diffusers(start, end, labels):
    """`control_guidance_start` and `_end` would mean other steps."""
    rows = [0.875, 0.625, 0.375, 0.125]
    control = ControlNet("edges", start=start, end=end).within(rows)
    keep = [not (i / 4 < start or (i + 1) / 4 > end) for i in range(4)]  # as diffusers writes it
    if not any(keep):
        assert control.scale == 0
        return
    low, high = control.labels
    assert [low <= label <= high for label in rows] == keep
    if labels != (0.25, 0.5):
        assert control.labels == labels


def test_what_does_not_fit_is_refused():
    """A control would be trained that cannot join, or with an error of shapes deep inside."""
    init = lambda base, *controls: controlled(base, controls).init(
        jax.random.key(0), X, C_NOISE, None
    )
    with pytest.raises(ValueError, match="has no encoder to copy; allowed: unet, dit"):
        init(OTHER, ControlNet("edges"))
    with pytest.raises(ValueError, match="has no cross-attention to tokens"):
        init(NETWORKS["unet"], ImagePrompt("image", size=5))
    with pytest.raises(ValueError, match="3 widths need maps whose channels are a multiple of 16"):
        init(NETWORKS["unet"], ControlNet("edges", hint=(4, 4, 4)))
    with pytest.raises(ValueError, match="condition='edges': two controls read it"):
        controlled(NETWORKS["unet"], [ControlNet("edges"), ControlNet("edges")])
    with pytest.raises(ValueError, match="needs 0 <= start < end <= 1"):
        ControlNet("edges", start=0.5, end=0.2)
    with pytest.raises(ValueError, match=r"has the shape \(2, 4, 4, 1\); needs \(2, 8, 8, 1\)"):
        network("control_net", "unet").check(X, {"edges": jnp.ones((2, 4, 4, 1))})
