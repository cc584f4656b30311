"""What objectives of flow maps and of distillation share: the fixed teacher, and their checks."""

from __future__ import annotations

from diffjax.denoiser import Denoiser, Model, reframe
from diffjax.draws import Draw
from diffjax.objectives.base import Context, Task
from diffjax.prediction import Denoise


def taught(teacher: Model | None, context: Context) -> Denoise:
    """Return the teacher with its held parameters, as a denoiser of the process of the model."""
    denoise = Denoiser(_known(teacher), dict(context.held["teacher"]))
    sde = context.model.bind(context.params).sde
    return denoise if denoise.sde == sde else reframe(denoise, sde)


def check_teacher(teacher: Model | None, model: Model) -> None:
    """Raise ValueError without a teacher, and for noise levels unknown to it."""
    reframe(Denoiser(_known(teacher), {}), model.sde)


def check_plain(name: str, draw: Draw, model: Model, task: Task) -> None:
    """Raise ValueError for what `denoising` alone trains: draws, schedules and second outputs.

    name: that of the objective.
    """
    draw.check(model.sde)
    if draw.init() != ():
        raise ValueError(f"draw={draw}: learns from losses, which only denoising allows")
    if model.sde.schedule.init():
        raise ValueError("a learned schedule needs the variational bound; allowed: denoising")
    if task.second_output:
        raise ValueError(
            f"name='{name}': trains no second output; allowed: config.network.learn_variance=False"
        )


def _known(teacher: Model | None) -> Model:
    if teacher is None:
        raise ValueError("teacher: needs the path of a run or of an export")
    return teacher
