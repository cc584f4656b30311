"""Watermarks of requests for samples."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from diffjax import builder
from diffjax.config import ConfigError, arguments, checked, known, separated
from diffjax.data.form import Form
from diffjax.samplers.plan import Sampling
from diffjax.watermark import Watermark, bits_of, read_key

FLAG = "--watermark"
SETTINGS = ("message", "noisy")


def marked(
    spec: Any, plan: Sampling, form: Form, start: Any = None, low: Any = None
) -> Watermark | None:
    """Return the watermark of a request, or None.

    spec: a `Watermark`, the path of a key, or a text `KEYFILE[,message=TEXT][,noisy=True]`. form:
    that of the samples. start, low: what samples start from or enlarge, or None. Raises ConfigError
    for a key or a message that cannot be used, and where the initial noise is not all that
    determines a sample: a detector could not find it.
    """
    if spec is None:
        return None
    if not isinstance(spec, Watermark):
        spec = parsed(str(spec))
    if start is not None:
        raise ConfigError(f"{FLAG}: marks the initial noise, which --from replaces by items")
    if low is not None:
        raise ConfigError(
            f"{FLAG}: the network enlarges smaller items, which a detector does not have; allowed: "
            f"runs without config.data.enlarged"
        )
    if plan.noisy and not spec.noisy:
        raise ConfigError(
            f"{FLAG}: the sampler adds noise to the initial one, which weakens the watermark; "
            f"allowed: ODE samplers such as ddim and dpmpp_2m, or {FLAG}=KEYFILE,noisy=True"
        )
    builder.refuse(FLAG)(spec.key.places)(math.prod(form.shape))
    return spec


def parsed(text: str) -> Watermark:
    """Return the watermark of a text `KEYFILE[,message=TEXT][,noisy=True]`."""
    path, _, settings = text.partition(",")
    place = f"{FLAG}={path}"
    given = arguments(settings, place)
    known(given, SETTINGS, place)
    key = builder.refuse(FLAG)(read_key)(Path(path))
    parts = (part.strip().partition("=") for part in separated(settings))
    message = next((value for name, _, value in parts if name == "message"), "")  # 007 is a text
    noisy = checked(given.get("noisy", False), bool, f"{place}.noisy")
    return Watermark(key, builder.refuse(place)(bits_of)(message, key.bits), noisy)
