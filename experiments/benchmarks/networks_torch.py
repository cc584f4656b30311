"""The torch side of `networks.py`: it runs in another environment and answers over a pipe.

Needs torch, and diffusers for the U-Net. Each line of input asks for one measurement, see `serve`.
"""

import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from memory import high_water
from torch import nn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def unet(channels: int, size: int) -> nn.Module:
    """diffusers' U-Net as it is configured for DDPM's CIFAR-10."""
    sys.modules.setdefault("torchvision", None)  # not needed, and refused where it does not fit
    from diffusers import UNet2DModel

    plain, attends = ("DownBlock2D", "UpBlock2D"), ("AttnDownBlock2D", "AttnUpBlock2D")
    levels = [attends if size // 2**i == 16 else plain for i in range(4)]
    return UNet2DModel(
        sample_size=size,
        layers_per_block=2,
        block_out_channels=[channels * m for m in (1, 2, 2, 2)],
        down_block_types=[down for down, _ in levels],
        up_block_types=[up for _, up in reversed(levels)],
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )


def modulated(x, shift, scale):
    """Layer norm, then the scale and shift of each sample."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, c):
        parts = self.modulation(c)[:, None].chunk(6, -1)
        qkv = self.qkv(modulated(x, parts[0], parts[1]))
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        made = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = torch.addcmul(x, parts[2], self.out(made))
        h = F.gelu(self.mlp_in(modulated(x, parts[3], parts[4])), approximate="tanh")
        return torch.addcmul(x, parts[5], self.mlp_out(h))


class DiT(nn.Module):
    """A diffusion transformer (arXiv:2212.09748) with torch's fused attention."""

    def __init__(self, width: int, depth: int, heads: int, patch: int, shape: list[int]):
        super().__init__()
        height, _, channels = shape
        self.patch, tokens = patch, (height // patch) ** 2
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.register_buffer("positions", torch.randn(1, tokens, width))
        self.noise = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, channels * patch**2)

    def forward(self, x, t):
        frequency = torch.exp(-math.log(1e4) / 128 * torch.arange(128, device=x.device))
        angle = t[:, None] * frequency
        c = F.silu(self.noise(torch.cat([angle.cos(), angle.sin()], -1)))
        h = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            h = block(h, c)
        h = self.last(modulated(h, *self.modulation(c)[:, None].chunk(2, -1)))
        n, p = x.shape[-1] // self.patch, self.patch
        h = h.unflatten(1, (n, n)).unflatten(-1, (p, p, -1))
        return h.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)


class Side:
    """One network, in every form that is measured; `run(what)` does it once."""

    def __init__(self, case: dict, dtype: str, compiled: bool, steps: int):
        height, _, channels = case["shape"]
        if case["kind"] == "unet":
            inner = unet(case["settings"]["channels"], height)
            self.call = lambda x, t: self.net(x, t, return_dict=False)[0]
        else:
            inner = DiT(**case["settings"], shape=case["shape"])
            self.call = lambda x, t: self.net(x, t)
        form = torch.channels_last if case["kind"] == "unet" else torch.contiguous_format
        inner = inner.to(DEVICE, memory_format=form)
        self.net = torch.compile(inner) if compiled else inner
        self.adamw = torch.optim.AdamW(inner.parameters(), lr=1e-4, fused=True)
        self.amp = torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == "bfloat16")
        draw = lambda n: torch.randn(n, channels, height, height, device=DEVICE)
        made = [draw(n).contiguous(memory_format=form) for n in (case["batch"], case["samples"])]
        self.x, self.start = made
        self.t, self.steps = torch.rand(case["batch"], device=DEVICE) * 999, steps

    def run(self, what: str) -> list[float]:
        """Seconds, and seconds of all cores together."""
        self._wait()
        began, busy = time.perf_counter(), time.process_time()
        getattr(self, what)()
        self._wait()
        return [time.perf_counter() - began, time.process_time() - busy]

    def _wait(self) -> None:
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    @torch.no_grad()
    def forward(self):
        with self.amp:
            return self.call(self.x, self.t)

    def train(self):
        self.adamw.zero_grad(set_to_none=True)
        with self.amp:
            loss = ((self.call(self.x, self.t).float() - self.x) ** 2).mean()
        loss.backward()
        self.adamw.step()

    def first(self):
        """One step of `sample`, whose batch torch.compile compiles for at its first call."""
        self.sample(1)

    @torch.no_grad()
    def sample(self, steps: int = 0):
        """DDIM from noise predictions (arXiv:2010.02502, eq. 12), the cosine schedule."""
        x, times = self.start, torch.linspace(0.99, 0.01, self.steps + 1, device=DEVICE)
        alphas, sigmas = torch.cos(math.pi / 2 * times), torch.sin(math.pi / 2 * times)
        for i in range(steps or self.steps):
            with self.amp:
                eps = self.call(x, (999 * times[i]).expand(len(x))).float()
            x0 = (x - sigmas[i] * eps) / alphas[i]
            x = alphas[i + 1] * x0 + sigmas[i + 1] * eps
        return x


def serve(threads: int) -> None:
    """Answer each line of JSON by one: `open`, `run` or `peak`, with its settings."""
    if threads:
        torch.set_num_threads(threads)
    side = None
    for line in sys.stdin:
        name, settings = json.loads(line)
        answer = None
        if name == "open":
            side = Side(**settings)
        elif name == "run":
            answer = side.run(**settings)
        elif DEVICE == "cuda":
            answer = torch.cuda.max_memory_allocated() / 2**20
        elif name == "peak":
            answer = high_water()
        print("answer", json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
