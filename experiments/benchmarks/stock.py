"""The networks of `networks.py` as stock Flax layers make them: what the care in `nets/` is worth.

`nn.Conv`, `nn.GroupNorm`, `nn.LayerNorm`, `nn.Dense` and `nn.dot_product_attention`, blocks in a
Python loop; the same shapes and parameter counts as diffjax's and torch's.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn


def noise_features(c_noise, width):
    """Cosines and sines at `width // 2` frequencies."""
    frequency = jnp.exp(-math.log(1e4) * jnp.arange(width // 2) / (width // 2))
    angle = c_noise[:, None] * frequency[None]
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1)


def attention(x, heads):
    """Self-attention of tokens (B, L, C) before its last layer."""
    qkv = nn.Dense(3 * x.shape[-1])(x).reshape(*x.shape[:2], 3, heads, -1)
    made = nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
    return made.reshape(x.shape)


class Residual(nn.Module):
    """DDPM's block: norm, silu, convolution, + embedding, norm, silu, convolution, + input."""

    channels: int

    @nn.compact
    def __call__(self, x, emb):
        h = nn.Conv(self.channels, (3, 3))(nn.silu(nn.GroupNorm(32)(x)))
        h = h + nn.Dense(self.channels)(nn.silu(emb))[:, None, None]
        h = nn.Conv(self.channels, (3, 3))(nn.silu(nn.GroupNorm(32)(h)))
        return h + (x if x.shape == h.shape else nn.Dense(self.channels)(x))


class Attend(nn.Module):
    """Group norm, self-attention of one head, + input."""

    @nn.compact
    def __call__(self, x):
        h = nn.GroupNorm(32)(x).reshape(len(x), -1, x.shape[-1])
        return x + nn.Dense(x.shape[-1])(attention(h, 1)).reshape(x.shape)


class UNet(nn.Module):
    """DDPM's U-Net for CIFAR-10 (arXiv:2006.11239)."""

    channels: int

    @nn.compact
    def __call__(self, x, c_noise, cond=None, train=False):
        emb = nn.Dense(4 * self.channels)(noise_features(c_noise, self.channels))
        emb = nn.Dense(4 * self.channels)(nn.silu(emb)).astype(x.dtype)
        out, widths = x.shape[-1], [self.channels * m for m in (1, 2, 2, 2)]

        def stage(x, width):
            x = Residual(width)(x, emb)
            return Attend()(x) if x.shape[1] == 16 else x

        x = nn.Conv(self.channels, (3, 3))(x)
        skips = [x]
        for level, width in enumerate(widths):
            if level:
                x = nn.Conv(x.shape[-1], (3, 3), 2)(x)
                skips.append(x)
            for _ in range(2):
                x = stage(x, width)
                skips.append(x)
        x = Residual(widths[-1])(Attend()(Residual(widths[-1])(x, emb)), emb)
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(3):
                x = stage(jnp.concatenate([x, skips.pop()], -1), width)
            if level:
                b, h, w, c = x.shape
                x = nn.Conv(c, (3, 3))(jax.image.resize(x, (b, 2 * h, 2 * w, c), "nearest"))
        return nn.Conv(out, (3, 3))(nn.silu(nn.GroupNorm(32)(x)))


class Block(nn.Module):
    """Attention and MLP, scaled, shifted and gated by c."""

    heads: int

    @nn.compact
    def __call__(self, x, c):
        width = x.shape[-1]
        parts = jnp.split(nn.Dense(6 * width)(c)[:, None], 6, -1)
        norm = lambda: nn.LayerNorm(epsilon=1e-6, use_bias=False, use_scale=False)
        h = attention(norm()(x) * (1 + parts[1]) + parts[0], self.heads)
        x = x + parts[2] * nn.Dense(width)(h)
        h = nn.gelu(nn.Dense(4 * width)(norm()(x) * (1 + parts[4]) + parts[3]))
        return x + parts[5] * nn.Dense(width)(h)


class DiT(nn.Module):
    """A diffusion transformer (arXiv:2212.09748)."""

    width: int
    depth: int
    heads: int
    patch: int

    @nn.compact
    def __call__(self, x, c_noise, cond=None, train=False):
        b, height, _, channels = x.shape
        p, n = self.patch, height // self.patch
        c = nn.silu(nn.Dense(self.width)(noise_features(c_noise, 256)))
        c = nn.silu(nn.Dense(self.width)(c)).astype(x.dtype)
        h = nn.Conv(self.width, (p, p), p)(x).reshape(b, -1, self.width)
        h = h + jnp.zeros_like(h[:1])  # positions: a constant like any other
        for _ in range(self.depth):
            h = Block(self.heads)(h, c)
        shift, scale = jnp.split(nn.Dense(2 * self.width)(c)[:, None], 2, -1)
        h = nn.LayerNorm(epsilon=1e-6, use_bias=False, use_scale=False)(h) * (1 + scale) + shift
        h = nn.Dense(p * p * channels)(h).reshape(b, n, n, p, p, channels)
        return h.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape)
