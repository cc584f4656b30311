"""Our U-Nets against the code that published them, and their sizes.

`make_unet.py` made the numbers; neither torch nor that code is needed here.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make_unet import AUGMENT, CLASSES, LABEL, SIZE, augment, drawn, images, low

from diffjax.nets import NETWORKS
from diffjax.nets.conditions import Augment, Label, Map
from diffjax.published import diffusers, edm, edm2, guided, score_sde
from diffjax.published.tables import Table, converted
from ml_collections_configs.networks import ADM, ADM64, DDPM, DDPMPP, EDM2S, NCSNPP

STORED = dict(np.load(Path(__file__).with_name("unet.npz")))
LIMIT = 1e-5
"""Of the largest output; float32 in both."""
TWO = {"channels": 16, "multipliers": (1, 2), "blocks": 1, "attention": (4,)}
THREE = {**TWO, "multipliers": (1, 2, 1)}
WIDE = {**TWO, "channels": 128, "multipliers": (1, 1)}
TOLD = {"classes": CLASSES, "augment": AUGMENT}
KINDS = {"classes": Label, "augment": Augment, "low": lambda size: Map(size, "low")}
PYRAMIDS = {"input_pyramid": "skip", "output_pyramid": "skip"}


@dataclass(frozen=True)
class Case:
    """A published network: our settings of it, and whose names its tensors have.

    order: an argument of that. noise: from the original's noise label to ours.
    """

    name: str
    base: Mapping[str, Any]
    table: Callable[..., Table]
    changed: Mapping[str, Any] = field(default_factory=dict)
    order: Mapping[str, str] = field(default_factory=dict)
    noise: Callable[[Any], Any] = np.asarray

    @property
    def settings(self) -> dict[str, Any]:
        return {k: v for k, v in {**self.base, **self.changed}.items() if k != "name"}


CASES = [
    Case("edm-ddpmpp", DDPMPP, edm.table, {**TWO, **TOLD}),
    Case("edm-ncsnpp", NCSNPP, edm.table, {**THREE, **TOLD}),
    Case("edm-skip", NCSNPP, edm.table, {**TWO, **TOLD, **PYRAMIDS}),
    Case("edm-adm", ADM, edm.table, {**TWO, **TOLD, "channels": 64, "learn_variance": False}),
    Case("edm2", EDM2S, edm2.table, {**TWO, "head_channels": 8, "classes": CLASSES}),
    Case("score-ddpm", DDPM, score_sde.table, {**WIDE, "last_attends": True}),
    Case("score-ddpmpp", DDPMPP, score_sde.table, TWO),
    Case("score-ncsnpp", NCSNPP, score_sde.table, THREE, noise=np.log),
    Case("score-skip", NCSNPP, score_sde.table, {**TWO, **PYRAMIDS}, noise=np.log),
    Case("guided-adm", ADM, guided.table, {**WIDE, "classes": CLASSES}),
    Case(
        "guided-conv",
        ADM,
        guided.table,
        {**WIDE, "heads": 4, "head_channels": 0, "resample": "centred_conv", "scale_shift": False},
        {"order": "3hc"},
    ),
    Case("diffusers-ddpm", DDPM, diffusers.table, WIDE),
    Case("diffusers-upsampler", DDPM, diffusers.table, {**WIDE, "low": 3}),
]


def built(name, settings):
    """Return the network of these settings, some of which are its conditions."""
    own = {k: v for k, v in settings.items() if k not in KINDS}
    conditions = tuple(kind(settings[k]) for k, kind in KINDS.items() if settings.get(k))
    return NETWORKS[name](**own, conditions=conditions)


def given(case):
    """Return inputs of the original, in our layout."""
    x = images()
    x = np.concatenate([x, x[:, :1]], 1) if case.name == "edm2" else x
    cond = {"label": jnp.asarray(LABEL)} if case.settings.get("classes") else {}
    if case.settings.get("augment"):
        cond["augment"] = jnp.asarray(augment())
    if case.settings.get("low"):
        cond["low"] = jnp.asarray(np.moveaxis(low(), 1, -1))
    x = jnp.asarray(np.moveaxis(x, 1, -1))
    return x, jnp.asarray(case.noise(STORED[f"{case.name}/c_noise"])), cond


AGAIN = re.compile("score-|edm-adm|imagenet(64|128)|classes|-ddpm-cifar|edm2-(s|xxl)")
"""Much like others: not a part of the suite."""
ELSEWHERE = re.compile("edm-(ddpmpp|ncsnpp)$|edm2$|guided-(adm|conv)$|diffusers-ddpm$")
"""The same small networks come from files in test_published.py and test_converted.py."""
LARGE = re.compile("edm-(ddpmpp|ncsnpp)-cifar10|imagenet256")


def some(named):
    """Mark those parameters as thorough that resemble others."""

    def marks(name):
        if AGAIN.search(name):
            return pytest.mark.exhaustive
        return pytest.mark.thorough if ELSEWHERE.match(name) or LARGE.search(name) else ()

    return [pytest.param(*rest, id=name, marks=marks(name)) for name, *rest in named]


@pytest.mark.parametrize("case", some((case.name, case) for case in CASES))
def test_every_network_is_the_published_one(case):
    """Published weights would give other images, and published settings another network."""
    network = built(case.base["name"], case.settings)
    shapes = json.loads(str(STORED[f"{case.name}/tensors"]))
    tensors = {name: np.asarray(drawn(name, tuple(shape))) for name, shape in shapes.items()}
    params = converted(case.table(case.settings, SIZE, **case.order), tensors)
    arguments = given(case)
    expected = jax.eval_shape(network.init, jax.random.key(0), *arguments)
    form = lambda tree: {jax.tree_util.keystr(k): a.shape for k, a in flat(tree)}
    flat = jax.tree_util.tree_leaves_with_path
    assert form(params) == form(expected)
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    ours = jax.jit(network.apply)(params, *arguments)
    ours = np.concatenate(ours, -1) if isinstance(ours, tuple) else ours
    theirs = np.moveaxis(STORED[f"{case.name}/output"], 1, -1)
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert error < LIMIT, f"{error:.1e}"


def test_every_stored_network_is_compared():
    """A network whose outputs are stored would be left out."""
    stored = {name.split("/")[0] for name in STORED if name.endswith("output")}
    assert {case.name for case in CASES} == stored


SONG = {"multipliers": (1, 2, 2, 2)}
PAPER = {"classes": 1000}
# Ours has more parameters: a row for no label in each embedding of classes.
SIZES = [
    ("diffusers-ddpm-cifar10", DDPM, {}, 32, 0),
    ("score-ddpm-cifar10", DDPM, {"last_attends": True}, 32, 0),
    ("score-ddpmpp-cifar10", DDPMPP, SONG, 32, 0),
    ("score-ncsnpp-cifar10", NCSNPP, SONG, 32, 128),
    ("edm-ddpmpp-cifar10", DDPMPP, {"augment": 9}, 32, 0),
    ("edm-ddpmpp-cifar10-classes", DDPMPP, {"augment": 9, "classes": 10}, 32, 0),
    ("edm-ncsnpp-cifar10", NCSNPP, {"augment": 9}, 32, 128),
    ("edm-adm-imagenet64", ADM64, {**PAPER, "learn_variance": False}, 64, 768),
    ("adm-imagenet64", ADM64, PAPER, 64, 768),
    ("adm-imagenet128", ADM, {**PAPER, "multipliers": (1, 1, 2, 3, 4)}, 128, 1024),
    ("adm-imagenet256", ADM, PAPER, 256, 1024),
    *(
        (f"edm2-{size}", EDM2S, {**PAPER, "channels": channels}, 64, 2 * channels)
        for size, channels in {"xs": 128, "s": 192, "xxl": 448}.items()
    ),
]


@pytest.mark.parametrize(
    ("name", "base", "changed", "side", "more"), some((size[0], *size) for size in SIZES)
)
def test_the_published_sizes_are_met_to_the_last_parameter(name, base, changed, side, more):
    """Settings of the published size would define another network.

    more: parameters that we store and the original does not count, namely one row of the label's
    embedding for no label, and the fixed frequencies and phases of a noise label.
    """
    settings = {k: v for k, v in {**base, **changed}.items() if k != "name"}
    network = built(base["name"], settings)
    x = jnp.zeros((1, side, side, 4 if base["name"] == "edm2" else 3))
    made = jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(1), None)
    ours = sum(a.size for a in jax.tree.leaves(made))
    assert ours == STORED[f"count/{name}"] + more
