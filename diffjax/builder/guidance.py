"""config.sampling.guidance to what guides, and how strongly in each row."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.builder.construct import call, construct, fields, lookup, refuse
from diffjax.config import ConfigError, checked, known
from diffjax.data.form import Form
from diffjax.denoiser import reframe
from diffjax.guidance import (
    RAMPS,
    REFERENCES,
    RULES,
    THRESHOLDS,
    Conditional,
    Guidance,
    Guided,
    Thresholded,
)
from diffjax.prediction import Denoise
from diffjax.sde import SDE, levels

GUIDANCE = {"weight": 1.0, "ramp": "constant", "reference": "null", "rule": "linear"}
"""What config.sampling.guidance need not say."""
GUIDED = (*GUIDANCE, "threshold", "interval")


def section(spec: Any, place: str) -> dict[str, Any]:
    """The fields of a guidance that may stand as its weight, each entry with a name."""
    if not isinstance(spec, Mapping):
        return {**GUIDANCE, "weight": checked(spec, float, place)}
    known(spec, GUIDED, place)
    return {**GUIDANCE, **spec}


def merged(base: Any, new: Any) -> Any:
    """The section `base` with the fields of `new`, which may be a weight, in their place."""
    if not isinstance(new, Mapping):
        return new
    told = (dict(base) if isinstance(base, Mapping) else {"weight": base}) | dict(new)
    return told["weight"] if [*told] == ["weight"] else told


def construct_guidance(spec: Any, sde: SDE, form: Form, place: str) -> Guidance:
    """What guides, of entries that may stand as their names.

    `reference`: what guidance leads away from. `rule`: how far. `threshold`: of x0 in every row.
    With the weight 1 it is the conditional model, and the threshold.
    """
    told = section(spec, place)
    reference = construct_reference(told["reference"], sde, form, f"{place}.reference")
    rule = construct(RULES, _named(told["rule"]), f"{place}.rule")
    guidance = Conditional() if np.all(np.equal(told["weight"], 1)) else Guided(reference, rule)
    if told.get("threshold") is None:
        return guidance
    threshold = construct(THRESHOLDS, _named(told["threshold"]), f"{place}.threshold")
    return Thresholded(guidance, threshold)


def construct_reference(spec: Any, sde: SDE, form: Form, place: str) -> Any:
    """A reference, or one made of another in its field `reference`; a network by its workdir."""
    spec = dict(_named(spec)) if isinstance(spec, Mapping | str) else spec
    fields(spec, place)
    entry = lookup(REFERENCES, spec.pop("name", None), f"{place}.name")
    given, own = {}, inspect.signature(entry).parameters
    if "reference" in own:
        inner = spec.pop("reference", "null")
        given["reference"] = construct_reference(inner, sde, form, f"{place}.reference")
    if "denoise" in own:
        workdir, ema = spec.pop("workdir", None), spec.pop("ema", None)
        given["denoise"] = network(workdir, ema, sde, form, f"{place}.workdir")
    made = call(entry, spec, place, **given)
    if "label" in spec and not -1 <= spec["label"] < form.classes:
        raise ConfigError(
            f"{place}.label={spec['label']}: no such class; known: -1 (none) to {form.classes - 1}"
        )
    known([name for name, _ in getattr(made, "shares", ())], ["label"], f"{place}.shares")
    return made


def network(workdir: Any, ema: Any, sde: SDE, form: Form, place: str) -> Denoise:
    """The averaged network of another run, seen under `sde`. ConfigError where it does not fit.

    ema: which average of its parameters, where not that of its own config.
    """
    if not isinstance(workdir, str):
        raise ConfigError(f"{place}={workdir!r}: needs the workdir of a trained run")
    try:
        there, denoise = trained(Path(workdir), ema)
    except ConfigError as error:
        raise ConfigError(f"{place}={workdir}: {error}") from error
    if there != form:
        raise ConfigError(f"{place}={workdir}: its data are {there}, and here {form}")
    return denoise if denoise.sde == sde else refuse(place)(reframe)(denoise, sde)


@functools.cache
def trained(workdir: Path, ema: Any) -> tuple[Form, Denoise]:
    """The data form and the averaged network of a run."""
    from diffjax import builder
    from diffjax.training.workdir import load_weights, read_config, read_form

    config, form = read_config(workdir), read_form(workdir)
    own = {**config["sampling"], "guidance": 1.0}  # may name yet another run
    config["sampling"] = own if ema is None else own | {"ema": ema}
    experiment = builder.experiment(config, form)
    return form, experiment.denoiser(load_weights(experiment, workdir).params)


def weights(spec: Any, sde: SDE, times: np.ndarray, form: Form, place: str) -> np.ndarray:
    """The guidance weight of each row (R,), as the device will see it.

    `weight`: a number, or one per row. `ramp`: how a number follows time. `interval`: of
    sigma / alpha, in which rows are guided; the others have weight 1.
    """
    told = section(spec, place)
    here = f"{place}.weight" if isinstance(spec, Mapping) else place
    given = told["weight"]
    single = not isinstance(given, list | tuple)
    made = np.asarray(checked(given, float if single else tuple[float, ...], here))
    if not np.isfinite(made).all():
        raise ConfigError(f"{here}={given}: needs a finite number")
    if not single and len(made) != len(times):
        raise ConfigError(f"{here}: has {len(made)} weights, and the sampler {len(times)} rows")
    if (made != 1).any() and not form.conditions and not _by_network(told["reference"]):
        raise ConfigError(f"{here}={given}: the network is unconditional; allowed: 1")
    ramp = lookup(RAMPS, told["ramp"], f"{place}.ramp")
    made = 1 + (made - 1) * ramp(np.asarray(times, np.float64))
    if told.get("interval") is not None:
        interval = checked(told["interval"], tuple[float, ...], f"{place}.interval")
        if len(interval) != 2 or not 0 <= interval[0] < interval[1]:
            raise ConfigError(f"{place}.interval={interval}: needs two numbers, 0 <= low < high")
        rho = np.exp(-levels(sde, times).lam)
        made = np.where((interval[0] <= rho) & (rho <= interval[1]), made, 1.0)
    return np.asarray(made, np.float32).astype(np.float64)


def constant_weight(spec: Any, sde: SDE, form: Form, place: str) -> float:
    """The weight where there are no rows; ConfigError where it differs between them."""
    told = section(spec, place)
    if told.get("interval") is not None:
        raise ConfigError(f"{place}.interval: the sampler adaptive has no rows for it")
    if told["ramp"] != "constant":
        raise ConfigError(f"{place}.ramp={told['ramp']!r}: the sampler adaptive has no rows for it")
    return float(weights(spec, sde, np.ones(1), form, place)[0])


def _named(spec: Any) -> Any:
    return {"name": spec} if isinstance(spec, str) else spec


def _by_network(spec: Any) -> bool:
    """Whether the reference is another network, which needs no condition."""
    while isinstance(_named(spec), Mapping) and "reference" in _named(spec):
        spec = spec["reference"]
    return isinstance(_named(spec), Mapping) and _named(spec).get("name") == "network"
