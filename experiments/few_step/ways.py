"""Ways to train a network of few steps from a teacher: one run, or progressive distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffjax.config import load as load_config
from diffjax.config import override
from diffjax.generation import Job
from diffjax.runs import coupled
from diffjax.runs.distilling import chain
from diffjax.runs.launch import launch
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import last_step

NFE = (1, 2, 4, 8)
SEED = 0
"""Of samples."""
PAIR_STEPS = 16
"""The teacher's steps for each pair of noise and sample (DPM-Solver++(2M))."""


def drawing(trained: Trained, sampler: str, steps: int) -> Job:
    """Return the job of unguided samples."""
    spec = {"sampler": sampler, "steps": steps, "guidance": 1.0, "batch_size": 250}
    return trained.job(seed=SEED, **spec)


def coupling(teacher: Path, num: int, out: Path) -> Path:
    """Return the file of `num` pairs of the teacher, noise and sample, which are generated once."""
    job = drawing(load(teacher), "dpmpp_2m", PAIR_STEPS)
    coupled.claim(job, out)
    file = out / coupled.FILE
    return file if file.exists() else coupled.pairs(job, num, out)


@dataclass(frozen=True)
class Run:
    """A method that trains one network, from the teacher's weights or those of another method.

    config: the name of its config, whose fields `changes` replaces. steps: of training, with
    `batch` items each. rate: the first learning rate, which falls linearly to 0. taught: whether
    the objective holds the teacher. pairs: the number of the teacher's pairs of noise and sample
    that are its data, 0 for the data of the config. begins: the method with whose weights it
    begins. sampler, nfe: those by which its samples are drawn.
    """

    config: str
    steps: int
    changes: tuple[str, ...] = ()
    taught: bool = True
    pairs: int = 0
    rate: float = 1e-3
    batch: int = 64
    begins: str = ""
    sampler: str = "flow_map"
    nfe: tuple[int, ...] = NFE

    def settings(self) -> list[str]:
        """Return the changes of the config, but for the paths of the teacher and of pairs."""
        fixed = {
            "train.steps": self.steps,
            "train.batch_size": self.batch,
            "train.checkpoint_every": self.steps,
            "train.sample_every": self.steps,
            "optimizer.learning_rate": self.rate,
            "optimizer.schedule": f"linear:length={self.steps},final=0.0",
        }
        pairs = [f"{self.pairs} pairs of {PAIR_STEPS} steps"] if self.pairs else []
        return [*(f"{field}={value}" for field, value in fixed.items()), *self.changes, *pairs]

    def train(
        self, teacher: Path, begin: Path, run: Path, command: Sequence[str]
    ) -> dict[int, Path]:
        """Train in the folder `run`, or resume; return the run of each NFE."""
        changes = self.settings()
        if self.pairs:
            file = coupling(teacher, self.pairs, run.with_name(f"pairs_{self.pairs}"))
            changes[-1] = f"data.name=array:{file}"
        if self.taught:
            changes.append(f"loss.teacher={teacher}")
        if last_step(run) < self.steps:
            config = override(load_config(self.config), changes)
            launch(config, run, resume_from=begin, resume_partial=True, command=command)
        return dict.fromkeys(self.nfe, run)


@dataclass(frozen=True)
class Halvings:
    """Progressive distillation: a chain of students of half the steps of their teachers, to one.

    first: the steps of the first teacher. steps: of training, for each student.
    """

    first: int
    steps: int
    changes: tuple[str, ...] = ()
    begins: str = ""
    sampler: str = "ddim"

    def settings(self) -> list[str]:
        return [f"from={self.first}", f"train.checkpoint_every={self.steps}", *self.changes]

    def train(
        self, teacher: Path, begin: Path, run: Path, command: Sequence[str]
    ) -> dict[int, Path]:
        """Train the students in folders in `run`; return the run of each NFE."""
        changes = self.settings()[1:]
        distilled = chain(begin, run, self.first, 1, train_steps=self.steps, changes=changes)
        distilled.claim()
        distilled.train(command)
        return {n: distilled.workdir(n) for n in reversed(distilled.counts) if n in NFE}


Way = Run | Halvings
