"""Snapshots of power-function averages, and post-hoc EMA of other widths.

An average with the profile p is sum_i c_i theta_i for snapshots theta_i with profiles p_i, where
the c_i minimise |p - sum_i c_i p_i|^2 (arXiv:2312.02696, sec. 3.2 and app. C). Here the c_i also
add up to 1, so that constant parameters are reproduced exactly. The continuous profiles are no
approximation: `Power` is the average under them of parameters that are constant during a step.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax.arrays import Params
from diffjax.config import ConfigError
from diffjax.devices.processes import first
from diffjax.io.reading import Tensors
from diffjax.io.trees import flat
from diffjax.training import checksums
from diffjax.training.ema import Power

FOLDER = "snapshots"
LARGEST = 0.05
"""Largest relative error of a profile for which an average is computed."""


class Profile(NamedTuple):
    """The profile p(t) = (gamma + 1) t^gamma / end^(gamma + 1) on [0, end], with gamma of `std`."""

    std: float
    end: int


def save(workdir: Path, step: int, ema: Mapping[str, Params], stds: Mapping[str, float]) -> None:
    """Write a snapshot of the averages that have a width, atomically.

    Only the first process writes. ema: all averages by name. stds: the widths of those to store.
    """
    if not first():
        return
    folder = workdir / FOLDER
    folder.mkdir(exist_ok=True)
    tensors = flat(jax.device_get({name: ema[name] for name in stds}))
    # One entry only: the order of several entries in a file differs between processes.
    header = json.dumps({"step": step, "stds": dict(stds)})
    checksums.save(folder / f"step_{step:08d}.safetensors", tensors, {"snapshot": header})


class Snapshots:
    """The snapshots in a workdir up to a step, one per step and average, read leaf by leaf.

    step: by default the last one. names: the names of the averages to use, by default all. Raises
    ConfigError where there are no snapshots, or none at that step.
    """

    def __init__(
        self, workdir: Path, step: int | None = None, names: Collection[str] | None = None
    ):
        files = sorted((workdir / FOLDER).glob("step_*.safetensors"))
        if not files:
            raise ConfigError(
                f"--workdir={workdir}: has no snapshots; train with config.train.snapshot_every "
                f"and an entry of config.ema whose name is 'power'"
            )
        steps = [int(path.stem.removeprefix("step_")) for path in files]
        self.step = steps[-1] if step is None else step
        if self.step not in steps:
            raise ConfigError(
                f"--step={step}: no snapshot of this step; known: {', '.join(map(str, steps))}"
            )
        self.profiles: list[Profile] = []
        self._sources: list[tuple[Path, Tensors, str]] = []
        self._sums: dict[Path, checksums.Sums] = {}
        for path in files[: steps.index(self.step) + 1]:
            try:
                file = Tensors(path)
                header = json.loads(file.metadata["snapshot"])
                self._sums[path] = checksums.stored(file) or {}
            except (ValueError, KeyError) as error:
                raise ConfigError(f"{path}: holds no snapshot ({error})") from error
            used = header["stds"] if names is None else names
            self.profiles += [Profile(header["stds"][name], header["step"]) for name in used]
            self._sources += [(path, file, name) for name in used]

    @property
    def names(self) -> list[str]:
        """The paths of the leaves, such as `network/out/bias`."""
        _, file, name = self._sources[-1]
        return [key.removeprefix(f"{name}/") for key in file if key.startswith(f"{name}/")]

    def combine(self, leaf: str, coefficients: np.ndarray) -> np.ndarray:
        """Return M combinations of the N snapshots of one leaf, (M, ...).

        They are summed in float64 and returned in float32. coefficients: (M, N). Raises
        ConfigError, which names the file, where a checksum differs from the saved one.
        """
        total: Any = 0.0
        for (path, file, name), c in zip(self._sources, coefficients.T, strict=True):
            tensor = {f"{name}/{leaf}": file[f"{name}/{leaf}"]}
            try:
                checksums.verify(tensor, self._sums[path])
            except ValueError as error:
                raise ConfigError(f"{path}: {error}") from error
            (value,) = tensor.values()
            total = total + np.multiply.outer(c, value.astype(np.float64))
        return total.astype(np.float32)


class Fit(NamedTuple):
    """A combination of N profiles that approximates a profile p.

    coefficients: (N,), with sum 1. error: |p - sum_i c_i p_i| / |p|. condition: the condition
    number of the linear system.
    """

    coefficients: np.ndarray
    error: float
    condition: float


def inner(a: Sequence[Profile], b: Sequence[Profile]) -> np.ndarray:
    """Return the integrals of the products of A and B profiles, (A, B).

    For t_a <= t_b they are (g_a + 1) (g_b + 1) / (g_a + g_b + 1) (t_a / t_b)^g_b / t_b.
    """
    (t_a, g_a), (t_b, g_b) = _numbers(a), _numbers(b)
    t_a, g_a = t_a[:, None], g_a[:, None]
    late, last = np.where(t_a > t_b, g_a, g_b), np.maximum(t_a, t_b)
    ratio = np.minimum(t_a, t_b) / last
    return (g_a + 1) * (g_b + 1) / (g_a + g_b + 1) * ratio**late / last


def fit(known: Sequence[Profile], wanted: Profile) -> Fit:
    """Return the combination of the known profiles that is nearest to the wanted profile."""
    gram, right = inner(known, known), inner(known, [wanted])[:, 0]
    (square,) = inner([wanted], [wanted])[0]
    size = np.sqrt(np.diag(gram))  # the system is solved for profiles of norm 1
    # The last row is the constraint that the coefficients add up to 1, by a Lagrange multiplier.
    system = np.block([[gram / np.outer(size, size), 1 / size[:, None]], [1 / size, 0.0]])
    system[-1] /= (scale := np.abs(system[-1]).max())
    system[:, -1] /= scale
    solved, _, _, singular = np.linalg.lstsq(system, np.append(right / size, 1 / scale))
    c = solved[:-1] / size
    error = np.sqrt(max(square - 2 * c @ right + c @ gram @ c, 0.0) / square)
    return Fit(c, float(error), float(singular[0] / singular[-1]))


def reach(known: Sequence[Profile], end: int) -> tuple[float, float]:
    """Return the least and the largest std that these profiles approximate, to three digits.

    The relative error of the profile is at most LARGEST. end: the last step of the average.
    """
    tried = {*(k / 1000 for k in range(1, 289)), *(p.std for p in known if p.end == end)}
    within = [std for std in tried if fit(known, Profile(std, end)).error <= LARGEST]
    return min(within), max(within)


def _numbers(profiles: Sequence[Profile]) -> tuple[np.ndarray, np.ndarray]:
    ends = np.array([p.end for p in profiles], np.float64)
    gammas = {std: Power(std).gamma for std in {p.std for p in profiles}}
    return ends, np.array([gammas[p.std] for p in profiles])
