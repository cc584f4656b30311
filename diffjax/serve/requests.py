"""What requests for samples may say, as JSON; anything else is refused by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from diffjax import builder, checks
from diffjax.config import nearest

Number = Annotated[float, Field(allow_inf_nan=False)]
Row = Annotated[list[Number], Field(max_length=4096)]
"""The values of one condition. Paths and names are no values: a request opens no file."""
TEXT = 1000
"""Largest number of characters of a prompt or a name."""


class Asked(BaseModel):
    """A request for `num` samples of one seed: samples 0, 1, ... or those that `index` starts at.

    label: a class by number or name. prompt: a text, for a network of captions. cond: other
    conditions by name, numbers only. sampler: an entry of the catalogue. guidance: the weight.
    negative: a text that guidance leads away from, in place of the empty one. image: a PNG, JPEG
    or WebP in base64 from which samples start, with `strength` in (0, 1]. mask: such an image, in
    grey: black is kept of `image`, white is sampled, and grey is free in that share of the steps;
    the strength is then 1 by default. every: rows between two previews, 0 for none. What is
    missing is that of the run; a missing seed is drawn.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    num: int = Field(default=1, ge=1)
    seed: int | None = Field(default=None, ge=0, lt=checks.SEEDS)
    index: int = Field(default=0, ge=0, lt=2**31 - 2**16)
    label: int | Annotated[str, Field(max_length=TEXT)] | None = None
    prompt: str | None = Field(default=None, max_length=TEXT)
    negative: str | None = Field(default=None, max_length=TEXT)
    cond: dict[str, Number | Row | None] = Field(default_factory=dict, max_length=16)
    sampler: str | None = Field(default=None, max_length=TEXT)
    steps: int | None = Field(default=None, ge=1)
    guidance: float | None = Field(default=None, ge=-1000, le=1000, allow_inf_nan=False)
    image: str | None = None
    mask: str | None = None
    strength: float | None = Field(default=None, gt=0, le=1)
    every: int = Field(default=0, ge=0, le=10_000)

    @field_validator("sampler")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in builder.SAMPLERS:
            raise ValueError(f"{name!r} is unknown{nearest(name, builder.SAMPLERS)}")
        return name


class Reason(BaseModel):
    """Why a request was refused: a message in one line, and a word for programs."""

    message: str
    type: str


class Failure(BaseModel):
    """An answer without samples."""

    error: Reason


class Prompted(BaseModel):
    """A request in the form of OpenAI's image API.

    prompt: a text, or the name of a class for a network of labels. n: the number of images. size:
    `WIDTHxHEIGHT`, that of the network or none. seed, steps, guidance, negative: see `Asked`.
    model, user: ignored.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(max_length=TEXT)
    model: str | None = Field(default=None, max_length=TEXT)
    n: int = Field(default=1, ge=1)
    size: str | None = Field(default=None, max_length=32)
    response_format: Literal["b64_json"] = "b64_json"
    user: str | None = Field(default=None, max_length=TEXT)
    seed: int | None = Field(default=None, ge=0, lt=checks.SEEDS)
    steps: int | None = Field(default=None, ge=1)
    guidance: float | None = Field(default=None, ge=-1000, le=1000, allow_inf_nan=False)
    negative: str | None = Field(default=None, max_length=TEXT)

    def asked(self, *, texts: bool) -> Asked:
        """Return the same request in the form of this server.

        texts: whether the network has captions; an empty prompt is no class otherwise.
        """
        text = self.prompt.strip()
        prompt, label = (text, None) if texts else (None, text or None)
        own = {name: getattr(self, name) for name in ("seed", "steps", "guidance", "negative")}
        return Asked(num=self.n, prompt=prompt, label=label, **own)
