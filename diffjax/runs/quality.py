"""The sampler and the number of steps for a wanted error, from what `tools.steps` has measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffjax.builder import SAMPLING
from diffjax.config import ConfigError
from diffjax.files import reason, write_text
from diffjax.io.trees import fingerprint
from diffjax.runs.trained import Trained

FILE = "steps.json"
"""The curves of a run, in its folder."""
FIELDS = ("sampler", "grid", "corrector", "noise")
"""Fields of config.sampling that a curve determines, beside the steps."""


class Choice(NamedTuple):
    """A measured number of steps: fields of config.sampling, and what a sample costs.

    error: root mean square, in the range of the network, where images lie in [-1, 1]. passes: NFE.
    seconds: of one sample, on the device and with the batch size of the measurement.
    """

    sampling: dict[str, Any]
    error: float
    passes: int
    seconds: float
    about: str

    def said(self, num: int, unit: tuple[float, str]) -> str:
        """Return the line that a user reads; unit: the scale and the name of errors."""
        scale, name = unit
        sampler = self.sampling["sampler"]
        settings = ",".join(f"{k}={v}" for k, v in sampler.items() if k != "name")
        return (
            f"--sampler={sampler['name']}{':' + settings if settings else ''} "
            f"--steps={self.sampling['steps']}: error {self.error:.3g} ({self.error * scale:.3g} "
            f"{name}), {self.passes} network passes, {num * self.seconds:.3g} s for {num} samples "
            f"as measured ({self.about})"
        )


def curve(
    trained: Trained,
    points: Sequence[Mapping[str, Any]],
    *,
    noisy: bool,
    seconds_per_pass: float,
    about: str,
) -> dict[str, Any]:
    """Return the curve of a sampler.

    points: steps, passes and error in the range of the network, of each number of steps. noisy:
    whether the sampler adds noise; it is then that of Brownian paths, for which an error is
    defined. about: the device and the batch size.
    """
    sampling = {**SAMPLING, **trained.config["sampling"]}
    fields = {name: sampling[name] for name in FIELDS if name in sampling}
    fields["noise"] = "brownian" if noisy else SAMPLING["noise"]
    return {
        **fields,
        "guidance": sampling["guidance"],
        "weights": fingerprint("", trained.denoise.params),
        "seconds_per_pass": seconds_per_pass,
        "about": about,
        "points": [dict(point) for point in points],
    }


def keep(workdir: Path, new: Mapping[str, Any]) -> None:
    """Store a curve in the folder of a run, in place of one of the same sampler and weights."""
    same = lambda one: all(one.get(k) == new.get(k) for k in (*FIELDS, "guidance", "weights"))
    curves = [one for one in curves_of(workdir) if not same(one)]
    write_text(workdir / FILE, json.dumps({"curves": [*curves, dict(new)]}, indent=1) + "\n")


def curves_of(workdir: Path) -> list[dict[str, Any]]:
    """Return the curves in the folder of a run; raise ConfigError for a damaged file.

    >>> curves_of(Path("nowhere"))
    []
    """
    path = workdir / FILE
    if not path.is_file():
        return []
    try:
        curves = list(json.loads(path.read_text())["curves"])
        for one in curves:  # each has what the others read
            _ = one["weights"], one["guidance"], [_choice(one, point) for point in one["points"]]
        return curves
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: cannot be read ({reason(error)}); delete it") from error


def measured(trained: Trained, workdir: Path) -> list[dict[str, Any]]:
    """Return the curves of these weights, with the guidance of config.sampling."""
    guidance = {**SAMPLING, **trained.config["sampling"]}["guidance"]
    own = fingerprint("", trained.denoise.params), guidance
    return [one for one in curves_of(workdir) if (one["weights"], one["guidance"]) == own]


def errors(trained: Trained, workdir: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the measured errors of each sampler as pairs of steps and error, fewest steps first.

    Errors are in the unit of the kind of data, such as grey levels.
    """
    scale, _ = trained.experiment.form.items.unit
    return {
        one["sampler"]["name"]: sorted((p["steps"], p["error"] * scale) for p in one["points"])
        for one in measured(trained, workdir)
    }


def chosen(trained: Trained, workdir: Path, quality: float, sampler: bool = False) -> Choice:
    """Return the measured entry with the fewest passes whose error is at most `quality`.

    trained: the network, with the guidance that samples have. sampler: whether the entry has the
    sampler of its config, with its settings. Raises ConfigError, which states the command to run,
    where no curve belongs to these weights and this guidance, and where no entry reaches the error.
    """
    if not quality > 0:
        raise ConfigError(f"--quality={quality:g}: needs an error above 0")
    sampling = {**SAMPLING, **trained.config["sampling"]}
    curves = [
        one
        for one in measured(trained, workdir)
        if not sampler or one["sampler"] == sampling["sampler"]
    ]
    scale, _ = trained.experiment.form.items.unit
    name = sampling["sampler"]["name"] if sampler else "SAMPLER"
    command = f"python -m diffjax.tools.steps --workdir={workdir} --sampler={name}"
    run = f"{command} --error={quality * scale:.3g}"
    if not curves:
        raise ConfigError(
            f"--quality={quality:g}: no curve of these weights, guidance and sampler is measured; "
            f"run {run}"
        )
    found = [_choice(one, point) for one in curves for point in one["points"]]
    if enough := [one for one in found if one.error <= quality]:
        return min(enough, key=lambda one: (one.passes, one.error))
    best = min(found, key=lambda one: one.error)
    raise ConfigError(
        f"--quality={quality:g}: the least measured error is {best.error:.3g}, of "
        f"{best.sampling['sampler']['name']} with {best.sampling['steps']} steps; allowed: that, "
        f"or run {run}"
    )


def _choice(one: Mapping[str, Any], point: Mapping[str, Any]) -> Choice:
    fields = {name: one[name] for name in FIELDS if name in one}
    seconds = one["seconds_per_pass"] * point["passes"]
    sampling = {**fields, "steps": point["steps"]}
    return Choice(sampling, point["error"], point["passes"], seconds, one["about"])
