"""Tests of config.network.conditions, and of the conditions that networks are built for."""

import jax
import pytest

from diffjax import builder
from diffjax.config import ConfigError, load, override
from diffjax.data.form import labelled
from diffjax.nets.conditions import To, Tokens
from diffjax.specs import Spec

LABEL = Spec("label", "label", 10)
CAPTION = Spec("caption", "tokens", 8)
SMALL = {"name": "unet", "channels": 8, "multipliers": (1,), "blocks": 1, "heads": 2}
BASE = {**load("digits_vp"), "network": SMALL}
FORM = labelled("image", (8, 8, 1), 10)


def built(specs, conditions=None, **network):
    more = {} if conditions is None else {"conditions": conditions}
    config = {**BASE, "network": {**SMALL, **network, **more}}
    return builder.construct_model(config, specs).network.init.module.conditions


def test_a_network_is_built_for_the_conditions_of_its_data():
    """Number and width of the conditions would have to be set by hand."""
    known = built((LABEL, CAPTION))
    assert str(known) == "label (label of size 10), caption (tokens of size 8)"
    assert [e.mechanism for e in known.entries] == ["embedding", "cross"]


def test_settings_of_a_condition_are_fields():
    """A config could not choose the mechanism of a condition."""
    dit = {"name": "dit", "width": 12, "depth": 2, "heads": 2}
    module = builder.construct_model({**BASE, "network": dit}, (CAPTION,)).network.init.module
    assert module.conditions.entries == (Tokens(8, "caption", "joint"),)
    dit = {**dit, "conditions": {"caption": {"mechanism": "cross", "layers": 2}}}
    module = builder.construct_model({**BASE, "network": dit}, (CAPTION,)).network.init.module
    assert module.conditions.entries == (Tokens(8, "caption", "cross", layers=2),)


def test_a_network_may_know_what_the_data_lack():
    """Published networks with augmentation labels or a second time could not be built."""
    known = built((LABEL,), {"to": {"size": 1}, "text": {"kind": "tokens", "size": 4}})
    assert known.by("time") == [To(mechanism="time")]
    assert known.by("cross") == [Tokens(4, "text", "cross")]
    config = override(BASE, ["network.conditions={'to': {'size': 1}}"])
    params = jax.eval_shape(builder.experiment(config, FORM).initialise).params
    assert {"label", "to_in", "to_out"} <= set(params["network"]["Embedding_0"])


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"captoin": {"mechanism": "cross"}}, "captoin: no such field (did you mean 'caption'"),
        ({"to": {}}, "conditions.to: no such field"),
        (
            {"text": {"size": 4}},
            "conditions.text.kind='text': unknown; known: augment, guidance, label",
        ),
        ({"to": {"size": 2}}, "conditions.to: condition 'to' of kind to: needs size=1"),
        ({"to": {"size": "one"}}, "conditions.to.size='one': needs int"),
        ({"vector": {"size": 0}}, "conditions.vector.size=0: needs size >= 1"),
        ({"caption": {"size": 9}}, "caption: kind='tokens', size=9, but the data have"),
        ({"caption": {"kind": "vector"}}, "caption: kind='vector', size=8, but the data have"),
        ({"caption": {"name": "text"}}, "conditions.caption.name: no such field"),
        ({"caption": {"mechanism": "joint"}}, "config.network: condition 'caption' of kind tokens"),
        ({"caption": {"mechanism": "sum"}}, "mechanism='sum': unknown; known: joint, cross"),
        ({"caption": {"layer": 2}}, "conditions.caption.layer: no such field (did you mean"),
        ({"caption": "cross"}, "conditions.caption='cross': needs fields"),
        ("cross", "config.network.conditions='cross': needs fields"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(conditions, message):
    """A wrong condition would be ignored, or fail in tracing."""
    with pytest.raises(ConfigError) as error:
        built((LABEL, CAPTION), conditions)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("network", "rates", "message"),
    [
        ({"conditions": {"tokens": {"size": 8}}}, {"tokens": 0.1}, "tokens: no such field"),
        ({"conditions": {"to": {"size": 1}}}, {"to": 0.1}, "to: no such field"),
        ({}, {"lable": 0.1}, "lable: no such field (did you mean 'label'"),
    ],
)
def test_dropout_of_what_data_or_network_lack_is_refused_before_anything_is_traced(
    network, rates, message
):
    """Tracing would fail with a traceback: only conditions of the data can be dropped."""
    config = {**BASE, "network": {**SMALL, **network}}
    config["loss"] = {**BASE["loss"], "condition_dropout": rates}
    with pytest.raises(ConfigError) as error:
        builder.experiment(config, FORM)
    assert f"config.loss: condition_dropout.{message}" in str(error.value)


def test_a_network_that_cannot_take_a_condition_of_the_data_is_refused():
    """Captions would be ignored by a network for points."""
    with pytest.raises(ConfigError, match="enters by joint or cross, but mlp takes embedding"):
        builder.construct_model({**BASE, "network": {"name": "mlp"}}, (CAPTION,))
