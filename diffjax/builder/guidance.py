"""Construction of guidance, and of its weight in each row, from config.sampling.guidance."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from diffjax.builder.construct import call, construct, fields, instance, lookup, refuse
from diffjax.config import Config, ConfigError, checked, known
from diffjax.data.form import Form
from diffjax.denoiser import reframe
from diffjax.guidance import (
    RAMPS,
    REFERENCES,
    RULES,
    THRESHOLDS,
    Conditional,
    Distilled,
    Guidance,
    Guided,
    Linear,
    Negative,
    Null,
    Reference,
    Thresholded,
)
from diffjax.guidance.rules import Rule
from diffjax.guidance.thresholds import Threshold
from diffjax.prediction import Denoise
from diffjax.sde import SDE, levels
from diffjax.training.experiment import Experiment

GUIDANCE = {"weight": 1.0, "ramp": "constant", "reference": "null", "rule": "linear"}
"""Defaults of the fields of config.sampling.guidance."""
GUIDED = (*GUIDANCE, "threshold", "interval")


def merged(base: Any, new: Any) -> Any:
    """Return the section `base` with the fields of `new` in place of its own.

    Either may also be a single weight; a weight as `new` replaces the whole section.
    """
    if not isinstance(new, Mapping):
        return new
    section = (dict(base) if isinstance(base, Mapping) else {"weight": base}) | dict(new)
    return section["weight"] if [*section] == ["weight"] else section


@dataclass(frozen=True)
class Section:
    """The section config.sampling.guidance of a config.

    spec: a weight, or some of the fields in `GUIDED`, where the name of an entry may stand for the
    entry. sde, form: the process and the form of the data. place: the place of the section in the
    config. per_sample: True if each sample has its own weight, in place of that of the config.
    leads: True if the sampler asks for predictions that lead to a second time, `to`. weighed: True
    if the network takes the weight of guidance as a condition. negative: conditions by name,
    (1, ...), that guidance leads away from in place of missing ones; empty: the same by default,
    where the reference is that without conditions. All methods raise ConfigError
    for settings that cannot guide this process and these data.
    """

    spec: Any
    sde: SDE
    form: Form
    place: str = "config.sampling.guidance"
    per_sample: bool = False
    leads: bool = False
    weighed: bool = False
    negative: Mapping[str, Any] | None = None
    empty: Mapping[str, Any] | None = None

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """All fields, with the defaults of those that are not set."""
        if not isinstance(self.spec, Mapping):
            return {**GUIDANCE, "weight": checked(self.spec, float, self.place)}
        known(self.spec, GUIDED, self.place)
        return {**GUIDANCE, **self.spec}

    def guidance(self) -> Guidance:
        """Construct the guidance, whose entries may be written as their names.

        `reference`: the prediction that guidance leads away from. `rule`: the extrapolation from
        it. `threshold`: the threshold on x0 in every row.

        If all samples have the weight 1, the result is the conditional model with the threshold.
        """
        fields, place = self.fields, self.place
        reference = self.reference(fields["reference"], f"{place}.reference")
        rule = construct(RULES, _named(fields["rule"]), f"{place}.rule")
        instance(rule, Rule, f"{place}.rule")
        nothing = not self.per_sample and np.all(np.equal(fields["weight"], 1))
        if self.negative is not None:
            reference = self.away(self.negative, reference, bool(nothing))
        elif self.empty and reference == Null() and not self.weighed:
            reference = Negative({name: jnp.asarray(value) for name, value in self.empty.items()})
        if self.weighed and not nothing and (reference, rule) != (Null(), Linear()):
            raise ConfigError(
                f"{place}: the network takes the weight of distilled guidance; allowed: "
                f"reference='null' with rule='linear'"
            )
        guidance = Distilled() if self.weighed else Guided(reference, rule)
        guidance = Conditional() if nothing else guidance
        if fields.get("threshold") is None:
            return guidance
        threshold = construct(THRESHOLDS, _named(fields["threshold"]), f"{place}.threshold")
        instance(threshold, Threshold, f"{place}.threshold")
        return Thresholded(guidance, threshold)

    def away(self, negative: Mapping[str, Any], reference: Reference, nothing: bool) -> Negative:
        """Return the reference under negative conditions, in place of that without conditions.

        Raises ConfigError for another reference, and without guidance.
        """
        if reference != Null():
            spec = self.fields["reference"]
            raise ConfigError(
                f"--negative: {self.place}.reference={spec!r} leads away from something else; "
                f"allowed: reference='null'"
            )
        if nothing:
            raise ConfigError(
                f"--negative: has no effect with {self.place}=1, the conditional model; set a "
                f"weight, such as --guidance=2"
            )
        return Negative({name: jnp.asarray(value) for name, value in negative.items()})

    def reference(self, spec: Any, place: str) -> Reference:
        """Construct a reference, which may derive from another one in its field `reference`.

        A reference that is a network is named by its workdir. spec: the value at `place` in the
        config.
        """
        spec = dict(_named(spec)) if isinstance(spec, Mapping | str) else spec
        fields(spec, place)
        entry = lookup(REFERENCES, spec.pop("name", None), f"{place}.name")
        parts, parameters = {}, inspect.signature(entry).parameters
        if "reference" in parameters:
            inner = spec.pop("reference", "null")
            parts["reference"] = self.reference(inner, f"{place}.reference")
        if "denoise" in parameters:
            workdir, ema = spec.pop("workdir", None), spec.pop("ema", None)
            parts["denoise"] = self.network(workdir, ema, f"{place}.workdir")
        reference = instance(call(entry, spec, place, **parts), Reference, place)
        if "label" in spec and not -1 <= spec["label"] < self.form.classes:
            raise ConfigError(
                f"{place}.label={spec['label']}: no such class; known: -1 (none) to "
                f"{self.form.classes - 1}"
            )
        shares = [name for name, _ in getattr(reference, "shares", ())]
        known(shares, ["label"], f"{place}.shares")
        return reference

    def network(self, workdir: Any, ema: Any, place: str) -> Denoise:
        """Load the averaged network of another run, and reframe it for this process.

        ema: the average of its parameters, by default that of its own config.
        """
        if not isinstance(workdir, str):
            raise ConfigError(f"{place}={workdir!r}: needs the workdir of a trained run")
        try:
            run = trained(Path(workdir), ema)
        except ConfigError as error:
            raise ConfigError(f"{place}={workdir}: {error}") from error
        if run.form != self.form:
            forms = f"was trained on {run.form}, and this run on {self.form}"
            raise ConfigError(f"{place}={workdir}: {forms}")
        if self.leads and not run.leads:
            raise ConfigError(
                f"{place}={workdir}: the sampler needs a network that takes a second time, the "
                f"condition `to` (config.network.conditions)"
            )
        if run.denoise.sde == self.sde:
            return run.denoise
        return refuse(place)(reframe)(run.denoise, self.sde)

    def weight(self, rows: int = 1) -> np.ndarray:
        """Return the weight. `weight`: a number (), or one number for each of the rows, (R,)."""
        place = f"{self.place}.weight" if isinstance(self.spec, Mapping) else self.place
        value = self.fields["weight"]
        single = not isinstance(value, list | tuple)
        weight = np.asarray(checked(value, float if single else tuple[float, ...], place))
        if not (np.abs(weight) <= np.finfo(np.float32).max).all():
            raise ConfigError(f"{place}={value}: needs a finite number, in float32")
        if not single and self.per_sample:
            raise ConfigError(f"{place}={value}: each sample has its own weight; allowed: a number")
        if not single and len(weight) != rows:
            raise ConfigError(f"{place}: {len(weight)} weights, but the sampler has {rows} rows")
        unconditional = not self.form.conditional and not _by_network(self.fields["reference"])
        if unconditional and self.per_sample:
            raise ConfigError(
                f"{self.place}: the network is unconditional; allowed: samples without weights"
            )
        if unconditional and (weight != 1).any():
            raise ConfigError(f"{place}={value}: the network is unconditional; allowed: 1")
        return weight

    def ramp(self, times: np.ndarray) -> np.ndarray:
        """Return the ramp of the weight over the rows, (R,).

        The weight of a row is 1 + (weight - 1) ramp. `ramp`: the name of the ramp. `interval`: the
        range of sigma / alpha in which rows are guided; the ramp is 0 in other rows.
        """
        ramp = lookup(RAMPS, self.fields["ramp"], f"{self.place}.ramp")
        factor = refuse(f"{self.place}.ramp")(ramp)(np.asarray(times, np.float64))
        factor = np.asarray(factor)
        interval = self.fields.get("interval")
        if interval is None:
            return factor
        place = f"{self.place}.interval"
        interval = checked(interval, tuple[float, ...], place)
        if len(interval) != 2 or not 0 <= interval[0] < interval[1]:
            raise ConfigError(f"{place}={interval}: needs two numbers, 0 <= low < high")
        rho = np.exp(-levels(self.sde, times).lam)
        inside = (interval[0] <= rho) & (rho <= interval[1])
        if not inside.any():
            raise ConfigError(
                f"{place}={interval}: no row lies in this interval, so nothing would be guided; "
                f"sigma / alpha of the rows goes from {rho.min():.3g} to {rho.max():.3g}"
            )
        return np.where(inside, factor, 0.0)

    def constant_weight(self) -> float:
        """Return the weight for a sampler without rows.

        Raises ConfigError for an interval or a ramp, which need rows.
        """
        rowless = "applies to rows, which the sampler adaptive does not have"
        if self.fields.get("interval") is not None:
            raise ConfigError(f"{self.place}.interval: {rowless}")
        if (ramp := self.fields["ramp"]) != "constant":
            raise ConfigError(f"{self.place}.ramp={ramp!r}: {rowless}")
        return float(np.float32(self.weight().ravel()[0]))


class Run(NamedTuple):
    """The averaged network of another run.

    form: the form of its data. denoise: the network. leads: True if it takes a second time, `to`.
    """

    form: Form
    denoise: Denoise
    leads: bool


def trained(workdir: Path, ema: Any) -> Run:
    """Return the network in `workdir`, loaded again only after that run has changed.

    ema: which average of its parameters; None for that of its config. Raises ConfigError where
    there is none.
    """
    files = (workdir / name for name in ("checkpoints", "weights.safetensors", "ema"))
    return _loaded(workdir, ema, tuple(f.stat().st_mtime_ns for f in files if f.exists()))


@functools.lru_cache(maxsize=2)  # a plan is built several times, with few networks
def _loaded(workdir: Path, ema: Any, changed: tuple[int, ...]) -> Run:
    from diffjax import builder
    from diffjax.training.workdir import load_weights, read_config, read_form

    config, form = read_config(workdir), read_form(workdir)
    sampling = {**config["sampling"], "guidance": 1.0}  # its own guidance may name a third run
    config["sampling"] = sampling if ema is None else sampling | {"ema": ema}
    experiment = builder.experiment(config, form)
    denoise = experiment.denoiser(load_weights(experiment, workdir).params)
    return Run(form, denoise, takes_to(config["network"]))


def takes_to(network: Config) -> bool:
    """Return True if the network of a section `network` takes a second time, `to`."""
    return "to" in network.get("conditions", {})


def takes_weight(network: Config) -> bool:
    """Return True if the network of a section `network` takes the weight of guidance."""
    return "guidance" in network.get("conditions", {})


def beyond(experiment: Experiment, weights: Sequence[float] = ()) -> str:
    """Return one line for weights that the network has not learned as a condition, or "".

    weights: guidance weights of samples, in place of that of the config.
    """
    spec = experiment.config["sampling"].get("guidance", 1.0)
    weight = [*weights] or (spec.get("weight", 1.0) if isinstance(spec, Mapping) else spec)
    low, high = experiment.loss.guides or (1.0, 1.0)
    asked = np.ravel(weight)
    inside = (asked == 1) | ((low <= asked) & (asked <= high))
    takes = experiment.config["network"].get("conditions", {}).get("guidance", {"waves": True})
    if inside.all() or takes.get("waves"):  # of a published network: its range is not stated
        return ""
    return (
        f"config.sampling.guidance: weight {weight}, but the network has learned the weights "
        f"{low:g} to {high:g} (config.loss.weights): expect poor samples"
    )


def _named(spec: Any) -> Any:
    return {"name": spec} if isinstance(spec, str) else spec


def _by_network(spec: Any) -> bool:
    """Return True if the reference is another network, which needs no condition."""
    while isinstance(_named(spec), Mapping) and "reference" in _named(spec):
        spec = spec["reference"]
    return isinstance(_named(spec), Mapping) and _named(spec).get("name") == "network"
