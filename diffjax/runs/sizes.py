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
    points = form.kind == "cloud"
    sides = builder.refuse(FLAG)(points_of if points else sides_of)(size)
    shown = f"{FLAG}={'x'.join(map(str, sides))}"
    if not points and (len(form.shape) != 3 or stored.kind not in ("image", "latent")):
        raise ConfigError(f"{shown}: {form.kind} items {form.shape}; needs images or clouds")
    if beside := [name for name, value in zip(OWN, others, strict=False) if value is not None]:
        raise ConfigError(f"{shown}: --{beside[0]} has items of its own size; allowed: one of them")
    if maps := [spec.name for spec in form.conditions if spec.kind == "map"]:
        raise ConfigError(f"{shown}: the condition {maps[0]} is on the grid of training")
    shape = (*sides, stored.shape[-1])
    if (codec := e.decoding.codec) is not None:
        shape = builder.refuse(f"{shown}: the codec")(codec.latent_shape)(shape)
    network = builder.completed(e.config)["network"]
    if points:
        config = dict(e.config)
        check_any_number(network, shown)
    else:
        network = network_at(network, form.shape, shape, shown)
        config = {**e.config, "network": network, "data": stating(e.config["data"], sides)}
    check_times(config, shown)
    resized = dataclasses.replace(form, shape=tuple(shape))
    experiment = builder.refuse(shown)(builder.experiment)(config, resized)
    denoise = experiment.denoiser(trained.denoise.params)
    return dataclasses.replace(trained, experiment=experiment, denoise=denoise)


def sides_of(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width; raise ValueError for anything but one or two whole numbers >= 1.

    >>> sides_of(64), sides_of((64,)), sides_of((48, 64))
    ((64, 64), (64, 64), (48, 64))
    """
    sides = (size,) if isinstance(size, int) else tuple(size)
    sides = sides * 2 if len(sides) == 1 else sides
    if len(sides) != 2 or not all(isinstance(n, int) for n in sides):
        raise ValueError(f"{size}: needs a side, or height and width")
    at_least(1, height=sides[0], width=sides[1])
    return sides[0], sides[1]


def points_of(size: int | Sequence[int]) -> tuple[int]:
    """Return a number of points; raise ValueError for anything but one whole number >= 2.

    >>> points_of(64), points_of((48,))
    ((64,), (48,))
    """
    sides = (size,) if isinstance(size, int) else tuple(size)
    if len(sides) != 1 or not isinstance(sides[0], int):
        raise ValueError(f"{size}: needs one number of points")
    at_least(2, points=sides[0])
    return sides


def check_any_number(network: Config, shown: str) -> None:
    """Raise ConfigError for a network of clouds that is not defined for any number of points.

    >>> check_any_number({"name": "egnn"}, "--size=8")
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: --size=8: the network egnn ...
    """
    if network["name"] != "dit" or network["positions"] != "none" or network["patch"] != 1:
        raise ConfigError(
            f"{shown}: the network {network['name']} knows the number of points, or their order; "
            f"allowed: a dit with positions='none', patch=1"
        )


def network_at(
    network: Config, before: Sequence[int], after: Sequence[int], shown: str
) -> dict[str, Any]:
    """Return the settings of a network of items `before` (H, W, C) for items `after`.

    network: all settings, with their defaults.

    Raises ConfigError for a network that is not defined for any size.

    >>> unet = {"name": "unet", "patch": 1, "multipliers": (1, 2), "attention": (8,)}
    >>> network_at(unet, (16, 16, 3), (24, 32, 3), "--size")["attention"]
    (12,)
    >>> dit = {"name": "dit", "patch": 2, "positions": "sincos", "cover": ()}
    >>> network_at(dit, (16, 16, 3), (24, 32, 3), "--size")["cover"]
    (8, 8)
    """
    name, known = network["name"], ("unet", "dit")
    if name not in known:
        raise ConfigError(f"{shown}: the size of the network {name} is fixed; allowed: a {known}")
    patch = network["patch"]
    divisor = patch * (2 ** (len(network["multipliers"]) - 1) if name == "unet" else 1)
    if any(n % divisor for n in after[:-1]):
        raise ConfigError(f"{shown}: items {tuple(after)}: needs sides that {divisor} divides")
    if name == "unet":
        levels = range(len(network["multipliers"]))
        sides = [(before[0] // patch >> k, after[0] // patch >> k) for k in levels]
        return {**network, "attention": tuple(b for a, b in sides if a in network["attention"])}
    grids = [tuple(n // patch for n in shape[:-1]) for shape in (before, after)]
    if network["positions"] == "learned" and any(n > network["side"] for n in grids[1]):
        most = network["side"] * patch
        raise ConfigError(
            f"{shown}: {tuple(after)}: the network has learned {network['side']} positions along "
            f"each side; needs sides up to {most}"
        )
    if network["positions"] == "sincos":
        return {**network, "cover": network["cover"] or grids[0]}
    return dict(network)


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
