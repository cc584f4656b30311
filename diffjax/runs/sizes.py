"""Samples of another size than that of training, of networks that are defined for any size."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from diffjax import builder
from diffjax.checks import at_least
from diffjax.config import Config, ConfigError, parse
from diffjax.published.pipelines import text_of

if TYPE_CHECKING:
    from diffjax.runs.trained import Trained

FLAG = "--size"
OWN = ("from", "low", "control")
"""Flags of items that have a size of their own."""


def sized(
    trained: Trained, size: int | Sequence[int] | None, others: Sequence[Any] = ()
) -> Trained:
    """Return the network for items of another size; its parameters are the same.

    size: the sides (H, W) of images, or of latents where there is no codec; one number for a
    square, or for the points of a cloud; None for those of training. others: the values of the
    flags `OWN`, None for those that the request lacks. Self-attention of a U-Net stays on its
    levels, and positions `sincos` of a DiT cover the same range, as in PixArt (arXiv:2403.04692).
    An encoder that states a size (SDXL) states this one. Raises ConfigError for a network whose
    size is fixed, and for sides that do not fit the network or the codec.
    """
    if size is None:
        return trained
    e = trained.experiment
    form, stored = e.form, e.decoding.stored
    names = stored.items.resizable
    if not names or len(stored.shape) != len(names) + 1:
        sides = (size,) if isinstance(size, int) else size
        raise ConfigError(
            f"{FLAG}={'x'.join(map(str, sides))}: {form.kind} items {form.shape}; needs images or "
            f"clouds"
        )
    sides = builder.refuse(FLAG)(sides_of)(size, names)
    shown = f"{FLAG}={'x'.join(map(str, sides))}"
    if beside := [name for name, value in zip(OWN, others, strict=False) if value is not None]:
        raise ConfigError(f"{shown}: --{beside[0]} has items of its own size; allowed: one of them")
    if maps := [spec.name for spec in form.conditions if spec.kind == "map"]:
        raise ConfigError(f"{shown}: the condition {maps[0]} is on the grid of training")
    shape = (*sides, stored.shape[-1])
    if (codec := e.decoding.codec) is not None:
        shape = builder.refuse(f"{shown}: the codec")(codec.latent_shape)(shape)
    changes = builder.refuse(shown)(e.model.network.resized)(form.shape, tuple(shape))
    network = {**e.config["network"], **changes}
    config = {**e.config, "network": network, "data": stating(e.config["data"], sides)}
    check_times(config, shown)
    resized = builder.refuse(shown)(dataclasses.replace)(form, shape=tuple(shape))
    experiment = builder.refuse(shown)(builder.experiment)(config, resized)
    denoise = experiment.denoiser(trained.denoise.params)
    return dataclasses.replace(trained, experiment=experiment, denoise=denoise)


def sides_of(size: int | Sequence[int], names: Sequence[str]) -> tuple[int, ...]:
    """Return the lengths of the axes with these names, of which one number states all.

    Raises ValueError for anything but whole numbers >= 1.

    >>> sides_of(64, ("height", "width")), sides_of((48,), ("points",))
    ((64, 64), (48,))
    """
    sides = (size,) if isinstance(size, int) else tuple(size)
    sides = sides * len(names) if len(sides) == 1 else sides
    if len(sides) != len(names) or not all(isinstance(n, int) for n in sides):
        one = ", or one number for both" if len(names) > 1 else ""
        raise ValueError(f"{size}: needs {' and '.join(names)}{one}")
    at_least(1, **dict(zip(names, sides, strict=True)))
    return sides


def stating(data: Config, sides: Sequence[int]) -> dict[str, Any]:
    """Return the section `data` whose encoder states the sides of images, if it states any.

    >>> stating({"encoder": "clip_pair:path=sdxl,size=1024"}, (768, 1024))
    {'encoder': 'clip_pair:path=sdxl,size=((768, 1024))'}
    """
    entry = parse(data["encoder"]) if data.get("encoder") else {}
    if "size" not in entry:
        return dict(data)
    return {**data, "encoder": text_of({**entry, "size": tuple(sides)})}


def check_times(config: Config, shown: str) -> None:
    """Raise ConfigError for a network of Flux.1 whose times depend on the number of its tokens."""
    grid = config["sampling"].get("grid", {})
    if config["network"].get("single") and grid.get("shift", 1.0) != 1.0:
        raise ConfigError(
            f"{shown}: the times of this network depend on its size; convert its folder for this "
            f"size, as diffjax.load(folder, settings={{'size': SIDE OF LATENTS}})"
        )
