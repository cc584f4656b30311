"""Losses from a config, by name or with settings; combinations that cannot work are refused."""

import copy

import jax
import numpy as np
import pytest
from tiers import some

from diffjax import builder
from diffjax.config import ConfigError, load, override
from diffjax.draws import DRAWS
from diffjax.objectives import ERRORS, Denoising
from diffjax.schedules import Learned
from diffjax.weights import WEIGHTS

# Small, because each successful build traces the network.
BASE = override(load("digits_vp"), ["network.multipliers=(1,)", "network.attention=()"])
POINTS = {"data": {"name": "moons"}, "network": {"name": "mlp", "width": 8, "depth": 1}}
LABELLED = POINTS | {"data": {"name": "moons", "labels": True}}


def config(**loss):
    return {**copy.deepcopy(BASE), "loss": loss}


def refused(config) -> str:
    """Return the one line with which `builder.experiment` refuses this config."""
    with pytest.raises(ConfigError) as error:
        builder.experiment(config)
    text = str(error.value)
    assert text and "\n" not in text
    return text


@pytest.mark.parametrize(
    "name", some(sorted(set(WEIGHTS) | set(ERRORS)), ("min_snr", "edm", "huber"))
)
def test_weights_and_errors_stand_as_their_name_or_with_it(name):
    """A short config and a long one would train different models."""
    kind, table = ("weight", WEIGHTS) if name in WEIGHTS else ("error", ERRORS)
    for entry in (name, {"name": name}):
        loss = builder.experiment(config(**{kind: entry}) | POINTS).loss
        assert getattr(loss, kind) is table[name]


@pytest.mark.parametrize("name", DRAWS)
def test_draws_stand_as_their_name_or_with_it(name):
    """A short config and a long one would train different models."""
    for entry in (name, {"name": name}):
        assert builder.experiment(config(draw=entry) | POINTS).loss.draw == DRAWS[name]()


def test_settings_of_the_loss_reach_it():
    """If a field were dropped on the way, another model would be trained without notice."""
    loss = builder.experiment(
        config(
            weight={"name": "min_snr", "gamma": 2.0},
            draw={"name": "log_normal", "mean": 0.5, "stratified": True},
            error={"name": "huber", "delta": 0.25},
            condition_dropout=0.25,
            uncertainty=True,
        )
        | LABELLED
    ).loss
    assert loss.weight == builder.Applied(WEIGHTS["min_snr"], (("gamma", 2.0),))
    assert loss.error == builder.Applied(ERRORS["huber"], (("delta", 0.25),))
    assert loss.draw == DRAWS["log_normal"](mean=0.5, stratified=True)
    assert (loss.condition_dropout, loss.uncertainty) == (0.25, True)
    assert builder.experiment(config() | POINTS).loss == Denoising()


def test_condition_dropout_by_name_is_checked():
    """A condition that does not exist would never be dropped, and guidance lack its reference."""
    made = builder.experiment(config(condition_dropout={"label": 0.25}) | LABELLED).loss
    assert made == Denoising(condition_dropout={"label": 0.25})
    for rates, message in (
        (
            {"lable": 0.1},
            "config.loss: condition_dropout.lable: no such field (did you mean 'label'",
        ),
        ({"tokens": 0.1}, "config.loss: condition_dropout.tokens: no such field; known: label"),
        ({"label": "x"}, "config.loss.condition_dropout.label='x': needs float, got str"),
        ({"label": 2}, "config.loss: condition_dropout['label']=2.0: needs a rate from 0 to 1"),
        ("high", "config.loss.condition_dropout='high': needs float, got str"),
    ):
        assert message in refused(config(condition_dropout=rates) | LABELLED)


def test_states_of_the_loss_are_in_the_first_state():
    """State that is learned from the losses would not be trained, or be lost on resuming."""
    made = builder.experiment(config(uncertainty=True, draw="second_moment") | POINTS)
    state = jax.eval_shape(made.initialise)
    assert set(state.params) == {"network", "loss"} and set(state.loss) == {"seen", "count"}
    plain = jax.eval_shape(builder.experiment(config() | POINTS).initialise)
    assert set(plain.params) == {"network"} and plain.loss == ()


