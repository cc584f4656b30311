"""IP-Adapters: tokens of an image that each cross-attention attends to beside those of the text.

Source: arXiv:2308.06721.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import Params
from diffjax.io.trees import flat
from diffjax.nets.control import Control
from diffjax.nets.layers import Dense
from diffjax.nets.network import Network
from diffjax.nets.residuals import Residuals

PLACES = r"Transformer_(\d+)/cross_(\d+)/q/kernel|CrossAttention_(\d+)/q/kernel"
"""The queries of a U-Net's cross-attentions, with their numbers in the forward pass."""


def queries(params: Params) -> list[int]:
    """Return the widths of the cross-attentions of a U-Net, in the order of its forward pass.

    >>> kernel = {"kernel": jnp.ones((8, 8))}
    >>> queries({"Transformer_0": {"cross_0": {"q": kernel}, "self_0": {"q": kernel}}})
    [8]
    """
    found = {}
    for path, kernel in flat(params).items():
        if place := re.fullmatch(PLACES, path):
            found[tuple(int(n) for n in place.groups() if n)] = kernel.shape[-1]
    return [found[place] for place in sorted(found)]


class Projected(nn.Module):
    """Tokens (B, M, width) of the embedding (B, size) of an image: a layer and a norm."""

    tokens: int
    width: int

    @nn.compact
    def __call__(self, value: Float[Array, "b n"]) -> Float[Array, "b m w"]:
        tokens = nn.Dense(self.tokens * self.width, name="proj")(value)
        norm = nn.LayerNorm(epsilon=1e-5, name="norm")
        return norm(tokens.reshape(len(value), self.tokens, self.width))


class Pair(nn.Module):
    """Keys and values (B, M, C) of tokens."""

    width: int

    @nn.compact
    def __call__(self, tokens: Float[Array, "b m w"]) -> tuple[Array, Array]:
        layer = lambda name: Dense(self.width, use_bias=False, name=name)(tokens)
        return layer("k"), layer("v")


@dataclass(frozen=True)
class ImagePrompt(Control):
    """An IP-Adapter: the embedding of an image becomes tokens with keys and values of their own.

    Each cross-attention of the base adds the attention to these, times the scale. tokens: how many
    there are. width: their width. See `Control` for the other settings.

    >>> ImagePrompt("image", size=1024).spec
    Spec(name='image', kind='vector', size=1024)
    """

    tokens: int = 4
    width: int = 768

    def __post_init__(self):
        super().__post_init__()
        checks.at_least(1, tokens=self.tokens, width=self.width)

    @property
    def kind(self) -> str:
        return "vector"

    def init(self, key: Key[Array, ""], base: Network, params: Params, inputs: Any) -> Params:
        if base.encoder is None or not (widths := queries(params)):
            raise ValueError(f"{base}: has no cross-attention to tokens; allowed: unet with them")
        keys = jax.random.split(key, len(widths) + 1)
        tokens = jnp.zeros((1, self.tokens, self.width))
        project = Projected(self.tokens, self.width).init(keys[0], jnp.zeros((1, self.size)))
        pairs = zip(keys[1:], widths, strict=True)
        of_place = {str(i): Pair(w).init(k, tokens)["params"] for i, (k, w) in enumerate(pairs)}
        return {"image": project["params"], "attention": of_place}

    def residuals(
        self, params: Params, base: Network, of_base: Params, value: Array, inputs: Any, key: Any
    ) -> Residuals:
        project = Projected(self.tokens, self.width)
        tokens: Any = project.apply({"params": params["image"]}, value)
        places, context = params["attention"], []
        for i in range(len(places)):
            own = places[str(i)]
            pair: Any = Pair(own["k"]["kernel"].shape[-1]).apply({"params": own}, tokens)
            context.append((pair,))
        return Residuals(context=tuple(context))
