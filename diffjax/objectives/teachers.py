"""The fixed denoiser that an objective with the setting `teacher` learns from."""

from __future__ import annotations

from diffjax.denoiser import Denoiser, Model, reframe
from diffjax.objectives.base import Context
from diffjax.prediction import Denoise


def taught(teacher: Model | None, context: Context) -> Denoise:
    """Return the teacher with its held parameters, as a denoiser of the process of the model."""
    denoise = Denoiser(_known(teacher), dict(context.held["teacher"]))
    sde = context.model.bind(context.params).sde
    return denoise if denoise.sde == sde else reframe(denoise, sde)


def check_teacher(teacher: Model | None, model: Model) -> None:
    """Raise ValueError without a teacher, and for noise levels unknown to it."""
    reframe(Denoiser(_known(teacher), {}), model.sde)


def _known(teacher: Model | None) -> Model:
    if teacher is None:
        raise ValueError("teacher: needs the path of a run or of an export")
    return teacher