@pytest.mark.parametrize(
    ("loss", "parts"),
    [
        ({"weight": "elboo"}, ["config.loss.weight.name='elboo': unknown", "mean 'elbo'?"]),
        ({"weight": {"name": "p3"}}, ["config.loss.weight.name='p3': unknown", "uniform_output"]),
        ({"weight": {}}, ["config.loss.weight.name: missing", "uniform_output"]),
        ({"weight": [1]}, ["config.loss.weight=[1]"]),
        ({"weight": {"name": [1]}}, ["config.loss.weight.name=[1]"]),
        ({"draw": "stratified"}, ["config.loss.draw.name='stratified': unknown", "uniform"]),
        ({"draw": {"name": 3}}, ["config.loss.draw.name=3: unknown"]),
        ({"error": "l3"}, ["config.loss.error.name='l3': unknown", "huber"]),
        ({"weight": {"name": "elbo", "gamma": 1.0}}, ["config.loss.weight.gamma: no such field"]),
        (
            {"weight": {"name": "min_snr", "gama": 1.0}},
            ["config.loss.weight.gama: no such field", "mean 'gamma'?"],
        ),
        (
            {"weight": {"name": "min_snr", "gamma": "big"}},
            ["config.loss.weight.gamma='big': needs float"],
        ),
        ({"weight": {"name": "min_snr", "gamma": 0.0}}, ["config.loss", "gamma=0.0: needs"]),
        ({"weight": {"name": "edm", "sigma_data": -1.0}}, ["config.loss", "sigma_data=-1.0"]),
        ({"weight": {"name": "p2", "k": 0.0}}, ["config.loss", "k=0.0: needs k > 0"]),
        ({"error": {"name": "huber", "delta": 0.0}}, ["config.loss", "delta=0.0: needs"]),
        ({"error": {"name": "l2", "c": 0.0}}, ["config.loss.error.c: no such field"]),
        ({"draw": {"name": "uniform", "mean": 0.0}}, ["config.loss.draw.mean: no such field"]),
        (
            {"draw": {"name": "log_normal", "std": 0.0}},
            ["config.loss.draw: ", "std=0.0", "0 < std < inf"],
        ),
        ({"draw": {"name": "mode", "scale": 2.0}}, ["config.loss.draw: scale=2.0", "-1 <= scale"]),
        ({"draw": {"name": "discrete", "steps": 0}}, ["config.loss.draw: steps=0"]),
        (
            {"draw": {"name": "discrete", "importance": True}},
            ["config.loss.draw: importance=True", "allowed: False"],
        ),
        (
            {"draw": {"name": "discrete", "steps": 1}},
            ["config.loss: Discrete(", "no k / steps lies in [t_min, t_max]"],
        ),
        ({"draw": {"name": "second_moment", "bins": 1}}, ["config.loss.draw: ", "bins >= 2"]),
        ({"draw": {"name": "score_norm", "floor": 0.0}}, ["config.loss.draw: floor=0.0"]),
        ({"draw": {"name": "uniform", "stratified": 1}}, ["config.loss.draw.stratified=1"]),
        ({"wieght": "elbo"}, ["config.loss.wieght: no such field", "mean 'weight'?"]),
        ({"hybrid": -1.0}, ["config.loss: hybrid=-1.0"]),
        ({"steps": 1}, ["config.loss: steps=1"]),
        ({"hybrid": 0.001}, ["config.loss: hybrid=0.001", "config.network.learn_variance=False"]),
    ],
    ids=lambda v: "" if isinstance(v, list) else repr(v),
)
def test_a_loss_that_cannot_be_is_refused_with_its_place(loss, parts):
    """The mistake would show as a traceback at the first step, or as another loss."""
    text = refused(config(**loss))
    for part in parts:
        assert part in text


@pytest.mark.parametrize("hybrid", [0.0, 0.001])
def test_hybrid_and_the_second_output_go_together(hybrid):
    """The second output would stay untrained, or a loss train nothing."""
    made = {**config(hybrid=hybrid), "network": {**BASE["network"], "learn_variance": True}}
    if hybrid:
        assert builder.experiment(made).loss.hybrid == hybrid
    else:
        text = refused(made)
        assert "config.loss: hybrid=0" in text and "config.network.learn_variance=True" in text


def test_a_likelihood_draw_needs_a_last_log_snr():
    """All drawn times would be t_max."""
    made = override(BASE, ["sde.t_max=1.0"]) | {"loss": {"draw": "likelihood"}}
    text = refused(made)
    assert text.startswith("config.loss: ") and "t_max < 1" in text


def test_the_bound_needs_images():
    """A decoder of 256 levels would be applied to points of the plane."""
    text = refused(config(weight="elbo", bound=True) | POINTS)
    assert "config.loss: bound=True: needs images" in text and "(2,)" in text
    assert builder.experiment(config(weight="elbo", bound=True)).loss.bound


LEARNED = {"name": "vp", "schedule": {"name": "learned"}}


@pytest.mark.parametrize(
    "loss",
    [
        {},
        {"bound": True},
        {"weight": "elbo"},
        {"weight": "likelihood", "bound": True},
        {"weight": {"name": "sigmoid"}, "bound": True},
    ],
    ids=repr,
)
def test_a_learned_schedule_is_refused_with_other_losses_than_the_bound(loss):
    """Training would shrink the range of noise levels while the loss looks fine."""
    text = refused({**config(**loss), "sde": LEARNED})
    assert text.startswith("config.loss: ")
    assert "weight='elbo'" in text and "bound=True" in text


@pytest.mark.parametrize("weight", ["elbo", {"name": "elbo"}], ids=repr)
def test_a_learned_schedule_builds_with_the_bound(weight):
    """The variational bound, the only loss for a learned schedule, would be refused."""
    made = builder.experiment({**config(weight=weight, bound=True), "sde": LEARNED})
    assert made.model.sde.schedule == Learned()
    assert set(jax.eval_shape(made.initialise).params) == {"network", "schedule"}
    assert np.isfinite(made.plan(made.model.sde).table.update).all()


def test_a_learned_schedule_inside_another_is_refused_with_its_place():
    """The schedule would never be trained, because training does not find its parameters there."""
    inner = {"name": "shifted", "schedule": {"name": "learned"}}
    text = refused({**config(weight="elbo", bound=True), "sde": {"name": "vp", "schedule": inner}})
    assert text.startswith("config.sde.schedule: ") and "learned schedule" in text
