"""The sections of a config: autoencoders have neither a noising process nor samples."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from diffjax.builder.construct import fields, lookup
from diffjax.builder.sampling import abilities, plan
from diffjax.builder.tokens import plan_tokens
from diffjax.builder.training import OBJECTIVE
from diffjax.config import Config, ConfigError
from diffjax.data.form import Form
from diffjax.denoiser import Model
from diffjax.nets import AUTOENCODERS, Autoencoder
from diffjax.objectives import OBJECTIVES, Objective
from diffjax.parameterization import Parameterization, Times
from diffjax.samplers.plan import Sampling
from diffjax.sde import SDE

PLANS = 16
"""Number of plans of a run that are kept, those used last."""
SECTIONS = (
    "seed",
    "data",
    "sde",
    "parameterization",
    "network",
    "adapter",
    "loss",
    "optimizer",
    "ema",
    "sampling",
    "train",
)
OPTIONAL = ("adapter",)
"""Sections that a config may lack."""
OF_DENOISERS: dict[str, dict[str, Any]] = {
    "sde": {"name": "flow", "schedule": "logit"},
    "parameterization": {"name": "x0"},
}
"""Sections that only denoisers have, with values that complete the model of an autoencoder. Its
objective uses neither of them."""


@dataclass(frozen=True)
class NoTarget(Parameterization):
    """The parameterization of an autoencoder, which predicts neither data nor noise.

    reason: the text of the ConfigError that every call of the autoencoder as a denoiser raises.
    """

    reason: str = ""

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        raise ConfigError(self.reason)

    def check(self, sde: SDE) -> None:
        """Accept every process, since none is used."""


def with_sections(config: Config) -> dict[str, Any]:
    """Return the config with all sections that its objective needs.

    Raises ConfigError for missing sections, for sections without fields, and for sections that the
    objective does not have.
    """
    fields(config.get("loss", {}), "config.loss")
    config = dict(config)
    sections = tuple(s for s in SECTIONS if s in config or s not in OPTIONAL)
    needed = sections
    if not denoises({"loss": {}, **config}):
        needed = tuple(s for s in sections if s not in OF_DENOISERS)
        config = {"sampling": {}} | config
    if missing := [s for s in needed if s not in config]:
        raise ConfigError(f"config.{missing[0]}: missing; needed: {', '.join(needed)}")
    for section in needed[1:]:
        fields(config[section], f"config.{section}")
    if needed != sections:
        check_sections(config)
    return config


def denoises(config: Config) -> bool:
    """Return whether config.loss trains a denoiser.

    >>> denoises({"loss": {"name": "autoencoding"}}), denoises({"loss": {}})
    (False, True)
    """
    name = config["loss"].get("name", OBJECTIVE)
    return getattr(lookup(OBJECTIVES, name, "config.loss.name"), "denoises", True)


def check_sections(config: Config) -> None:
    """Raise ConfigError for sections and settings that an autoencoder does not have."""
    name = f"config.loss.name={config['loss']['name']!r}"
    for section in OF_DENOISERS:
        if section in config:
            raise ConfigError(f"config.{section}: {name} has no noising process; leave it out")
    if "adapter" in config:
        raise ConfigError(f"config.adapter: {name} trains an autoencoder, which takes no adapter")
    surplus = [field for field in config["sampling"] if field != "ema"]
    if surplus:
        raise ConfigError(f"config.sampling.{surplus[0]}: {no_samples(config)}; known: ema")


def no_samples(config: Config) -> str:
    """Return a text that says why an autoencoder is not sampled, and what to do with it instead."""
    return (
        f"config.loss.name={config['loss']['name']!r} trains an autoencoder, which generates no "
        f"samples: train a network in its latents with --config.data.codec=RUN, and measure its "
        f"reconstructions with python -m diffjax.tools.codec RUN"
    )


def refused(config: Config) -> NoReturn:
    """Raise ConfigError in place of planning how to sample an autoencoder."""
    raise ConfigError(no_samples(config))


def suited(model: Model, loss: Objective, config: Config) -> Model:
    """Return the model as its objective needs it: an autoencoder has no target.

    Raises ConfigError where one of objective and network is for denoisers and the other is not.
    """
    if isinstance(model.network, Autoencoder) != loss.denoises:
        if loss.denoises:
            return loss.adapted(model)
        return replace(model, parameterization=NoTarget(reason=no_samples(config)))
    name, known = config["network"]["name"], ", ".join(AUTOENCODERS)
    asked = f"config.loss.name={config['loss'].get('name', OBJECTIVE)!r}"
    needs = "cannot train an autoencoder" if loss.denoises else f"needs an autoencoder: {known}"
    raise ConfigError(f"config.network.name={name!r}: {asked} {needs}")


def planner(config: Config, form: Form, loss: Objective) -> Callable[..., Any]:
    """Return the function `process -> sampling plan`; that of an autoencoder raises ConfigError.

    Equal arguments without texts give the same object: a plan is rehearsed, and a server asks for
    one with each request.
    """
    if not loss.denoises:
        return lambda *_, **__: refused(config)
    planning = functools.partial(plan_tokens, loss.process) if loss.process else plan
    whole = functools.partial(
        planning, config["sampling"], form=form, **abilities(config["network"])
    )
    known = functools.lru_cache(PLANS)(whole)

    def planned(sde: SDE, *, negative: Any = None, empty: Any = None, **more: Any) -> Sampling:
        if negative or empty:
            return whole(sde, negative=negative, empty=empty, **more)
        return known(sde, **more)

    return planned
