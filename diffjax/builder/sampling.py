"""Construction of samplers and sampling plans from config.sampling."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import pytree
from diffjax.builder import metrics
from diffjax.builder.construct import call, construct, fields, instance, lookup, refuse
from diffjax.builder.guidance import GUIDANCE, Section, beyond, takes_to, takes_weight
from diffjax.builder.lanes import construct_lanes
from diffjax.config import Config, ConfigError, checked
from diffjax.config import known as check_known
from diffjax.data.form import ABSENT, Form
from diffjax.evaluation import OF_NETWORK, OF_SAMPLES
from diffjax.features import EXTRACTORS
from diffjax.filters import FILTERS
from diffjax.grids import GRIDS
from diffjax.guidance import RAMPS, REFERENCES, RULES, THRESHOLDS, ramps
from diffjax.prediction import Prediction
from diffjax.samplers import CORRECTORS, ORDERS, SAMPLERS, Sampler, Table
from diffjax.samplers.plan import Plan, Sampling
from diffjax.samplers.starts import last_part
from diffjax.sde import SDE
from diffjax.training.experiment import Experiment

SAMPLING = {"grid": {"name": "uniform"}, "steps": 50, "guidance": 1.0, "noise": "independent"}
"""Defaults of the fields of config.sampling."""
PLANNED = (*SAMPLING, "sampler", "corrector", "lanes", "ema")
NOISES = {"independent": lambda table: table, "brownian": Table.brownian}
"""Independent noise in each row, or that of one Brownian path, whose sample more steps refine."""


def plan(
    spec: Config,
    sde: SDE,
    form: Form,
    *,
    learned: bool = False,
    leads: bool = False,
    weighed: bool = False,
    place: str = "config.sampling",
    per_sample: bool = False,
    strength: float = 1.0,
    negative: Mapping[str, Any] | None = None,
    empty: Mapping[str, Any] | None = None,
    known: tuple[int, ...] = (),
) -> Sampling:
    """Plan the sampling of data of this form.

    learned: True if the network has a second output. leads: True if it takes a second time, `to`.
    weighed: True if it takes the weight of guidance as a condition. per_sample: True if each sample
    has its own guidance weight (`Sampling.weighted`). strength: the share of the steps that remains
    for samples that start from items (`samplers.start_from`). negative: conditions by name,
    (1, ...), that guidance leads away from in place of missing ones. empty: the same for a network
    with other conditions for the empty text than missing ones, where the reference is that without
    conditions. known: the positions of the leading axis that samples are given. Raises ConfigError
    for settings that cannot work.

    `sampler`: the method; `adaptive` has neither grid nor steps. `grid`: the times of the rows.
    `steps`: the number of steps of the grid. `guidance`: the weight, 1 for the conditional model;
    or the fields `weight`, `ramp`, `interval`, `reference`, `rule`, `threshold`. `corrector`: the
    rows between the steps. `lanes`: the times of the positions of items, see `construct_lanes`.
    `noise`: independent, or brownian, from one path per sample. `ema`: the average of the
    parameters, a name or a width, which is read together with them.

    >>> from diffjax import schedules, sde
    >>> from diffjax.specs import Spec
    >>> form = Form("points", (2,), (Spec("label", "label", 2),))
    >>> spec = {"sampler": {"name": "heun"}, "steps": 5, "guidance": 2.0}
    >>> plan(spec, sde.VP(schedules.Cosine(), t_max=0.99), form).passes  # 9 rows of two passes
    18
    """
    check_known(spec, PLANNED, place)
    checked(spec.get("ema", ""), str | float, f"{place}.ema")
    spec = {**SAMPLING, **spec}
    spec |= {"lanes": spec.get("lanes") or {"name": "full"}} if known else {}
    own = {"per_sample": per_sample, "weighed": weighed, "negative": negative, "empty": empty}
    guided = Section(spec["guidance"], sde, form, f"{place}.guidance", **own)
    fields(spec.get("sampler", {}), f"{place}.sampler")
    if spec.get("sampler", {}).get("name") == "adaptive":
        return _adaptive(spec, guided, place)
    table = construct_table(spec, sde, place, strength, form, known)
    able = {"learned": learned, "leads": leads}
    check_abilities(table, f"{place}.sampler.name={spec['sampler']['name']!r}", **able)
    planned = _guided(table, dataclasses.replace(guided, leads=table.leads), place)
    cond = form.example(2) | {
        k: np.repeat(v[:1], 2, 0) for k, v in (negative or empty or {}).items()
    }
    refuse(f"{place}.corrector" if table.langevin else place)(rehearse)(
        planned, sde, form.shape, cond
    )
    return planned


def _guided(table: Table, guided: Section, place: str) -> Plan:
    """Return the plan of a table with the weights and the rule of its guidance."""
    weight, ramp = guided.weight(len(table)), guided.ramp(table.latest)
    if table.lanes and np.ptp(ramp) > 0:
        raise ConfigError(f"{place}.guidance: has a ramp or an interval; not with lanes")
    table = dataclasses.replace(table, weight=ramps.weights(weight, ramp))
    return Plan(table, guided.guidance(), ramp)


def check_abilities(table: Table, place: str, *, learned: bool, leads: bool) -> None:
    """Raise ConfigError where a sampler needs what the network lacks; arguments as in `plan`."""
    if table.learned and not learned:
        raise ConfigError(
            f"{place}: needs a network with a second output (config.network.learn_variance); "
            f"allowed: the other samplers"
        )
    if table.leads and not leads:
        raise ConfigError(
            f"{place}: needs a network that takes a second time (config.network.conditions.to); "
            f"allowed: the other samplers"
        )


@pytree
@dataclasses.dataclass(frozen=True)
class Nothing:
    """A denoiser that predicts its own input, so that tracing it costs nothing."""

    sde: SDE = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Any, t: Any, cond: Any = None, *, key: Any = None, to: Any = None) -> Any:
        return Prediction(x, x, x, x)


def rehearse(planned: Plan, sde: SDE, shape: tuple[int, ...], cond: Mapping[str, Any]) -> None:
    """Trace the plan without computing it, to raise its ValueError early.

    shape: that of an item. cond: conditions of two samples.
    """
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    jax.eval_shape(planned.run, Nothing(sde), x, keys, cond)


def doubts(
    experiment: Experiment,
    weights: Sequence[float] = (),
    cond: Mapping[str, np.ndarray] | None = None,
    *,
    empty: bool = False,
) -> list[str]:
    """Return the lines that a user should read before sampling; arguments as in `untrained`.

    empty: whether guidance leads away from conditions of the empty text, which training had.
    """
    if not experiment.loss.denoises:
        return []
    null = "" if empty else untrained(experiment, weights, cond)
    lines = null, beyond(experiment, weights), off_grid(experiment)
    return [*filter(None, lines)]


def untrained(
    experiment: Experiment,
    weights: Sequence[float] = (),
    cond: Mapping[str, np.ndarray] | None = None,
) -> str:
    """Return one line if sampling relies on an unconditional network that was never trained, or "".

    Guidance leads away from the network without its conditions, and samples with a missing
    condition come from it. weights: guidance weights of samples, in place of that of the config.
    cond: conditions of samples by name, (K, ...).
    """
    if experiment.loss.drops_conditions or not experiment.form.conditional:
        return ""
    asks = "but config.loss drops no conditions in training: expect poor samples"
    for name, values in (cond or {}).items():
        if _missing(values) and name in experiment.form.names and name != ABSENT:
            return f"--cond={name}: some values are missing, {asks}"
    spec = experiment.config["sampling"].get("guidance", 1.0)
    guided = {**GUIDANCE, **(spec if isinstance(spec, Mapping) else {"weight": spec})}
    weight = [*weights] or guided["weight"]
    weighed = takes_weight(experiment.config["network"])  # so that guidance takes no second pass
    if weighed or not _leads_from_null(guided["reference"]) or np.all(np.equal(weight, 1)):
        return ""
    return f"config.sampling.guidance: weight {weight} needs predictions without conditions, {asks}"


def off_grid(experiment: Experiment) -> str:
    """Return one line if sampling visits times for which the network was not trained, or "".

    A network that was distilled to a few steps, or trained as a flow map between given times, knows
    these times only.
    """
    sde = experiment.model.sde
    if not any(experiment.loss.grids(sde, leads) for leads in (False, True)):
        return ""
    planned = experiment.plan(sde)
    table = planned.table if isinstance(planned, Plan) else None
    grids = experiment.loss.grids(sde, bool(table and table.leads))
    times = table.latest[np.asarray(table.active)] if table else np.empty(0)
    near = lambda grid: np.abs(times - grid[:-1]).max() <= sde.t_min
    if not grids or any(len(times) == len(grid) - 1 and near(grid) for grid in grids):
        return ""
    counts = ", ".join(str(len(grid) - 1) for grid in grids)
    asked = f"{len(times)} rows" if table else "the sampler adaptive"
    return (
        f"config.sampling: {asked} at times for which the network was not trained: expect poor "
        f"samples; config.loss trains --steps={counts}, with the grid nested and one row per step"
    )


def _missing(values: np.ndarray) -> bool:
    """Return True if a condition (K, ...) is missing for some samples: all -1, or all NaN."""
    values = np.asarray(values)
    if values.dtype.kind not in "if":
        return False
    gone = np.isnan(values) if values.dtype.kind == "f" else values == -1
    return bool(gone.reshape(len(values), -1).all(1).any())


def _leads_from_null(reference: Any) -> bool:
    """Return True if a reference evaluates the network without some of its conditions."""
    spec = {"name": reference} if isinstance(reference, str) else reference
    if "reference" in spec:
        return _leads_from_null(spec["reference"])
    return spec["name"] not in ("network", "negative") or spec.get("label") == -1


def noisy(spec: Config, sde: SDE, planned: Sampling, place: str = "config.sampling") -> str:
    """Return the field that adds noise, with its value, "" where sampling is deterministic."""
    if not planned.noisy:
        return ""
    field = "sampler"
    if "corrector" in spec:
        alone = construct_table({k: v for k, v in spec.items() if k != "corrector"}, sde, place)
        field = "sampler" if alone.noisy.any() else "corrector"
    return f"{place}.{field}.name={spec[field]['name']!r}"


def abilities(network: Config) -> dict[str, Any]:
    """Return the abilities of the network of a section `network`, as arguments of `plan`.

    >>> abilities({"name": "mlp", "learn_variance": True})
    {'learned': True, 'leads': False, 'weighed': False}
    """
    return {
        "learned": bool(network.get("learn_variance", False)),
        "leads": takes_to(network),
        "weighed": takes_weight(network),
    }


def construct_table(
    spec: Config,
    sde: SDE,
    place: str,
    strength: float = 1.0,
    form: Form | None = None,
    known: tuple[int, ...] = (),
) -> Table:
    """Construct the table of the sampler, with the rows of its corrector and its source of noise.

    strength, known: see `plan`. form: that of the data, which tables of lanes need.

    >>> from diffjax import schedules, sde
    >>> vp = sde.VP(schedules.Cosine(), t_max=0.99)
    >>> construct_table({"sampler": {"name": "heun"}, "steps": 5}, vp, "config.sampling")
    Table(9 rows, y = eps)
    """
    spec = {**SAMPLING, **spec}
    steps = checked(spec["steps"], int, f"{place}.steps")
    times = construct_grid(spec["grid"], f"{place}.grid")(sde, steps)
    if np.ndim(times) != 1:
        raise ConfigError(
            f"{place}.grid: returned {type(times).__name__}; needs an array of times (steps + 1,)"
        )
    times = refuse("--strength")(last_part)(times, strength)
    rows = construct_sampler(spec.get("sampler", {}), f"{place}.sampler")
    if spec.get("lanes"):
        if strength != 1 or spec.get("corrector"):
            other = "--strength" if strength != 1 else f"{place}.corrector"
            raise ConfigError(f"{other}: not with {place}.lanes; allowed: one of them")
        if form is None:
            raise ConfigError(f"{place}.lanes: needs the form of the data")
        name = str(spec["sampler"]["name"])
        own = rows, sde, times, form, f"{place}.lanes", name
        table = construct_lanes(spec["lanes"], known, *own)
        return refuse(f"{place}.noise")(lookup(NOISES, spec["noise"], f"{place}.noise"))(table)
    table = rows(sde, times)
    instance(table, Table, f"{place}.sampler")
    if "corrector" in spec:
        corrector = construct(CORRECTORS, spec["corrector"], f"{place}.corrector", partial=True)
        table = refuse(f"{place}.corrector")(corrector)(sde, table)
    noise = lookup(NOISES, spec["noise"], f"{place}.noise")
    return refuse(f"{place}.noise")(noise)(table)


def construct_grid(spec: Config, place: str) -> Callable[[SDE, int], np.ndarray]:
    """Return the time grid `(sde, steps) -> times`.

    spec: its name and settings. place: its place in the config, for messages.

    >>> from diffjax import schedules, sde
    >>> grid = construct_grid({"name": "karras", "rho": 3.0}, "config.sampling.grid")
    >>> grid(sde.VE(schedules.Edm(), t_min=1e-4), 3).round(3).tolist()
    [1.0, 0.143, 0.0, 0.0]
    """
    return refuse(place)(construct(GRIDS, spec, place, partial=True))


def construct_sampler(spec: Config, place: str) -> Callable[[SDE, np.ndarray], Table]:
    """Return the sampler `(sde, times) -> Table`.

    spec: its name and settings. place: its place in the config, for messages.

    >>> from diffjax import schedules, sde
    >>> ddim = construct_sampler({"name": "ddim", "eta": 0.5}, "config.sampling.sampler")
    >>> ddim(sde.VP(schedules.Linear()), np.array([1.0, 0.5, 0.0]))
    Table(2 rows, y = x0)
    """
    return refuse(place)(construct(SAMPLERS, spec, place, partial=True))


def _adaptive(spec: Config, guided: Section, place: str) -> Sampling:
    for field in ("corrector", "lanes"):
        if spec.get(field):
            raise ConfigError(f"{place}.{field}: applies to rows, which adaptive does not have")
    from diffjax.samplers.adaptive import adaptive  # diffrax takes half a second to import

    bound = {"sde": guided.sde, "weight": guided.constant_weight(), "guidance": guided.guidance()}
    settings = {k: v for k, v in spec["sampler"].items() if k != "name"}
    return call(adaptive, settings, f"{place}.sampler", **bound)


def listing() -> str:
    """Return a text with all entries that --sampler, --grid and other flags accept.

    It lists their settings, and the order and the rows per step of each sampler.

    >>> listing().splitlines()[0]
    'samplers (order; rows per step; settings)'
    """
    from diffjax.samplers.adaptive import adaptive
    from diffjax.samplers.tokens import TOKEN_SAMPLERS

    lines = ["samplers (order; rows per step; settings)"]
    for name, entry in SAMPLERS.items():
        lines += _described(name, entry.plan, f"{entry.order()}  {entry.passes}")
    lines += _described("adaptive", adaptive, "-  -")
    for title, table in (
        ("samplers of tokens", TOKEN_SAMPLERS),
        ("correctors", CORRECTORS),
        ("orders of lanes", ORDERS),
        ("grids", GRIDS),
        ("references of guidance", REFERENCES),
        ("rules of guidance", RULES),
        ("thresholds", THRESHOLDS),
        ("ramps of the guidance weight", RAMPS),
        ("features that metrics of samples compare", EXTRACTORS),
        ("filters", FILTERS),
        ("metrics of samples", OF_SAMPLES),
        ("metrics of the network", OF_NETWORK),
    ):
        lines.append(f"\n{title} (settings)")
        for name, entry in table.items():
            lines += _described(name, entry, "")
    return "\n".join(lines)


def _described(name: str, function: Callable[..., Any], facts: str) -> list[str]:
    plain = str | int | float | tuple
    defaults = metrics.settings(function).items()
    settings = ", ".join(
        f"{k}={v}" for k, v in defaults if isinstance(v, plain) and k not in ("weight", "shape")
    )
    text = (function.__doc__ or "").strip().split("\n\n")[0]
    first = f"  {name:<18} {facts}  {settings}".rstrip()
    return [
        first,
        *textwrap.wrap(
            " ".join(text.split()), 96, initial_indent=" " * 6, subsequent_indent=" " * 6
        ),
    ]


def order(spec: Config) -> int:
    """Return the order of the sampler of config.sampling with its settings.

    >>> order({"sampler": {"name": "deis", "order": 2}})
    2
    """
    settings = {k: v for k, v in spec["sampler"].items() if k != "name"}
    name, place = spec["sampler"]["name"], "config.sampling.sampler"
    return instance(lookup(SAMPLERS, name, f"{place}.name"), Sampler, place).order(**settings)
