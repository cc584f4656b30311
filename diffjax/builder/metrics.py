"""Construction of metrics from texts like `bpd:trace=gaussian,probes=4,steps=10`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from diffjax.builder.construct import call, lookup, named_parameters, takes
from diffjax.config import Config, ConfigError, entries, known, parse
from diffjax.evaluation import OF_NETWORK, OF_SAMPLES
from diffjax.evaluation.beforehand import features_of
from diffjax.evaluation.samples import GIVEN, lacks
from diffjax.features import EXTRACTORS
from diffjax.likelihood import DEQUANTIZERS, TRACES

NAMED = {"dequantize": DEQUANTIZERS, "trace": TRACES}
"""Settings of a metric that name an entry of a catalogue; the settings of the entry join them."""
ODE = "ode"
"""The setting of a metric that is an `Ode`, in place of which its fields are set."""


def construct_metrics(text: str, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse a text like `bpd:repeats=4,num=100,vlb` to metrics by name.

    The result is a pair: the metrics of samples, and those of the network. Raises ConfigError for
    unknown names and bad settings.

    >>> of_samples, of_network = construct_metrics("fid,bpd:repeats=4", "--metrics")
    >>> [*of_samples], [*of_network]
    (['fid'], ['bpd'])
    """
    of_samples, of_network = {}, {}
    for spec in map(parse, entries(text)):
        entry = lookup(OF_SAMPLES | OF_NETWORK, spec["name"], f"{place}.name")
        about_network = "subject" in named_parameters(entry, place)
        metrics = of_network if about_network else of_samples
        metrics[spec["name"].rpartition(":")[2]] = _metric(spec, place)
    return of_samples, of_network


def check_features(metrics: Mapping[str, Any], extractor: str, place: str) -> None:
    """Raise ConfigError for a metric of features that this entry of `EXTRACTORS` does not compute.

    A user-defined extractor may compute any features.

    >>> check_features(construct_metrics("sfid", "--metrics")[0], "pixels", "--metrics")
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: --metrics=sfid: ...
    """
    for name, metric in metrics.items():
        kind = features_of(metric)
        if kind and extractor in EXTRACTORS and extractor not in GIVEN[kind].split(", "):
            raise ConfigError(f"{place}={name}: {lacks(extractor, kind)}")


def settings(metric: Callable[..., Any]) -> dict[str, Any]:
    """Return the settings of a metric and of its parts, with their defaults."""
    flat: dict[str, Any] = {}
    for name, default in _defaults(metric).items():
        if name == ODE:
            flat |= _fields_of_ode()
        elif name in NAMED:
            flat[name] = getattr(default, "__name__", "")
            flat |= _defaults(default) if default else {}
        else:
            flat[name] = default
    return flat


def _metric(spec: Config, place: str) -> Callable[..., Any]:
    """Return the metric that `spec` names, with its settings bound and its parts constructed."""
    metric = lookup(OF_SAMPLES | OF_NETWORK, spec["name"], f"{place}.name")
    defaults, parts = _defaults(metric), {}
    left = {k: v for k, v in spec.items() if k != "name"}
    take = lambda names: {k: left.pop(k) for k in names if k in left}
    for name in NAMED.keys() & defaults.keys():
        entry = defaults[name]
        if name in left:
            chosen = left.pop(name)  # the text `none` was parsed to None, but names an entry here
            entry = lookup(NAMED[name], "none" if chosen is None else chosen, f"{place}.{name}")
        if entry is not None:
            parts[name] = call(entry, take(_defaults(entry)), place, partial=True)
    if ODE in defaults:
        from diffjax.likelihood import Ode  # diffrax takes half a second to import

        parts[ODE] = call(Ode, take(_fields_of_ode()), place)
    known(left, settings(metric), place)
    parameters = named_parameters(metric, place)
    sees = 1 if "subject" in parameters else 2
    settable = {k: None for k in (*left, *parts) if k in parameters}  # `call` names the others
    if not takes(metric, *[None] * sees, **settable):
        raise ConfigError(
            f"{place}={spec['name']}: not a metric; needs arguments (real, samples) or (subject)"
        )
    return call(metric, left, place, partial=True, **parts)


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _fields_of_ode() -> dict[str, Any]:
    from diffjax.likelihood import Ode

    return _defaults(Ode)
