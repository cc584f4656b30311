"""Every kind of condition in every network: wired in, one meaning of missing, clear refusals."""

import functools
from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from tiers import some

from diffjax.arrays import drop, null
from diffjax.nets import NETWORKS
from diffjax.nets.conditions import (
    CONDITIONS,
    MECHANISMS,
    Condition,
    Conditions,
    Label,
    Tokens,
    Vector,
    settled,
)

B = 3
GRID = (4, 4, 2)
# Few channels: norms with one channel per group would remove what the embedding adds.
UNET = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": ()}
SMALL = {
    "unet": ({**UNET, "heads": 2}, GRID),
    "edm2": ({**UNET, "head_channels": 4}, GRID),
    "dit": ({"width": 12, "depth": 2, "heads": 2}, GRID),
    "mlp": ({"width": 12, "depth": 1}, (5,)),
    "wavenet": ({"channels": 8, "depth": 2}, (6, 2)),
    "egnn": ({"width": 8, "depth": 1, "radial": 4}, (6, 2)),
}
SIZES = {
    **{"label": 3, "vector": 4, "tokens": 5, "words": 7},
    **{"map": 2, "pairs": 2, "augment": 6, "to": 1, "guidance": 1, "still": 2},
}
"""Sizes of those that may be missing; tests/nets/test_length.py has the one that may not."""
MORE = (Vector(2, "place"), Tokens(3, "caption"), Label(2, "style"))
"""Further conditions of a kind, under names of their own."""
network = pytest.mark.parametrize("name", NETWORKS)
PAIRS = [(n, k) for n in NETWORKS for k in SIZES]
pairs = pytest.mark.parametrize(
    ("name", "kind"), some(PAIRS, [pair for pair in PAIRS if pair[0] != "edm2"])
)


def test_every_kind_and_network_has_a_small_version():
    """An entry of the catalogues without settings here would not be tested."""
    assert set(SMALL) == set(NETWORKS) and {*SIZES, "length"} == set(CONDITIONS)
    for kind in CONDITIONS.values():
        assert kind.mechanisms and set(kind.mechanisms) <= set(MECHANISMS)


def built(name, conditions):
    return NETWORKS[name](**SMALL[name][0], conditions=conditions)


def takes(name, condition):
    """Return whether this network takes this condition."""
    try:
        built(name, (condition,))
    except ValueError as error:
        refused = str(error)
    else:
        return True
    assert f"condition '{condition.name}'" in refused and f"{name} takes" in refused
    return False


def known(name):
    """Return all conditions that this network takes, two or more of some kinds."""
    every = (*(CONDITIONS[k](SIZES[k]) for k in SIZES), *MORE)
    return tuple(c for c in every if takes(name, c))


def inputs(name):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(B, *SMALL[name][1])), jnp.float32)
    return x, jnp.linspace(0.1, 1.0, B)


def values(condition, x, seed=2):
    """Return a value that is present for all samples; sequences have two tokens."""
    rng, shape = np.random.default_rng(seed), condition.shape(x.shape)
    shape = [2 if n is None else n for n in shape]
    if jnp.issubdtype(condition.missing(x).dtype, jnp.integer):
        integers = np.arange(np.prod(shape)).reshape(shape) + seed
        return jnp.asarray(integers % condition.size, jnp.int32)
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def redrawn(shapes):
    """Redraw every tensor at random, because fresh networks return zero for any input."""
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(1)
    draw = lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype)
    return jax.tree.unflatten(tree, [draw(a) for a in leaves])


@functools.cache
def made(name):
    """Return a network with all conditions that it takes, and its output; compiled once."""
    network, (x, c_noise) = built(name, known(name)), inputs(name)
    cond = {c.name: values(c, x) for c in known(name)}
    params = redrawn(jax.eval_shape(network.init, jax.random.key(0), x, c_noise, None))
    apply = jax.jit(functools.partial(network.apply, params, x, c_noise))
    return apply, cond, apply(cond)


