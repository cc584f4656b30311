"""Trained networks in a chain, in which each enlarges the samples of the network before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffjax import generation
from diffjax.config import Config, ConfigError, arguments, known
from diffjax.generation import Generated, Job, number
from diffjax.generation.job import check_lists
from diffjax.runs.lows import LATER
from diffjax.runs.trained import Trained, load

OF_ALL = ("seed", "index", "batch_size")
"""Settings of a request that every stage has."""
SAMPLING = ("sampler", "grid", "steps", "guidance", "corrector", "noise")
OF_STAGE = ("tau", "ema", "codec", "negative", "label", "weight", *SAMPLING)
"""Settings that the text of a later stage may have."""
OF_LAST = ("latents", "tile")
"""Settings of a request that concern the items of the last stage."""


@dataclass(frozen=True)
class Cascade:
    """Trained networks in a chain: the first generates small items, the others enlarge them.

    Each network but the first was trained with config.data.enlarged.

        cascade = diffjax.cascade(["runs/digits_base", "runs/digits_enlarged"])
        cascade.sample(16, label=3, steps=30, stages=[{"tau": 0.1, "steps": 10}])
    """

    stages: tuple[Trained, ...]

    def job(
        self,
        *,
        stages: Sequence[Mapping[str, Any]] = (),
        tau: float | Sequence[float] | None = None,
        **request: Any,
    ) -> generation.Cascade:
        """Prepare the jobs of a request, whose settings are those of `Trained.job`.

        Seeds and numbers of samples are those of all stages. Classes, prompts and other conditions
        reach every stage that takes them; the others of a later stage are missing. All further
        settings, such as `steps`, `guidance` and `weight`, concern the first stage. tau: the noise
        level of the smaller items in all stages, or levels that samples take in turn. stages:
        settings of the later stages in order, such as `{"tau": 0.1, "steps": 20}`. Raises
        ConfigError for a request that cannot be sampled, and for stages that do not fit together.
        """
        later = len(self.stages) - 1
        if len(stages) > later:
            raise ConfigError(f"stages: settings for {len(stages)} later stages; has {later}")
        if later and request.get("watermark"):
            raise ConfigError(
                "--watermark: a detector cannot undo the stages of a cascade; allowed: one network"
            )
        settings = [*stages, *({} for _ in range(later - len(stages)))]
        of_last = {name: request.pop(name) for name in OF_LAST if name in request}
        shared = {name: request[name] for name in OF_ALL if name in request}
        if not later or self.stages[0].experiment.reading.enlarged:
            request["tau"] = tau
        each = [request, *(shared | {"low": LATER, "tau": tau} | dict(s) for s in settings)]
        each[-1] = each[-1] | of_last
        for stage, after in zip(each, self.stages[1:], strict=False):
            if after.experiment.form.kind == "latent":
                stage["latents"] = True
        jobs: list[Job] = []
        for trained, stage in zip(self.stages, each, strict=True):
            jobs.append(trained.job(**stage | carried(jobs, trained, stage)))
        return generation.Cascade(tuple(jobs))

    def sample(self, num: int | None = None, **request: Any) -> Generated:
        """Generate samples 0, ..., num - 1 of the last stage; see `job` and `Trained.sample`."""
        watch = {k: request.pop(k) for k in ("previews", "every", "finished") if k in request}
        job = self.job(**request)
        first = job.jobs[0]
        starts = 0 if first.start is None else len(first.start)
        chosen = number(first.seed, first.index, first.weight, first.prompts, starts)
        num = chosen if num is None else num
        check_lists(num, label=request.get("label"))
        return job.samples(num, **watch)


def carried(jobs: Sequence[Job], trained: Trained, stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conditions of earlier stages that a later stage takes and does not set itself."""
    if not jobs:
        return {}
    own = dict(stage.get("cond") or {})
    if "label" in stage:
        own |= {"label": None}
    specs = {spec.name: spec for spec in trained.experiment.form.conditions if spec.kind != "map"}
    known = {name: rows for job in jobs for name, rows in job.cond.items()}
    more = {name: known[name] for name in specs if name in known and name not in own}
    given = dict(stage.get("cond") or {})
    return {"cond": more | given} if more or given else {}


def cascade(runs: Sequence[Trained | str | Path]) -> Cascade:
    """Load trained networks as a chain, the network of small items first.

    runs: paths as in `load`, or networks that are loaded already. Raises ConfigError for a path
    without a network.
    """
    loaded = [run if isinstance(run, Trained) else load(run) for run in runs]
    if not loaded:
        raise ConfigError("cascade: needs at least one run")
    return Cascade(tuple(loaded))


def later(stages: Sequence[tuple[Path, str]]) -> tuple[list[Trained], list[dict[str, Any]]]:
    """Load the later stages of a command, with the settings of each as `Cascade.job` takes them.

    stages: paths, with texts like `tau=0.1,steps=20,sampler=dpmpp_2m:eta=1`. Raises ConfigError for
    a path without a network, and for an unknown setting.
    """
    loaded, settings = [], []
    for path, text in stages:
        place = f"--then={path}"
        given: Config = arguments(text, place)
        known(given, OF_STAGE, place)
        given = dict(given)
        ema, codec = given.pop("ema", None), str(given.pop("codec", ""))
        sampling = {name: given.pop(name) for name in SAMPLING if name in given}
        loaded.append(load(path, sampling, ema, codec=codec))
        settings.append(given)
    return loaded, settings
