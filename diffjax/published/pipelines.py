"""Pipelines of diffusers with text: which folder is which part, and how their text is encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffjax.config.fields import literal
from diffjax.io.reading import settings
from diffjax.published.family import Converted

INDEX = "model_index.json"
LATENTS = "vae"


class Pipeline(NamedTuple):
    """The parts of a class of pipelines.

    parts: the classes of each folder that diffjax reads. encoder: the entry of
    `encoders.ENCODERS` that its texts need, as a function of the folder and of the sides of its
    images. guidance: the default weight of its class, by which its images are guided away from the
    empty text; None for a network that has learned the weights that its config states. optional:
    parts that a folder may be without, all of them together.
    """

    parts: Mapping[str, tuple[str, ...]]
    encoder: Callable[[Path, int], dict[str, Any]]
    guidance: float | None
    optional: tuple[str, ...] = ()


VAE = {LATENTS: ("AutoencoderKL", "AutoencoderTiny")}
UNET = {"unet": ("UNet2DConditionModel",)}
TOKENIZER = ("CLIPTokenizer", "CLIPTokenizerFast")
TOWER = {"text_encoder": ("CLIPTextModel",), "tokenizer": TOKENIZER}
PROJECTED = ("CLIPTextModelWithProjection",)
SECOND = {"text_encoder_2": PROJECTED, "tokenizer_2": TOKENIZER}
T5_MODEL, T5_TOKENIZER = ("T5EncoderModel",), ("T5Tokenizer", "T5TokenizerFast")
T5 = {
    "text_encoder": T5_MODEL,
    "tokenizer": T5_TOKENIZER,
    "transformer": ("PixArtTransformer2DModel",),
}
SD3 = {
    **SECOND,
    "text_encoder": PROJECTED,
    "tokenizer": TOKENIZER,
    "text_encoder_3": T5_MODEL,
    "tokenizer_3": T5_TOKENIZER,
    "transformer": ("SD3Transformer2DModel",),
}
FLUX = {
    **TOWER,
    "text_encoder_2": T5_MODEL,
    "tokenizer_2": T5_TOKENIZER,
    "transformer": ("FluxTransformer2DModel",),
}


def t5(length: int) -> Callable[[Path, int], dict[str, Any]]:
    """Return the encoder of a pipeline with T5 and texts of `length` tokens."""
    entry = {"name": "t5", "length": length, "empty": "encoded", "lower": True}
    return lambda path, _: {**entry, "path": f"{path}/text_encoder"}


def sd3(path: Path, _: int) -> dict[str, Any]:
    """Return the encoder of Stable Diffusion 3, with zeros in place of a T5 that is absent."""
    entry = {"name": "clip_pair_t5", "path": str(path), "empty": "encoded"}
    if part_in(settings(path / INDEX), WITHOUT[0]):
        return entry
    return entry | {"zeros": settings(path / "transformer/config.json")["joint_attention_dim"]}


WITHOUT = ("text_encoder_3", "tokenizer_3")
"""Parts of Stable Diffusion 3 that a folder may be without."""
PIPELINES = {
    "StableDiffusionPipeline": Pipeline(
        {**UNET, **VAE, **TOWER},
        lambda path, _: {"name": "clip", "path": f"{path}/text_encoder", "empty": "encoded"},
        7.5,
    ),
    "StableDiffusionXLPipeline": Pipeline(
        {**UNET, **VAE, **TOWER, **SECOND},
        lambda path, side: {
            "name": "clip_pair",
            "path": str(path),
            "size": side,
            "empty": "zeros",
        },
        5.0,
    ),
    "PixArtAlphaPipeline": Pipeline({**VAE, **T5}, t5(120), 4.5),
    "PixArtSigmaPipeline": Pipeline({**VAE, **T5}, t5(300), 4.5),
    "StableDiffusion3Pipeline": Pipeline(
        {**VAE, **SD3},
        sd3,
        7.0,
        WITHOUT,
    ),
    "FluxPipeline": Pipeline(
        {**VAE, **FLUX},
        lambda path, _: {"name": "clip_t5", "path": str(path), "empty": "encoded"},
        None,
    ),
}
"""Pipelines from text to images by the class in their index."""


def read(path: Path) -> Pipeline | None:
    """Return the pipeline in a folder, None for a folder without an index or without text.

    Raises ValueError that names it for a part that is missing or of another class, and for a class
    of pipelines with text that is not known.

    >>> read(Path("nowhere")) is None
    True
    """
    index = settings(path / INDEX) if path.is_dir() else {}
    if not any(name.startswith("text_encoder") for name in index):
        return None
    kind = index.get("_class_name")
    if kind not in PIPELINES:
        raise ValueError(f"{INDEX}: _class_name={kind!r}: unknown; known: {', '.join(PIPELINES)}")
    found = PIPELINES[kind]
    absent = [part for part in found.optional if not part_in(index, part)]
    if absent and len(absent) < len(found.optional):
        both = " and ".join(found.optional)
        raise ValueError(f"{INDEX}: {absent[0]} is absent; needs {both}, or neither of them")
    for part, classes in found.parts.items():
        if part in absent:
            continue
        name = part_in(index, part)
        if name not in classes:
            known = " or ".join(classes)
            raise ValueError(f"{INDEX}: {part}={name!r}: not supported; known: {known}")
        if not (path / part).is_dir():
            raise ValueError(f"{INDEX} names the part {part!r}; the folder {part} is missing")
    if index.get("force_zeros_for_empty_prompt") is False and kind.startswith("StableDiffusionXL"):
        raise ValueError(f"{INDEX}: force_zeros_for_empty_prompt=False: not supported; known: True")
    return found


def part_in(index: Mapping[str, Any], part: str) -> Any:
    """Return the class of a part in an index, None for a part that is absent.

    >>> part_in({"unet": ["diffusers", "UNet2DModel"]}, "unet"), part_in({"a": [None, None]}, "a")
    ('UNet2DModel', None)
    """
    value = index.get(part)
    return value[1] if isinstance(value, list) and len(value) == 2 else value


def joined(converted: Converted, pipeline: Pipeline, path: Path) -> Converted:
    """Return the network of a pipeline with the codec and the encoder of its folder in the config.

    The weight of guidance is that of the class of the pipeline, if it has one.
    """
    path = path.expanduser().resolve()
    vae = settings(path / LATENTS / "config.json")
    levels = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or [0]
    side = converted.shape[0] * 2 ** (len(levels) - 1)
    encoder, guided = pipeline.encoder(path, side) | {"cut": True}, pipeline.guidance is not None
    weight = {"guidance": pipeline.guidance} if guided else {}
    config = converted.config | {
        "sampling": {**converted.config.get("sampling", {}), **weight},
        "data": {
            "name": "latents:latents",
            "labels": False,
            "codec": str(path),
            "encoder": text_of(encoder),
        },
    }
    note = ("guidance leads away from the empty text, as in diffusers",) * guided
    return converted._replace(config=config, notes=(*converted.notes, *note))


def text_of(entry: Mapping[str, Any]) -> str:
    """Return an entry of a catalogue with its settings as one text.

    >>> text_of({"name": "clip", "path": "a,b", "cut": True})
    "clip:path=('a,b'),cut=True"
    """
    name, *pairs = entry.items()
    plain = lambda value: isinstance(value, str) and "," not in value and literal(value) == value
    shown = lambda value: value if plain(value) else f"({value!r})" if "," in str(value) else value
    return f"{name[1]}:" + ",".join(f"{key}={shown(value)}" for key, value in pairs)