@pairs
def test_a_condition_changes_its_sample_and_no_other(name, kind):
    """A condition would be accepted and ignored, reach other samples, or make the output NaN."""
    conditions = [c for c in known(name) if isinstance(c, CONDITIONS[kind])]
    if not conditions:
        assert not takes(name, CONDITIONS[kind](SIZES[kind]))
        return
    apply, cond, before = made(name)
    x = inputs(name)[0]
    for c in conditions:
        for other in (values(c, x, seed=3), null({"": cond[c.name]})[""]):
            after = apply({**cond, c.name: cond[c.name].at[0].set(other[0])})
            change = np.abs(after - before).reshape(B, -1).max(1) / np.abs(before).max()
            assert change[0] > 1e-3 and (change[1:] < 1e-5).all(), c.name


@network
@pytest.mark.typed
def test_missing_is_absent(name):
    """Guidance would compare with another reference than condition dropout trains."""
    apply, cond, _ = made(name)
    absent = apply(None)
    chex.assert_trees_all_close(apply(null(cond)), absent, rtol=1e-5, atol=1e-5)
    assert np.isfinite(absent).all()


@network
def test_a_batch_may_have_any_size(name):
    """An exported program would take the number of samples alone that it was traced with."""
    entry, (x, c_noise) = built(name, known(name)), inputs(name)
    cond = {c.name: values(c, x) for c in known(name)}
    params = jax.eval_shape(entry.init, jax.random.key(0), x, c_noise, None)
    (b,) = export.symbolic_shape("b")
    shaped = lambda a: jax.ShapeDtypeStruct((b, *a.shape[1:]), a.dtype)
    for given in (cond, {}):
        arguments = jax.tree.map(shaped, (x, c_noise, given))
        assert jax.eval_shape(entry.apply, params, *arguments).shape[0] == b


def test_augmentation_labels_that_are_left_out_are_zero():
    """Samples would be drawn as if of an augmented image."""
    apply, cond, _ = made("unet")
    none = {**null(cond), "augment": jnp.zeros_like(cond["augment"])}
    chex.assert_trees_all_close(apply(none), apply(null(cond)), rtol=1e-5, atol=1e-6)


@network
def test_single_tokens_may_be_missing(name):
    """The padding of short captions would be read."""
    apply, cond, before = made(name)
    if "tokens" not in cond:
        assert not takes(name, Tokens(5))
        return
    one = {**cond, "tokens": cond["tokens"].at[:, 1].set(jnp.nan)}
    part = {**cond, "tokens": one["tokens"].at[:, 0, 0].set(jnp.nan)}
    none = {**cond, "tokens": null({"": cond["tokens"]})[""]}
    assert np.abs(apply(one) - before).max() > 1e-3
    chex.assert_trees_all_close(apply(part), apply(none), rtol=1e-5, atol=1e-5)


@pairs
def test_other_values_are_refused_by_name(name, kind):
    """Wrong values would be broadcast, or fail in a product deep inside."""
    c = CONDITIONS[kind](SIZES[kind])
    if not takes(name, c):
        return
    network, given = built(name, (c,)), inputs(name)
    right = values(c, given[0])
    integers = jnp.issubdtype(right.dtype, jnp.integer)
    for value in (right[..., None], right[:1], right.astype("float32" if integers else "int32")):
        with pytest.raises(ValueError, match=rf"cond\['{kind}'\].*needs"):
            jax.eval_shape(network.init, jax.random.key(0), *given, {kind: value})
    plain = built(name, ())
    with pytest.raises(ValueError, match=rf"condition \['{kind}'\]: the network takes \[\]"):
        jax.eval_shape(plain.init, jax.random.key(0), *given, {kind: right})


