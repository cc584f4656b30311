"""Which tensors of published U-Nets are which parameters of ours, and in what layout.

One function per code base: from the settings of `unet` or `edm2`, and the size of the images, to

    {parameter of ours: (layout, *names of theirs)}

where a layout makes our array of theirs (NumPy). `converted` applies such a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Table = dict[str, tuple[Any, ...]]


def converted(table: Table, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Our nested parameters. ValueError where a tensor is used twice, or not at all."""
    used = [name for _, *names in table.values() for name in names]
    if sorted(used) != sorted(tensors):
        raise ValueError(f"not the same tensors: {sorted(set(used) ^ set(tensors))}")
    made: dict[str, Any] = {}
    for path, (layout, *names) in table.items():
        *parents, leaf = path.split("/")
        place = made
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = layout(*(tensors[name] for name in names))
    return made


# Layouts. Of a convolution (O, I, *K) to (*K, I, O); of a layer (O, I) or (O, I, 1, 1) to (I, O).


def same(w: np.ndarray) -> np.ndarray:
    return w


def kernel(w: np.ndarray) -> np.ndarray:
    return np.moveaxis(w, (0, 1), (-1, -2))


def matrix(w: np.ndarray) -> np.ndarray:
    return w.reshape(w.shape[:2]).T


def interleaved(heads: int, order: str) -> Callable[[np.ndarray], np.ndarray]:
    """Queries, keys and values of all heads as rows (3, heads, channels), from `order` of these."""
    axes = [order.index(axis) for axis in "3hc"]

    def layout(w: np.ndarray) -> np.ndarray:
        sizes = {"3": 3, "h": heads, "c": len(w) // 3 // heads}
        rows = np.arange(len(w)).reshape([sizes[axis] for axis in order]).transpose(axes).ravel()
        return matrix(w[rows]) if w.ndim > 1 else w[rows]

    return layout


def side_by_side(*w: np.ndarray) -> np.ndarray:
    return np.concatenate([a.T if a.ndim > 1 else a for a in w], axis=-1)


def stacked(*w: np.ndarray) -> np.ndarray:
    """Matrices that are (I, O) already, or biases."""
    return np.concatenate(w, axis=-1)


def with_null(labels: np.ndarray) -> np.ndarray:
    """Rows (classes, width) after one for no label, which is zero there."""
    return np.concatenate([np.zeros_like(labels[:1]), labels])


def one_hot(w: np.ndarray) -> np.ndarray:
    """The rows of a layer (O, classes) on one-hot labels."""
    return with_null(w.T)


def scaled_one_hot(w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Those of a layer on one-hot labels of norm sqrt(classes)."""
    return with_null(w.T * np.sqrt(w.shape[1])) + b


def layer(ours: str, theirs: str, layout: Any = matrix, bias: Any = same) -> Table:
    table: Table = {f"{ours}/kernel": (layout, f"{theirs}.weight")}
    return table | ({f"{ours}/bias": (bias, f"{theirs}.bias")} if bias else {})


def conv(ours: str, theirs: str) -> Table:
    return layer(ours, theirs, kernel)


def norm(ours: str, theirs: str) -> Table:
    return {f"{ours}/scale": (same, f"{theirs}.weight"), f"{ours}/bias": (same, f"{theirs}.bias")}


@dataclass(frozen=True)
class Step:
    """A part of our U-Net: `first`, `encoder`, `down`, `middle`, `decoder`, `up` or `last`.

    i: its number in the level. skip: whether a layer is on the way around it. attention: of the
    block, or "". heads: of that.
    """

    kind: str
    ours: str
    level: int = 0
    i: int = 0
    skip: bool = False
    attention: str = ""
    heads: int = 1


def walk(settings: Mapping[str, Any], size: int) -> Iterator[Step]:
    """The parts in the order of the forward pass; `last` of each level with an output."""
    widths = [m * settings["channels"] for m in settings["multipliers"]]
    counts = {"Block": 0, "SelfAttention": 0, "Conv": 1}

    def count(kind: str) -> str:
        counts[kind] += 1
        return f"{kind}_{counts[kind] - 1}"

    def block(kind: str, level: int, i: int, given: int, attends: bool) -> Step:
        attention = count("SelfAttention") if attends else ""
        heads = settings.get("heads", 1)
        if each := settings.get("head_channels", 0):
            heads = widths[level] // each
        return Step(kind, count("Block"), level, i, given != widths[level], attention, heads)

    def move(kind: str, level: int) -> Step:
        if settings.get("resample", "conv").endswith("conv"):
            return Step(kind, count("Conv"), level)
        project = settings.get("resample") == "projected_block"
        return Step(kind, f"{kind}_{level}", level, skip=project)

    here = [size >> level in settings["attention"] for level in range(len(widths))]
    yield Step("first", "Conv_0")
    width, skips = settings["channels"], [settings["channels"]]
    for level in range(len(widths)):
        if level:
            yield move("down", level)
            skips.append(width)
        for i in range(settings["blocks"]):
            yield block("encoder", level, i, width, here[level])
            width = widths[level]
            skips.append(width)
    for i in range(2):
        yield block("middle", len(widths) - 1, i, width, not i)
    for level in reversed(range(len(widths))):
        for i in range(settings["blocks"] + 1):
            last = i == settings["blocks"] or not settings.get("last_attends")
            yield block("decoder", level, i, width + skips.pop(), here[level] and last)
            width = widths[level]
        if level and settings.get("output_pyramid") == "skip":
            yield Step("last", f"_{level}", level)
        if level:
            yield move("up", level)
    yield Step("last", f"Conv_{counts['Conv']}")


def head(step: Step, norm_name: str, conv_name: str) -> Table:
    if step.level:
        ours = (f"output_norm_{step.level}", f"output_{step.level}")
    else:
        ours = ("GroupNorm_0", step.ours)
    return norm(ours[0], norm_name) | conv(ours[1], conv_name)


# EDM, training/networks.py: SongUNet (DDPM++, NCSN++) and DhariwalUNet (ADM).


def edm_block(step: Step, theirs: str) -> Table:
    table = norm(f"{step.ours}/GroupNorm_0", f"{theirs}.norm0")
    table |= conv(f"{step.ours}/Conv_0", f"{theirs}.conv0")
    table |= layer(f"{step.ours}/Dense_0", f"{theirs}.affine")
    table |= norm(f"{step.ours}/GroupNorm_1", f"{theirs}.norm1")
    table |= conv(f"{step.ours}/Conv_1", f"{theirs}.conv1")
    if step.skip:
        table |= layer(f"{step.ours}/skip", f"{theirs}.skip")
    if step.attention:
        qkv = interleaved(step.heads, "hc3")
        table |= norm(f"{step.attention}/GroupNorm_0", f"{theirs}.norm2")
        table |= layer(f"{step.attention}/qkv", f"{theirs}.qkv", qkv, qkv)
        table |= layer(f"{step.attention}/out", f"{theirs}.proj")
    return table


def edm(settings: Mapping[str, Any], size: int) -> Table:
    song, ours = settings.get("early_conditions", False), "Embedding_0"
    table = layer(f"{ours}/Dense_0", "map_layer0") | layer(f"{ours}/Dense_1", "map_layer1")
    if settings.get("embedding") == "fourier":
        table[f"{ours}/fourier/frequencies"] = (same, "map_noise.freqs")
    if settings.get("classes"):
        label = (scaled_one_hot, "map_label.weight", "map_label.bias")
        table[f"{ours}/label/embedding"] = label if song else (one_hot, "map_label.weight")
    if settings.get("augment"):
        table |= layer(f"{ours}/augment", "map_augment", bias=None)
    for step in walk(settings, size):
        place = f"{size >> step.level}x{size >> step.level}"
        above = f"{2 * size >> step.level}x{2 * size >> step.level}"
        if step.kind == "first":
            table |= conv(step.ours, f"enc.{place}_conv")
        elif step.kind == "last":
            names = ("out_norm", "out_conv")
            names = (f"dec.{place}_aux_norm", f"dec.{place}_aux_conv") if song else names
            table |= head(step, *names)
        else:
            theirs = {
                "down": f"enc.{place}_down",
                "encoder": f"enc.{place}_block{step.i}",
                "middle": f"dec.{place}_in{step.i}",
                "decoder": f"dec.{place}_block{step.i}",
                "up": f"dec.{above}_up",
            }[step.kind]
            table |= edm_block(step, theirs)
        pyramid = settings.get("input_pyramid", "none")
        if step.kind == "down" and pyramid != "none":
            aux, layout = f"enc.{place}_aux_{pyramid}", kernel if pyramid == "residual" else matrix
            table |= layer(f"input_{step.level}", aux, layout)
    return table


# score_sde_pytorch, models: DDPM, and NCSNpp with BigGAN's blocks (DDPM++, NCSN++).


def score_sde(settings: Mapping[str, Any], size: int) -> Table:
    names = (f"all_modules.{i}" for i in range(10_000))
    table: Table = {}
    if settings.get("embedding") == "fourier":
        table["Embedding_0/fourier/frequencies"] = (same, f"{next(names)}.W")
    for i in range(2):
        table |= layer(f"Embedding_0/Dense_{i}", next(names))
    for step in walk(settings, size):
        theirs = next(names)
        if step.kind == "first":
            table |= conv(step.ours, theirs)
        elif step.kind == "last":
            table |= head(step, theirs, next(names))
        elif step.ours.startswith("Conv"):
            table |= conv(step.ours, f"{theirs}.Conv_0")
        else:
            block = settings.get("resample") == "projected_block"
            table |= _score_block(step, theirs, "Conv_2" if block else "NIN_0")
            if step.attention:
                table |= _score_attention(step.attention, next(names))
        if step.kind == "down" and (pyramid := settings.get("input_pyramid", "none")) != "none":
            aux = f"{next(names)}.{'Conv2d_0' if pyramid == 'residual' else 'Conv_0'}"
            layout = kernel if pyramid == "residual" else matrix
            table |= layer(f"input_{step.level}", aux, layout)
    return table


def _score_block(step: Step, theirs: str, skip: str) -> Table:
    table: Table = {}
    for i in range(2):
        table |= norm(f"{step.ours}/GroupNorm_{i}", f"{theirs}.GroupNorm_{i}")
        table |= conv(f"{step.ours}/Conv_{i}", f"{theirs}.Conv_{i}")
    table |= layer(f"{step.ours}/Dense_0", f"{theirs}.Dense_0")
    if step.skip and skip.startswith("NIN"):
        table[f"{step.ours}/skip/kernel"] = (same, f"{theirs}.{skip}.W")
        table[f"{step.ours}/skip/bias"] = (same, f"{theirs}.{skip}.b")
    elif step.skip:
        table |= layer(f"{step.ours}/skip", f"{theirs}.{skip}")
    return table


def _score_attention(ours: str, theirs: str) -> Table:
    table = norm(f"{ours}/GroupNorm_0", f"{theirs}.GroupNorm_0")
    for leaf, part in (("kernel", "W"), ("bias", "b")):
        table[f"{ours}/qkv/{leaf}"] = (stacked, *(f"{theirs}.NIN_{i}.{part}" for i in range(3)))
        table[f"{ours}/out/{leaf}"] = (same, f"{theirs}.NIN_3.{part}")
    return table


# guided-diffusion, guided_diffusion/unet.py: UNetModel.


def guided_diffusion(settings: Mapping[str, Any], size: int, order: str = "h3c") -> Table:
    """order: "3hc" for models with `use_new_attention_order`."""
    ours = "Embedding_0"
    table = layer(f"{ours}/Dense_0", "time_embed.0") | layer(f"{ours}/Dense_1", "time_embed.2")
    if settings.get("classes"):
        table[f"{ours}/label/embedding"] = (with_null, "label_emb.weight")
    inputs, outs, part = -1, -1, 0
    for step in walk(settings, size):
        if step.kind in ("first", "encoder", "down"):
            inputs += 1
            theirs, around = f"input_blocks.{inputs}", 1
        elif step.kind == "middle":
            theirs, around, part = "middle_block", 1, 2 * step.i
        elif step.kind == "decoder":
            outs += 1
            theirs, around, part = f"output_blocks.{outs}", 1, 0
        elif step.kind == "up":
            theirs, around = f"output_blocks.{outs}", 0
        else:
            table |= head(step, "out.0", "out.2")
            continue
        if step.kind in ("first", "encoder", "down"):
            part = 0
        if step.kind == "first" or step.ours.startswith("Conv"):
            inner = {"first": "", "down": ".op", "up": ".conv"}[step.kind]
            table |= conv(step.ours, f"{theirs}.{part}{inner}")
        else:
            table |= _guided_block(step, f"{theirs}.{part}")
        part += around
        if step.attention:
            table |= _guided_attention(step, f"{theirs}.{part}", order)
            part += 1
    return table


def _guided_block(step: Step, theirs: str) -> Table:
    table = norm(f"{step.ours}/GroupNorm_0", f"{theirs}.in_layers.0")
    table |= conv(f"{step.ours}/Conv_0", f"{theirs}.in_layers.2")
    table |= layer(f"{step.ours}/Dense_0", f"{theirs}.emb_layers.1")
    table |= norm(f"{step.ours}/GroupNorm_1", f"{theirs}.out_layers.0")
    table |= conv(f"{step.ours}/Conv_1", f"{theirs}.out_layers.3")
    return table | (layer(f"{step.ours}/skip", f"{theirs}.skip_connection") if step.skip else {})


def _guided_attention(step: Step, theirs: str, order: str) -> Table:
    qkv = interleaved(step.heads, order)
    table = norm(f"{step.attention}/GroupNorm_0", f"{theirs}.norm")
    table |= layer(f"{step.attention}/qkv", f"{theirs}.qkv", qkv, qkv)
    return table | layer(f"{step.attention}/out", f"{theirs}.proj_out")


# diffusers, UNet2DModel.


def diffusers(settings: Mapping[str, Any], size: int) -> Table:
    ours, top = "Embedding_0", len(settings["multipliers"]) - 1
    table = layer(f"{ours}/Dense_0", "time_embedding.linear_1")
    table |= layer(f"{ours}/Dense_1", "time_embedding.linear_2")
    for step in walk(settings, size):
        places = {
            "encoder": f"down_blocks.{step.level}",
            "middle": "mid_block",
            "decoder": f"up_blocks.{top - step.level}",
        }
        if step.kind == "first":
            table |= conv(step.ours, "conv_in")
        elif step.kind == "last":
            table |= head(step, "conv_norm_out", "conv_out")
        elif step.kind == "down":
            table |= conv(step.ours, f"down_blocks.{step.level - 1}.downsamplers.0.conv")
        elif step.kind == "up":
            table |= conv(step.ours, f"up_blocks.{top - step.level}.upsamplers.0.conv")
        else:
            place = places[step.kind]
            table |= _diffusers_block(step, f"{place}.resnets.{step.i}")
            if step.attention:
                table |= _diffusers_attention(step.attention, f"{place}.attentions.{step.i}")
    return table


def _diffusers_block(step: Step, theirs: str) -> Table:
    table: Table = {}
    for i in range(2):
        table |= norm(f"{step.ours}/GroupNorm_{i}", f"{theirs}.norm{i + 1}")
        table |= conv(f"{step.ours}/Conv_{i}", f"{theirs}.conv{i + 1}")
    table |= layer(f"{step.ours}/Dense_0", f"{theirs}.time_emb_proj")
    return table | (layer(f"{step.ours}/skip", f"{theirs}.conv_shortcut") if step.skip else {})


def _diffusers_attention(ours: str, theirs: str) -> Table:
    table = norm(f"{ours}/GroupNorm_0", f"{theirs}.group_norm")
    for leaf, part in (("kernel", "weight"), ("bias", "bias")):
        names = (f"{theirs}.to_{which}.{part}" for which in "qkv")
        table[f"{ours}/qkv/{leaf}"] = (side_by_side, *names)
    return table | layer(f"{ours}/out", f"{theirs}.to_out.0")


# EDM2, training/networks_edm2.py: UNet.


def radians(w: np.ndarray) -> np.ndarray:
    """Frequencies and phases that have their 2 pi already."""
    return w / (2 * np.pi)


def edm2(settings: Mapping[str, Any], size: int) -> Table:
    """`settings` of `edm2`."""
    table: Table = {
        "MPEmbedding_0/fourier/frequencies": (radians, "emb_fourier.freqs"),
        "MPEmbedding_0/fourier/phases": (radians, "emb_fourier.phases"),
        "MPEmbedding_0/noise/weight": (matrix, "emb_noise.weight"),
        "first/weight": (kernel, f"enc.{size}x{size}_conv.weight"),
        "last/weight": (kernel, "out_conv.weight"),
        "last/gain": (same, "out_gain"),
    }
    if settings.get("classes"):
        table["MPEmbedding_0/label/weight"] = (matrix, "emb_label.weight")
    # Blocks that change the resolution are counted among the others here.
    moves = {"resample": "block", "head_channels": settings["head_channels"]}
    for n, step in enumerate(s for s in walk({**settings, **moves}, size) if s.kind[-3:] != "rst"):
        if step.kind == "last":
            continue
        res, above = size >> step.level, 2 * size >> step.level
        theirs = {
            "down": f"enc.{res}x{res}_down",
            "encoder": f"enc.{res}x{res}_block{step.i}",
            "middle": f"dec.{res}x{res}_in{step.i}",
            "decoder": f"dec.{res}x{res}_block{step.i}",
            "up": f"dec.{above}x{above}_up",
        }[step.kind]
        ours = f"Block_{n}"
        table[f"{ours}/conv_0/weight"] = (kernel, f"{theirs}.conv_res0.weight")
        table[f"{ours}/conv_1/weight"] = (kernel, f"{theirs}.conv_res1.weight")
        table[f"{ours}/embedding/weight"] = (matrix, f"{theirs}.emb_linear.weight")
        table[f"{ours}/embedding/gain"] = (same, f"{theirs}.emb_gain")
        if step.skip:
            table[f"{ours}/skip/weight"] = (kernel, f"{theirs}.conv_skip.weight")
        if step.attention:
            qkv, rows = f"{theirs}.attn_qkv.weight", interleaved(step.heads, "hc3")
            table[f"{ours}/qkv/weight"] = (lambda w, rows=rows: rows(w)[None, None], qkv)
            table[f"{ours}/out/weight"] = (kernel, f"{theirs}.attn_proj.weight")
    return table
