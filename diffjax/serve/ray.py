"""Samples on the machines of a Ray cluster (extra `ray`): batches of a data set, and a service.

    ds = ray.data.range(50_000).map_batches(
        Sampler, batch_size=64, concurrency=4, fn_constructor_args=("/shared/runs/digits",)
    )
    serve run diffjax.serve.ray:service workdir=/shared/runs/digits replicas=4

Nothing else in the package imports Ray. A sample depends on its seed and number, and on the size of
the groups of its engine: whichever machine computes it, and however often after a failure, it has
equal bits on machines of one kind.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from diffjax import cli
from diffjax.config import ConfigError

BATCH = 64
"""The default number of slots of a `Sampler`."""
TURNS = ("label", "prompt", "weight", "seed", "index", "tau")
"""Settings of a request whose lists samples take in turn."""


class Sampler:
    """A function of batches of numbers to batches of samples, for `Dataset.map_batches`.

    workdir: a run, an export or a published checkpoint that every machine can read. slots: those of
    the engine that each worker keeps; bits depend on them, and not on the batches. request: see
    `Trained.job`, with one value of each setting for all samples. column: that of the numbers of
    the samples; `id` is that of `ray.data.range`. Raises ConfigError as `load` and `job` do, and
    for a list of values, which samples of different batches would take in other turns.
    """

    def __init__(
        self, workdir: str, *, slots: int = BATCH, column: str = "id", **request: Any
    ) -> None:
        from diffjax.generation import Engine
        from diffjax.generation.chain import MANY
        from diffjax.runs.trained import load

        cli.set_up_jax()
        self.trained, self.column, self.request = load(workdir), column, request
        for name, value in request.items():
            if name in TURNS and np.ndim(value):
                raise ConfigError(f"{name}={value}: needs one value for all samples")
        self.engine = Engine(self.trained.job(**request), slots=slots, limit=MANY)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the batch with a column `x` of stored items, (B, *shape)."""
        numbers = [int(number) for number in batch[self.column]]
        tickets = self.engine.submit(self.trained.job(index=numbers, **self.request))
        return {**batch, "x": np.stack([ticket.result() for ticket in tickets])}


def service(settings: Mapping[str, Any]) -> Any:
    """Return the server of `python -m diffjax.serve` as an application of Ray Serve.

    settings: workdir; replicas, each of which has a network and an engine; slots and group, see
    `Engine`; guided, whether requests may set a guidance weight; gpus and cpus of a replica; and
    the fields of `Limits`, which hold for each replica on its own. Texts are read as numbers where
    numbers are meant, since `serve run` passes texts. Raises ConfigError for an unknown setting.
    """
    serve = importlib.import_module("ray.serve")  # an extra, which the core does without
    own: dict[str, Any] = dict(replicas=1, slots=8, group=0, guided=1, gpus=0.0, cpus=1.0)
    asked = dict(settings)
    workdir = str(asked.pop("workdir", ""))
    if not workdir:
        raise ConfigError("workdir: is missing; needs the path of a run")
    values = {k: _number(k, asked.pop(k, value), type(value)) for k, value in own.items()}
    limits = _limits(asked)

    @serve.deployment(
        num_replicas=values["replicas"],
        max_ongoing_requests=limits.waiting,
        health_check_period_s=5,
        ray_actor_options={"num_gpus": values["gpus"], "num_cpus": values["cpus"]},
    )
    @serve.ingress()
    class Samples:
        """A replica, which gets requests once its sampler is compiled."""

        def __init__(self) -> None:
            from diffjax.runs.trained import load
            from diffjax.serve.service import Service

            cli.set_up_jax()
            guided, group = bool(values["guided"]), values["group"] or None
            folder = Path(workdir) if Path(workdir).is_dir() else None
            sizes = values["slots"], limits, guided, group
            self.service = Service(load(workdir), *sizes, folder=folder)

        def __serve_build_asgi_app__(self) -> Any:
            from diffjax.serve.app import application

            return application(lambda: self.service, limits)

        def check_health(self) -> None:
            if self.service.engine.broken:
                raise RuntimeError("the engine failed")

    return cast(Any, Samples).bind()


def _limits(asked: Mapping[str, Any]) -> Any:
    """Return limits from their fields by name, as numbers or texts."""
    from diffjax.serve.limits import Limits

    fields = {"num": int, "steps": int, "waiting": int, "body": int, "seconds": float}
    fields |= {"passes": int}
    if unknown := [name for name in asked if name not in fields]:
        known = "workdir, replicas, slots, group, guided, gpus, cpus, " + ", ".join(fields)
        raise ConfigError(f"{unknown[0]}: no such setting; known: {known}")
    return Limits(**{name: _number(name, value, fields[name]) for name, value in asked.items()})


def _number(name: str, value: Any, kind: type) -> Any:
    """Return a number or a text as a number; raise ConfigError for any other text."""
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}={value}: needs a number") from error