@pytest.mark.parametrize("kind", SIZES)
def test_dropout_makes_whole_conditions_missing_at_its_rate(kind):
    """Parts of a caption would be dropped, or another share of the samples."""
    c, x = CONDITIONS[kind](SIZES[kind]), jnp.zeros((2000, *GRID))
    shape = [2 if n is None else n for n in c.shape(x.shape)]
    cond = {c.name: jnp.ones(shape, c.missing(x).dtype), "other": jnp.ones(2000)}
    after = drop(cond, jax.random.key(0), {c.name: 0.3})
    gone = ~(after[c.name] == 1).reshape(2000, -1)
    assert (gone.all(1) == gone.any(1)).all()
    assert abs(gone.any(1).mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)
    assert (after["other"] == 1).all()
    assert isinstance(c, Condition) and isinstance(cond, Mapping)


NAMES = {
    "unet": {"no_tokens", "tokens", "no_words", "words", "Embedding_0/augment", "Embedding_0/label",
             "Embedding_0/no_vector", "Embedding_0/vector"},
    "dit": {"label", "no_tokens", "no_vector", "no_words", "tokens", "vector", "words"},
    "edm2": {"MPEmbedding_0/label", "MPEmbedding_0/vector"},
    "mlp": {"Embedding_0/augment", "Embedding_0/label", "Embedding_0/no_vector",
            "Embedding_0/vector"},
    "wavenet": {"Embedding_0/augment", "Embedding_0/label", "Embedding_0/no_vector",
                "Embedding_0/vector", "local_0", "local_1"},
    "egnn": {"Embedding_0/augment", "Embedding_0/label", "Embedding_0/no_vector",
             "Embedding_0/vector", "local"},
}  # fmt: skip


@network
def test_parameters_of_default_names_are_those_of_stored_networks(name):
    """Checkpoints, exports and published weights would no longer load."""

    def parts(conditions):
        given = jax.random.key(0), *inputs(name), None
        params = jax.eval_shape(built(name, conditions).init, *given)
        named = jax.tree_util.tree_leaves_with_path(params)
        return {"/".join(key.key for key in path[:-1]): a.shape for path, a in named}

    with_all = tuple(c for c in known(name) if c.name in SIZES and c.name not in ("to", "guidance"))
    more = parts(with_all).keys() - parts(()).keys()
    ours = {part for part in more if not part.split("/")[0].startswith(("Cross", "last", "blocks"))}
    assert ours == NAMES[name]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ((Label(3), Vector(3, "label")), "condition 'label': two conditions have this name"),
        ((Label(0),), "condition 'label': size=0: needs size >= 1"),
        ((Vector(2, "a/b"),), "condition 'a/b': needs an identifier as a name"),
        (
            (Vector(2, mechanism="cross"),),
            "of kind vector: mechanism='cross': unknown; known: embedding",
        ),
        ((Tokens(2, mechanism="joint"),), "enters by joint, but unet takes embedding, features"),
    ],
)
def test_conditions_that_cannot_be_are_refused_by_name(conditions, message):
    """Parameters of two conditions would be one, or a condition would enter nowhere."""
    with pytest.raises(ValueError, match=message):
        built("unet", conditions)


def test_a_condition_without_a_mechanism_is_refused():
    """A user's module would ignore the condition without notice."""
    with pytest.raises(
        ValueError, match="condition 'label' of kind label: mechanism='': unknown; known"
    ):
        Conditions((Label(3),))
    assert settled((Label(3),), "mine", ("embedding",)).by("embedding")


def test_tokens_of_several_widths_need_a_layer():
    """Tokens of several widths would fail in a concatenation deep inside."""
    network = built("unet", (Tokens(3, layers=0), Tokens(4, "text", layers=0)))
    with pytest.raises(
        ValueError, match=r"\['tokens', 'text'\] have the widths \[3, 4\]; need one"
    ):
        jax.eval_shape(network.init, jax.random.key(0), *inputs("unet"), None)
    with pytest.raises(ValueError, match="condition 'tokens': layers=3: unknown; known: 0, 1, 2"):
        Tokens(3, layers=3)
    for settings in (dict(waves=-1), dict(waves=2, layers=0)):
        with pytest.raises(ValueError, match=r"waves=.*needs 0, or more with layers >= 1"):
            Tokens(3, **settings)
