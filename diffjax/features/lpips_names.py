"""Files of LPIPS: backbones of torchvision and the weights of their channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax.arrays import Params
from diffjax.io.standard import Standard
from diffjax.published.tables import Table, conv, converted
from diffjax.published.tables import shape as form

_TORCHVISION = "https://download.pytorch.org/models"
BACKBONES = {
    "squeeze": Standard(
        f"{_TORCHVISION}/squeezenet1_1-b8a52dc0.pth",
        "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
    ),
    "alex": Standard(
        f"{_TORCHVISION}/alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
    "vgg": Standard(
        f"{_TORCHVISION}/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
}
"""Networks trained on ImageNet, as `lpips` loads them."""
_LPIPS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights"
LINEAR = {
    "squeeze": Standard(
        f"{_LPIPS}/v0.1/squeeze.pth",
        "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
    ),
    "alex": Standard(
        f"{_LPIPS}/v0.1/alex.pth",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    ),
    "vgg": Standard(
        f"{_LPIPS}/v0.1/vgg.pth",
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    ),
}
"""Weights of channels, which the package `lpips` 0.1.4 contains as well (BSD-2-Clause)."""


def convert(
    layers: Mapping[int, Any],
    backbone: Mapping[str, np.ndarray],
    linear: Mapping[str, np.ndarray],
) -> Params:
    """Return the parameters of `features.lpips` from the tensors of both files.

    layers: those of the backbone by their number, an entry of `features.lpips.NETS`. Raises
    ValueError that names the tensors which do not fit.
    """
    table: Table = {}
    for index, layer in layers.items():
        ours, theirs = f"net/layer_{index}", f"features.{index}"
        if layer.kind == "conv":
            table |= conv(ours, theirs)
        elif layer.kind == "fire":
            table |= conv(f"{ours}_squeeze", f"{theirs}.squeeze")
            table |= conv(f"{ours}_1x1", f"{theirs}.expand1x1")
            table |= conv(f"{ours}_3x3", f"{theirs}.expand3x3")
    compared = [layer for layer in layers.values() if layer.compared]
    for level in range(len(compared)):
        table[f"linear/{level}"] = (np.ravel, f"lin{level}.model.1.weight")
    tensors = {**backbone, **linear}
    for level, layer in enumerate(compared):
        wanted = (1, layer.features * (2 if layer.kind == "fire" else 1), 1, 1)
        if form(tensors, f"lin{level}.model.1.weight", 4) != wanted:
            raise ValueError(f"lin{level}.model.1.weight: needs the shape {wanted}")
    return converted(table, tensors, {k for k in tensors if k.startswith("classifier.")})
