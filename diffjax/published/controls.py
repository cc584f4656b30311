"""Readers of published controls: diffusers' `ControlNetModel` and `T2IAdapter`.

They read pictures in [0, 1] of 8 times the size of the latents, as maps whose channels hold the
squares of 8 x 8 pixels (`nets.control`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax.arrays import Params
from diffjax.io.contents import Contents
from diffjax.io.reading import read
from diffjax.io.trees import flat, nested, some
from diffjax.published import stable
from diffjax.published.tables import Table, conv, converted, layer, matrix, norm
from diffjax.published.walk import walk
from diffjax.specs import Spec

LATENT = 8
"""Side of the square of pixels that one place of a latent stands for."""
ENDS = ("up_blocks.", "conv_norm_out.", "conv_out.")
"""Beginnings of the tensors of a U-Net that a ControlNet has no copy of."""
CONTROL: dict[str, Any] = {
    "conditioning_channels": 3,
    "conditioning_embedding_out_channels": (16, 32, 96, 256),
    "controlnet_conditioning_channel_order": "rgb",
    "global_pool_conditions": False,
}
"""Settings of a ControlNet beside those of its U-Net, with their defaults."""
ADAPTER: dict[str, Any] = {
    "in_channels": 3,
    "channels": (320, 640, 1280, 1280),
    "num_res_blocks": 2,
    "downscale_factor": 8,
    "adapter_type": "full_adapter",
}
"""Settings of a T2I-Adapter, with their defaults."""
IP = "image_proj.proj.weight"
"""A tensor of every IP-Adapter of the plain form."""
FORMS = {"full_adapter": "full", "light_adapter": "light", "full_adapter_xl": "xl"}


class Beside(NamedTuple):
    """A control that was read: its section of config.adapter, its condition, and its parameters.

    params: a function from the parameters of the base, its settings and the side of its items to
    the parameters of the control.
    """

    section: dict[str, Any]
    spec: Spec
    params: Callable[[Params, Mapping[str, Any], int], Params]


def opened(path: Path) -> Beside | None:
    """Return the control in a folder with a config.json, or the IP-Adapter in a file.

    The result is None where there is none. Its condition has the name of the folder or file.
    Raises ValueError for a control that our networks do not support.

    >>> opened(Path("nowhere")) is None
    True
    """
    is_file = path.is_file() and path.suffix in (".safetensors", ".bin", ".pt", ".pth")
    if not is_file and not (path / "config.json").is_file():
        return None
    contents = read(path)
    if is_file and IP not in contents.tensors:
        return None
    path = path.with_suffix("") if is_file else path
    name = re.sub(r"\W", "_", re.sub(r"^(?=\d)", "_", path.resolve().name))
    return control(contents, name)


def control(contents: Contents, name: str) -> Beside | None:
    """Return the control of these contents, whose condition has a name; None for another class."""
    if IP in contents.tensors:
        return image_prompt(contents, name)
    reader = READERS.get(str((contents.config or {}).get("_class_name")))
    return reader(contents, name) if reader else None


def control_net(contents: Contents, name: str) -> Beside:
    """Return a `ControlNetModel`. Raises ValueError for settings without a counterpart here."""
    stated = dict(contents.config or {})
    have = {**CONTROL, **stated}
    for field in ("controlnet_conditioning_channel_order", "global_pool_conditions"):
        if have[field] != CONTROL[field]:
            raise ValueError(f"config.json: {field}={have[field]!r}; needs {CONTROL[field]!r}")
    only = {k: v for k, v in stated.items() if k not in CONTROL}
    only = {k: v for k, v in only.items() if v is not None or k != "num_class_embeds"}
    network, _, shape = stable.settings(only, name="ControlNetModel")
    widths = list(have["conditioning_embedding_out_channels"])
    side = 2 ** (len(widths) - 1)
    whole = stable.table(network, shape[0])
    copy = {k: row for k, row in whole.items() if not row[1].startswith(ENDS)}
    count = len(network["multipliers"]) * (network["blocks"] + 1)
    table: Table = {f"copy/{ours}": row for ours, row in copy.items()}
    table |= hint(len(widths)) | outputs(count)
    theirs = converted(table, contents.tensors)

    def params(base: Params, settings: Mapping[str, Any], size: int) -> Params:
        """Return the parameters beside a base, from which those of the copy are differences."""
        first, own = flat(base), flat(theirs["copy"])
        shapes = {k: (v.shape, np.shape(first.get(k, ()))) for k, v in own.items()}
        if wrong := [f"{k} {a}, the base has {b}" for k, (a, b) in shapes.items() if a != b]:
            raise ValueError(f"a copy of another U-Net: {some('of other shapes', wrong)}")
        moved = {k: v - np.asarray(first[k], np.float32) for k, v in own.items()}
        return {**theirs, "copy": nested(moved)}

    section = {"name": "control_net", "condition": name, "hint": widths}
    return Beside(section, Spec(name, "map", have["conditioning_channels"] * side**2), params)


def hint(levels: int) -> Table:
    """Return the table of the embedding of a map."""
    theirs = "controlnet_cond_embedding"
    names = ["conv_in", *(f"blocks.{i}" for i in range(2 * (levels - 1))), "conv_out"]
    table: Table = {}
    for i, name in enumerate(names):
        table |= conv(f"hint/Conv_{i}", f"{theirs}.{name}")
    return table


def outputs(count: int) -> Table:
    """Return the table of the last layers, one for each output of the encoder and the middle."""
    table: Table = {}
    for i in range(count):
        table |= layer(f"out/zero_{i}", f"controlnet_down_blocks.{i}")
    return table | layer(f"out/zero_{count}", "controlnet_mid_block")


def t2i(contents: Contents, name: str) -> Beside:
    """Return a `T2IAdapter`. Raises ValueError for settings without a counterpart here."""
    stated = dict(contents.config or {})
    if unknown := [k for k in stated if k[0] != "_" and k not in ADAPTER]:
        raise ValueError(f"config.json: {unknown[0]}={stated[unknown[0]]!r} is not supported")
    have = {**ADAPTER, **stated}
    if have["adapter_type"] not in FORMS:
        known = ", ".join(FORMS)
        raise ValueError(f"config.json: adapter_type={have['adapter_type']!r}; known: {known}")
    form, widths, blocks = FORMS[have["adapter_type"]], have["channels"], have["num_res_blocks"]
    # The light form has one level more than widths: the last one is repeated.
    widths = [*widths, widths[-1]] if form == "light" else [*widths]
    side = LATENT * (2 if form == "xl" else 1)
    if have["downscale_factor"] != side:
        raise ValueError(f"config.json: downscale_factor={have['downscale_factor']}; needs {side}")
    channels = have["in_channels"]
    first = unshuffled(channels, side)
    table: Table = {}
    if form != "light":
        table |= layer("conv_in", "adapter.conv_in", first)
    before = channels * side**2 if form == "light" else widths[0]
    for level, width in enumerate(widths):
        theirs, inner = f"adapter.body.{level}", width // 4 if form == "light" else width
        if before != inner or form == "light":
            reads_pixels = form == "light" and not level
            layout = (lambda w: first(w)[0, 0]) if reads_pixels else matrix
            table |= layer(f"in_{level}", f"{theirs}.in_conv", layout)
        for i in range(blocks):
            at = f"{theirs}.resnets.{i}"
            second = conv if form == "light" else layer
            table |= conv(f"first_{level}_{i}", f"{at}.block1")
            table |= second(f"second_{level}_{i}", f"{at}.block2")
        if form == "light":
            table |= layer(f"out_{level}", f"{theirs}.out_conv")
        before = width
    params = converted(table, contents.tensors)
    section = {"name": "t2i", "condition": name, "widths": widths, "blocks": blocks, "form": form}
    spec = Spec(name, "map", channels * LATENT**2)
    return Beside(section, spec, lambda *_: params)


def image_prompt(contents: Contents, name: str) -> Beside:
    """Return an IP-Adapter of the plain form, whose condition is the embedding of an image.

    Raises ValueError for tensors of another form.
    """
    numbers = sorted(
        int(key.split(".")[1]) for key in contents.tensors if key.endswith("to_k_ip.weight")
    )
    width = int(np.shape(contents.tensors["image_proj.norm.weight"])[0])
    total, size = np.shape(contents.tensors[IP])
    table = layer("image/proj", "image_proj.proj") | norm("image/norm", "image_proj.norm")
    for i, number in enumerate(numbers):
        for each in "kv":
            place, theirs = f"attention/{i}/{each}", f"ip_adapter.{number}.to_{each}_ip"
            table |= layer(place, theirs, bias=None)
    theirs = converted(table, contents.tensors)

    def params(base: Params, settings: Mapping[str, Any], size: int) -> Params:
        """Return the parameters with the cross-attentions in the order of our forward pass."""
        order = places(settings, size)
        if len(order) != len(numbers):
            raise ValueError(
                f"has keys for {len(numbers)} cross-attentions; the base has {len(order)}"
            )
        own = {str(i): theirs["attention"][str(k)] for i, k in enumerate(order)}
        return {**theirs, "attention": own}

    section = {"name": "image_prompt", "condition": name, "tokens": total // width, "width": width}
    return Beside(section, Spec(name, "vector", size), params)


def places(settings: Mapping[str, Any], size: int) -> list[int]:
    """Return the numbers in diffusers of our cross-attentions: its middle comes last.

    settings: those of the base, a `unet` with cross-attentions. size: the side of its items.

    >>> unet = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (8,)}
    >>> places(unet | {"transformer": (2,)}, size=8)
    [0, 1, 6, 7, 2, 3, 4, 5]
    """
    kinds = []
    depths = settings.get("transformer") or [1] * len(settings["multipliers"])
    for step in walk(settings, size):
        kinds += [step.kind] * (depths[step.level] if step.attention else 0)
    ranked = sorted(range(len(kinds)), key=lambda i: (kinds[i] == "middle", i))
    return [ranked.index(i) for i in range(len(kinds))]


def unshuffled(channels: int, side: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the layout of a kernel (O, C side^2, *K) that reads squares of pixels.

    Theirs are in the order (channels, rows, columns), ours in (rows, columns, channels), where
    squares of more than 8 x 8 are squares of such squares.

    >>> unshuffled(3, 8)(np.arange(192.0).reshape(1, 192, 1, 1))[0, 0, :4, 0].tolist()
    [0.0, 64.0, 128.0, 1.0]
    """
    inner, outer = LATENT, side // LATENT
    order = np.arange(channels * side**2).reshape(channels, outer, inner, outer, inner)
    order = order.transpose(1, 3, 2, 4, 0).ravel()
    return lambda w: np.moveaxis(w[:, order], (0, 1), (-1, -2))


READERS: dict[str, Callable[[Contents, str], Beside]] = {
    "ControlNetModel": control_net,
    "T2IAdapter": t2i,
}
"""Readers of controls by the class that a config.json names."""
