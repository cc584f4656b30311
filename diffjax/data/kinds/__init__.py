"""Kinds of data, which determine how items are scaled, cropped, shown, stored and evaluated.

A source declares the kind of its items (`Form.kind`); no other code infers it from shapes. Each
kind is one file; `KINDS` is the catalogue.
"""

from diffjax import config
from diffjax.data.kinds.audio import AUDIO
from diffjax.data.kinds.cloud import CLOUD
from diffjax.data.kinds.conformer import CONFORMER
from diffjax.data.kinds.field import FIELD
from diffjax.data.kinds.image import IMAGE
from diffjax.data.kinds.kind import Files, Kind
from diffjax.data.kinds.latent import LATENT
from diffjax.data.kinds.molecule import MOLECULE
from diffjax.data.kinds.points import POINTS
from diffjax.data.kinds.sequence import SEQUENCE
from diffjax.data.kinds.table import TABLE
from diffjax.data.kinds.trajectory import TRAJECTORY
from diffjax.data.kinds.vector import VECTOR
from diffjax.data.kinds.video import VIDEO
from diffjax.data.kinds.volume import VOLUME

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        *(IMAGE, LATENT, POINTS, VECTOR, TABLE, SEQUENCE, TRAJECTORY, AUDIO, VIDEO, VOLUME, FIELD),
        *(CLOUD, MOLECULE, CONFORMER),
    )
}

__all__ = ["KINDS", "Files", "Kind", "default", "lookup"]


def lookup(name: str) -> Kind:
    """Return the kind of this name, or your own kind from `module:KIND`.

    Raises ValueError for an unknown name.

    >>> lookup("image").axes
    '(H, W, C)'
    """
    return config.lookup(KINDS, name, "kind", Kind)


def default(shape: tuple[int, ...], dtype: str) -> str:
    """Return the kind that a source of arrays declares where its setting `kind` is empty.

    It depends on the shape and the type of an item: (D,) is points for D = 2 or 3, else vector;
    (L, C) is audio in int16, else sequence; (H, W, C) is image with 1 or 3 channels or in uint8,
    else latent; (T, H, W, C) is video in uint8, else volume. Raises ValueError for any other rank.

    >>> default((32, 32, 3), "uint8"), default((2,), "float32"), default((16000, 1), "int16")
    ('image', 'points', 'audio')
    """
    grey = dtype == "uint8"
    by_rank = {
        1: "points" if shape[-1:] in ((2,), (3,)) else "vector",
        2: "audio" if dtype == "int16" else "sequence",
        3: "image" if grey or shape[-1] in (1, 3) else "latent",
        4: "video" if grey else "volume",
    }
    if len(shape) not in by_rank:
        raise ValueError(
            f"the items have the shape {shape}; needs 1 to 4 axes, or kind='field' for 5"
        )
    return by_rank[len(shape)]
