"""The interface and the result of a converter of published networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from diffjax.arrays import Params
from diffjax.io.contents import Contents
from diffjax.published.names import prefixes
from diffjax.specs import Spec


class Converted(NamedTuple):
    """A converted network: sections of a config, form of the data, and parameters.

    config: sde, parameterization, network, sampling, and other sections where their defaults do not
    fit. shape: of one item (H, W, C). classes: number of labels, or 0. params: nested dict of
    arrays. notes: one line for each difference from the original way to sample. kind: kind of the
    data, an entry of `data.KINDS`. conditions: those besides the label.

    >>> Converted({"network": {"name": "unet"}}, shape=(32, 32, 3), classes=10, params={}).kind
    'image'
    """

    config: dict[str, Any]
    shape: tuple[int, ...]
    classes: int
    params: Params
    notes: tuple[str, ...] = ()
    kind: str = "image"
    conditions: tuple[Spec, ...] = ()


class Family(NamedTuple):
    """The networks of one code base.

    convert: `(contents, **settings) -> Converted`; the settings state what the contents do not. It
    raises ValueError that names what our networks do not support. marks: names of tensors that
    every network of this family has and that no other family has. recognises: whether the contents
    are of this family, where names are not enough.

    >>> family = Family(lambda contents: None, marks=("x_embedder.proj.weight",))
    >>> family.knows(Contents({"net.x_embedder.proj.weight": 0}, {}))
    True
    """

    convert: Callable[..., Converted]
    marks: tuple[str, ...] = ()
    recognises: Callable[[Contents], bool] | None = None

    def knows(self, contents: Contents) -> bool:
        """Return whether the contents are of this family."""
        if self.recognises:
            return self.recognises(contents)
        return prefixes(contents.tensors, self.marks) != []


def enlarging(factor: int, enlarge: str, labels: bool) -> dict[str, Any]:
    """Return the section `data` of a network that enlarges images without noise on small ones.

    enlarge: the kernel, an entry of `resampling.KERNELS`. labels: whether images have classes.

    >>> enlarging(4, "bilinear", labels=False)["data"]["enlarged"]["levels"]
    (0.0, 0.0)
    """
    entry = {"factor": factor, "levels": (0.0, 0.0), "kernel": "area", "enlarge": enlarge}
    return {"data": {"name": "folder:images", "labels": labels, "enlarged": entry}}
