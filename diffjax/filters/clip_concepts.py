"""The filter of Stable Diffusion's safety checker: distances to concepts in CLIP's space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from diffjax.features.vit_names import Tower, clip_image
from diffjax.files import reason
from diffjax.filters.base import Filter, Images
from diffjax.io.fetch import sha256
from diffjax.io.reading import read

CONCEPTS = ("special_care_embeds", "concept_embeds")
CLOSER = 0.01
"""What is added to all later scores once a special concept is near."""


def clip_concepts(path: str, threshold: float = 0.0) -> Filter:
    """Stop images near one of 17 concepts, as the safety checker of Stable Diffusion does.

    The score is the largest cos(v, c_i) - w_i over the concepts c_i with limits w_i, v the vector
    of the image by CLIP; 0.01 is added where one of 3 special concepts is nearer than its limit.
    diffusers rounds scores to three digits before it compares them with 0, and so does this filter.

    path: safety_checker/model.safetensors, or the folder with it. threshold: above 0 stops fewer
    images. Published networks resize images as Pillow does; other sides than those of CLIP are
    stretched, where the original cuts the centre of images that are not square. Raises ValueError
    for a file without these tensors.

    >>> clip_concepts("nowhere")
    Traceback (most recent call last):
    ValueError: path='nowhere': ...
    """
    file = Path(path).expanduser()
    file = file / "model.safetensors" if file.is_dir() else file
    if not file.is_file():
        raise ValueError(f"path={path!r}: no such file, as safety_checker/model.safetensors")
    try:
        tensors = dict(read(file).tensors)
        tower, concepts = converted(tensors)
    except (ValueError, KeyError) as error:
        raise ValueError(f"path={path!r}: is no safety checker ({reason(error)})") from error
    run = jax.jit(lambda params, x: scores(tower.net.apply(params, x)["pool"], *concepts))

    def scored(images: Images) -> Float[np.ndarray, " b"]:
        return np.asarray(run(tower.params, jnp.asarray(images)))

    return Filter("clip_concepts", scored, threshold, facts={"sha256": sha256(file)[:12]})


def converted(tensors: Mapping[str, np.ndarray]) -> tuple[Tower, tuple[np.ndarray, ...]]:
    """Return the image tower, and vectors and limits of special concepts and of concepts.

    Older files have the tower below two modules of the name `vision_model`.
    """
    mine = [f"{name}{end}" for name in CONCEPTS for end in ("", "_weights")]
    if lacking := [name for name in mine if name not in tensors]:
        raise ValueError(f"lacks {lacking[0]}")
    others = {k: v for k, v in tensors.items() if k not in mine}
    twice = "vision_model.vision_model."
    tower = clip_image({k.replace(twice, "vision_model."): v for k, v in others.items()})
    concepts = [np.asarray(tensors[name], np.float32) for name in mine]
    for (name, vectors), limits in zip(
        zip(CONCEPTS, concepts[::2], strict=True), concepts[1::2], strict=True
    ):
        if vectors.shape != (*limits.shape, tower.settings.features):
            raise ValueError(f"{name} is {vectors.shape}, with {limits.shape} limits")
    return tower, tuple(concepts)


def scores(
    v: Float[Array, "b d"],
    special: Shaped[np.ndarray, "s d"],
    of_special: Shaped[np.ndarray, " s"],
    concepts: Shaped[np.ndarray, "c d"],
    of_concepts: Shaped[np.ndarray, " c"],
) -> Float[Array, " b"]:
    """Return the largest score (B,) of images with the vectors v (B, D).

    special, concepts: vectors, with their limits.

    >>> limits, (one, two) = jnp.array([0.5]), jnp.eye(2)[:, None]
    >>> np.asarray(scores(jnp.eye(2), one, limits, two, limits)).round(3).astype(str).tolist()
    ['-0.49', '0.5']
    """
    unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    near = (unit(v) @ unit(jnp.asarray(special)).T) - jnp.asarray(of_special)[None]
    closer = jnp.zeros(len(v))
    for one in near.T:
        closer = jnp.where(jnp.round(one + closer, 3) > 0, CLOSER, closer)
    far = (unit(v) @ unit(jnp.asarray(concepts)).T) - jnp.asarray(of_concepts)[None]
    return jnp.round(far + closer[:, None], 3).max(1)
