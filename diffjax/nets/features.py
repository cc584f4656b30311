"""T2I-Adapters: a small network of a map alone, whose features join those of a U-Net's encoder.

Source: arXiv:2302.08453. The published ones are those of Stable Diffusion 1.5 and XL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import Params
from diffjax.nets.control import Control
from diffjax.nets.layers import Dense
from diffjax.nets.network import Network
from diffjax.nets.resample import downsample
from diffjax.nets.residuals import Residuals
from diffjax.nets.unet import fold

FORMS = ("full", "light", "xl")
Grid = Float[Array, "b *d _"]


def conv(x: Grid, width: int, name: str) -> Grid:
    """Convolve x with side 3; it is called inside a module."""
    return nn.Conv(width, (3,) * (x.ndim - 2), padding=1, name=name)(x)


class Features(nn.Module):
    """Features of a map (B, *D, C) at each level, each after the first at half the sides.

    widths: channels of the levels. blocks: residual blocks of a level. form: `full`; `light`, whose
    levels are a quarter as wide inside; or `xl`, in which only the third level halves the sides.
    """

    widths: tuple[int, ...]
    blocks: int
    form: str

    @nn.compact
    def __call__(self, x: Grid) -> tuple[Grid, ...]:
        if self.form != "light":
            x = conv(x, self.widths[0], "conv_in")
        found = []
        for level, width in enumerate(self.widths):
            if level == 2 if self.form == "xl" else level:
                x = downsample(x)
            inner = width // 4 if self.form == "light" else width
            if x.shape[-1] != inner or self.form == "light":
                x = Dense(inner, name=f"in_{level}")(x)
            for i in range(self.blocks):
                h = nn.relu(conv(x, inner, f"first_{level}_{i}"))
                if self.form == "light":
                    x = x + conv(h, inner, f"second_{level}_{i}")
                else:
                    x = x + Dense(inner, name=f"second_{level}_{i}")(h)
            if self.form == "light":
                x = Dense(width, name=f"out_{level}")(x)
            found.append(x)
        return tuple(found)


@dataclass(frozen=True)
class T2I(Control):
    """A T2I-Adapter: features of a map are added to those of the levels of a U-Net.

    widths: the channels of the levels of the base. blocks: residual blocks per level. form: `full`
    or `light`: the features join the output of the last block of each level; `xl`, for U-Nets of
    three levels: the first joins the change of resolution to the second level, the others the
    outputs of the second level, the third, and the middle. See `Control` for the other settings.

    >>> T2I("depth", size=192, widths=(320, 640, 1280, 1280)).spec
    Spec(name='depth', kind='map', size=192)
    """

    widths: tuple[int, ...] = (64, 128, 128)
    blocks: int = 2
    form: str = "full"

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "widths", tuple(self.widths))
        checks.at_least(1, blocks=self.blocks)
        checks.one_of(FORMS, form=self.form)
        wrong = self.form == "xl" and len(self.widths) != 4
        if wrong or not self.widths or min(self.widths) < 4:
            raise ValueError(f"widths={self.widths}: needs widths >= 4, and four of them for xl")

    @property
    def kind(self) -> str:
        return "map"

    @property
    def module(self) -> Features:
        """The module of the features."""
        return Features(self.widths, self.blocks, self.form)

    def init(self, key: Key[Array, ""], base: Network, params: Params, inputs: Any) -> Params:
        if base.encoder is None:
            raise ValueError(f"{base}: has no encoder whose features could be added to")
        value = jnp.zeros(self.shape(inputs[0].shape))
        return cast(Params, self.module.init(key, self._read(value))["params"])

    def _read(self, value: Grid) -> Grid:
        return fold(value, 2) if self.form == "xl" else value

    def residuals(
        self, params: Params, base: Network, of_base: Params, value: Array, inputs: Any, key: Any
    ) -> Residuals:
        features = cast(Any, self.module.apply({"params": params}, self._read(value)))
        if self.form != "xl":
            return Residuals(levels=features)
        moved, second, third, middle = features
        return Residuals(moved=(None, moved), levels=(None, second, third), middle=middle)
