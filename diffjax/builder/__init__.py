"""Construction of objects from a config; no other package looks up names.

A config is plain data. Each noun is `{"name": entry of its catalogue, argument: value, ...}`, and
omitted arguments have the defaults of the entry. A config that cannot work raises `ConfigError`:
one line with the place in the config, the bad value and the allowed ones.

    >>> from diffjax import config
    >>> run = experiment(config.load("moons_vp"))
    >>> run.form.shape, run.form.names, run.model.network
    ((2,), ['label'], Network(MLP))
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from diffjax.builder.adapter import PLACE as ADAPTER
from diffjax.builder.adapter import adapted_by, check_adapter, controlled_by, fixed_by
from diffjax.builder.adapter import sections as adapter_sections
from diffjax.builder.codec import construct_codec, construct_decoding
from diffjax.builder.construct import Applied, call, construct, fields, instance, lookup, refuse
from diffjax.builder.data import construct_data
from diffjax.builder.defaults import completed
from diffjax.builder.encoder import construct_encoder, encoder_of, learns
from diffjax.builder.filters import check_prompts, construct_filters
from diffjax.builder.lanes import check_lanes
from diffjax.builder.maps import construct_maps
from diffjax.builder.metrics import check_features, construct_metrics
from diffjax.builder.network import construct_network
from diffjax.builder.sampling import (
    SAMPLING,
    abilities,
    construct_grid,
    construct_sampler,
    construct_table,
    doubts,
    listing,
    noisy,
    off_grid,
    order,
    plan,
    untrained,
)
from diffjax.builder.sections import (
    OF_DENOISERS,
    SECTIONS,
    denoises,
    planner,
    suited,
    with_sections,
)
from diffjax.builder.training import (
    Loader,
    construct_averages,
    construct_frozen,
    construct_loss,
    construct_optimizer,
    construct_train,
    task,
    widths,
)
from diffjax.checks import SEEDS
from diffjax.config import (
    Config,
    ConfigError,
    checked,
    known,
    named,
    parse,
    written,
)
from diffjax.data import Reading
from diffjax.data.form import KNOWN, Form
from diffjax.denoiser import Model
from diffjax.devices.mesh import SHARDINGS
from diffjax.features import EXTRACTORS, Extractor
from diffjax.io.trees import flat
from diffjax.objectives import Objective
from diffjax.parameterization import NOISE_LABELS, PARAMETERIZATIONS
from diffjax.samplers import SAMPLERS
from diffjax.schedules import DERIVED, SCHEDULES, Schedule
from diffjax.sde import SDE, SDES
from diffjax.spaces import PLAIN, Space
from diffjax.specs import Spec
from diffjax.training.experiment import Experiment
from diffjax.training.optimizer import matched, matches
from diffjax.training.writers import WRITERS, Writer

__all__ = [
    "ADAPTER",
    "SAMPLERS",
    "SAMPLING",
    "SCHEDULES",
    "SECTIONS",
    "Applied",
    "abilities",
    "adapter_sections",
    "call",
    "check_features",
    "check_prompts",
    "completed",
    "construct",
    "construct_codec",
    "construct_data",
    "construct_decoding",
    "construct_encoder",
    "construct_features",
    "construct_filters",
    "construct_grid",
    "construct_maps",
    "construct_metrics",
    "construct_model",
    "construct_sampler",
    "construct_schedule",
    "construct_sde",
    "construct_table",
    "controlled_by",
    "denoises",
    "doubts",
    "experiment",
    "learns",
    "listing",
    "off_grid",
    "order",
    "plan",
    "refuse",
    "untrained",
]


def experiment(config: Config, form: Form | None = None, load: Loader | None = None) -> Experiment:
    """Construct all objects of a run.

    config: plain data, or with Python objects in the place of names and sections (`plain`). form:
    the form of the data; without it the data set is opened. load: `(name, path) -> trained
    network`, for the networks that the objective holds; without it the run can be sampled but not
    trained. Raises ConfigError before anything is compiled or decoded.
    """
    config = plain(config)
    known(config, SECTIONS, "config")
    config = with_sections(config)
    seed = checked(config["seed"], int, "config.seed")
    if not 0 <= seed < SEEDS:
        raise ConfigError(f"config.seed={seed}: needs 0 <= seed < 2**32")
    source, reading = construct_data(config["data"], "config.data", opened=form is None)
    in_data = None if form else tuple(source("train").form.names)
    form = form or reading.form(source("train"))
    reading = dataclasses.replace(reading, kind=form.kind)
    conditions = conditions_of(form, reading)
    model = construct_model(OF_DENOISERS | config, conditions, form.items.space)
    loss, holds = construct_loss(config["loss"], "config.loss", load)
    model = suited(model, loss, config)
    sampling = planner(config, form, loss)
    # Refuses a config that cannot be sampled, before training.
    planned = sampling(model.sde) if loss.denoises else None
    check_lengths(form, loss)
    check_space(form, loss)
    check_lanes(config, form, model, loss)
    if set(holds) == set(loss.loads):
        adds = noisy(config["sampling"], model.sde, planned) if planned else ""
        refuse("config.loss")(loss.check)(model, task(config, form, reading, adds, in_data))
    averages = construct_averages(config["ema"], "config.ema")
    train = construct_train(config["train"], "config.train", averages)
    built = Experiment(
        config=dict(config),
        complete=completed,
        source=source,
        reading=reading,
        model=model,
        loss=loss,
        optimizer=construct_optimizer(config["optimizer"], "config.optimizer", train.batch_size),
        averages=averages,
        stds=widths(averages),
        train=train,
        writers=construct_writers(train.writers),
        sharding=construct(SHARDINGS, train.sharding, "config.train.sharding"),
        plan=sampling,
        seed=seed,
        form=form,
        decodes=functools.partial(construct_decoding, reading.codec, form, "config.data.codec"),
        encodes=functools.partial(encoder_of, reading.encoder, form, "config.data.encoder"),
        frozen=construct_frozen(config["optimizer"], "config.optimizer") + fixed_by(config),
        holds=holds,
    )
    check_adapter(built)
    check_frozen(built)
    state = refuse("config.network")(jax.eval_shape)(built.initialise)
    rates = config["optimizer"].get("rates")
    refuse("config.optimizer.rates")(matched)(rates, state.params)
    return built


def check_lengths(form: Form, loss: Objective) -> None:
    """Raise ConfigError for an objective that counts all values, where some are no data.

    Such are the padding of items with lengths, and what the condition `known` states.
    """
    if loss.masks or not (form.ends or KNOWN in form.names):
        return
    why = "padding as data, and these {}s have lengths" if form.ends else "what is known of {}s"
    raise ConfigError(
        f"config.loss: {type(loss).__name__} counts {why.format(form.items.noun)}; allowed: "
        f"name='denoising'"
    )


def check_space(form: Form, loss: Objective) -> None:
    """Raise ConfigError for an objective whose noise would leave the space of the items."""
    if form.items.space != PLAIN and not loss.spaces:
        space = type(form.items.space).__name__
        raise ConfigError(
            f"config.loss: {type(loss).__name__} draws noise outside of the space {space} of these "
            f"{form.items.noun}s; allowed: name='denoising'"
        )


def plain(config: Config) -> dict[str, Any]:
    """Return the config as plain data, with names in place of objects and fields in place of texts.

    `{"network": small}` and `{"network": "mymodule:small"}` become `{"network": {"name":
    "mymodule:small"}}`. Raises ConfigError for an object that cannot be imported by its name.
    """
    config = written(config)
    config = {k: parse(v) if k in SECTIONS and isinstance(v, str) else v for k, v in config.items()}
    if isinstance(sampling := config.get("sampling"), Mapping):
        config["sampling"] = named(sampling, "sampler", "grid", "corrector", "lanes")
    return config


def check_frozen(built: Experiment) -> None:
    """Raise ConfigError for a pattern in `frozen` that matches no parameter, or if all match."""
    if not built.frozen:
        return
    place = "config.optimizer.frozen"
    params = refuse("config.network")(jax.eval_shape)(built.parameters)
    refuse(place)(matched)(built.frozen, params)
    if all(map(matches(built.frozen), flat(params))):
        raise ConfigError(f"{place}={built.frozen}: matches every parameter: nothing is trained")


def construct_writers(texts: Sequence[str]) -> tuple[Callable[..., Writer], ...]:
    """Return `(workdir, start) -> Writer` for each text; no package of a writer is imported yet."""
    place = "config.train.writers"
    return tuple(
        construct(WRITERS, text, f"{place}[{i}]", partial=True) for i, text in enumerate(texts)
    )


def construct_features(text: str, place: str) -> Callable[[Any], Extractor]:
    """Parse a text like `inception:weights=PATH` to a function `real data -> Extractor`.

    >>> from types import SimpleNamespace
    >>> from diffjax.data import moons
    >>> real = SimpleNamespace(train=moons("train", size=10))
    >>> construct_features("pixels", "--features")(real).name
    'pixels'
    """
    return refuse(place)(construct(EXTRACTORS, text, place, partial=True))


def conditions_of(form: Form, reading: Reading) -> tuple[Spec, ...]:
    """Return the conditions of an item as the network sees it, with the labels of augmentation."""
    width = reading.augment.width if reading.augment else 0
    return (*form.conditions, *((Spec("augment", "augment", width),) if width else ()))


def construct_model(config: Config, conditions: Sequence[Spec] = (), space: Space = PLAIN) -> Model:
    """Construct the model: process, parameterization and network.

    conditions: the conditions of the data, for which the network is built. space: that of the
    items. Raises ConfigError where the parts do not fit together.

    >>> sections = {"sde": {"name": "vp", "schedule": "cosine"}, "network": {"name": "mlp"}}
    >>> construct_model({**sections, "parameterization": {"name": "v"}})
    Model(V, c_noise=time, Network(MLP), VP(schedule=Cosine(s=0.008), t_min=0.001, t_max=1.0))
    """
    sde = instance(construct_sde(config["sde"], "config.sde"), SDE, "config.sde")
    controls = controlled_by(config)
    of_base = [spec for spec in conditions if spec.name not in controls]
    network = construct_network(config["network"], of_base, "config.network")
    network = adapted_by(config, network, conditions)
    spec = dict(config["parameterization"])
    if "c_noise" in spec:
        place = "config.parameterization.c_noise"
        spec["c_noise"] = lookup(NOISE_LABELS, spec["c_noise"], place)
    parameterization = construct(PARAMETERIZATIONS, spec, "config.parameterization")
    with_place = refuse("config.parameterization")
    return with_place(Model)(sde, parameterization, network, space)


def construct_sde(spec: Config, place: str) -> SDE:
    """Construct the noising process with its schedule.

    >>> construct_sde({"name": "vp", "schedule": "cosine:s=0.01"}, "config.sde")
    VP(schedule=Cosine(s=0.01), t_min=0.001, t_max=1.0)
    """
    spec = dict(spec)
    schedule = construct_schedule(spec.pop("schedule", {}), f"{place}.schedule")
    return construct(SDES, spec, place, schedule=schedule)


def construct_schedule(spec: Any, place: str) -> Schedule:
    """Construct a schedule, which may derive from another one in its field `schedule`.

    spec: its fields, or a text like `sigmoid:tau=0.7`.

    >>> construct_schedule("sigmoid:tau=0.7", "config.sde.schedule")
    Sigmoid(start=-3.0, end=3.0, tau=0.7)
    >>> construct_schedule("sigmoid:tua=0.7", "config.sde.schedule")
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: config.sde.schedule.tua: ...
    """
    spec = parse(spec) if isinstance(spec, str) else spec
    fields(spec, place)
    table, spec, inner = SCHEDULES | DERIVED, dict(spec), {}
    entry = lookup(table, spec["name"], f"{place}.name") if "name" in spec else None
    if entry and "schedule" in inspect.signature(entry).parameters:
        inner["schedule"] = construct_schedule(spec.pop("schedule", {}), f"{place}.schedule")
    return instance(construct(table, spec, place, **inner), Schedule, place)
