"""Published weights: what conversion takes, and sampling speed beside diffusers.

    python experiments/benchmarks/convert.py --torch=/path/to/python

Conversion of a DiT with drawn weights (XL/2, 675 M parameters, 2.7 GB) by the command, in a process
of its own: seconds and most memory. Then a `UNet2DModel` of the shape of google/ddpm-cifar10-32,
saved by diffusers and converted: seconds per image of DDIM, both sides in turn in each round,
ratios are medians over rounds; compile time apart. Both have `--threads` cores. --small: a
trial of minutes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

import diffjax
from diffjax.generation.program import Generation
from diffjax.nets.positions import sincos

HERE = Path(__file__).parent
CIFAR = {
    "sample_size": 32,
    "block_out_channels": [128, 256, 256, 256],
    "attention_head_dim": None,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "layers_per_block": 2,
    "norm_eps": 1e-6,
}
SMALL = {**CIFAR, "sample_size": 16, "block_out_channels": [32, 64, 64, 64], "norm_num_groups": 8}


def transformer(path: Path, width: int, depth: int) -> int:
    """A DiT/2 for 1,000 classes with drawn weights; its number of parameters."""
    shapes: dict[str, tuple[int, ...]] = {
        "x_embedder.proj": (width, 4, 2, 2),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
        "final_layer.linear": (32, width),
    }
    for i in range(depth):
        shapes |= {
            f"blocks.{i}.adaLN_modulation.1": (6 * width, width),
            f"blocks.{i}.attn.qkv": (3 * width, width),
            f"blocks.{i}.attn.proj": (width, width),
            f"blocks.{i}.mlp.fc1": (4 * width, width),
            f"blocks.{i}.mlp.fc2": (width, 4 * width),
        }
    rng = np.random.default_rng(0)
    tensors = {f"{k}.weight": rng.standard_normal(s, np.float32) for k, s in shapes.items()}
    tensors |= {f"{k}.bias": rng.standard_normal(s[0], np.float32) for k, s in shapes.items()}
    tensors["y_embedder.embedding_table.weight"] = rng.standard_normal((1001, width), np.float32)
    count = sum(a.size for a in tensors.values())
    tensors["pos_embed"] = np.asarray(sincos((16, 16), width))[None]
    save_file(tensors, path)
    return count


def convert(source: Path, out: Path, *flags: str) -> tuple[float, float]:
    """Seconds of the command, and its most memory in GiB."""
    began = time.monotonic()
    command = [sys.executable, "-m", "diffjax.tools.convert", str(source), f"--out={out}", *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{command} failed"
    return time.monotonic() - began, usage.ru_maxrss / 2**20


TORCH = """
import json, sys, time
sys.modules["torchvision"] = None
import torch
from diffusers import DDIMScheduler, DDIMPipeline, UNet2DModel
folder, threads, steps, settings = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(threads)
torch.manual_seed(0)
model = UNet2DModel(**json.loads(settings)).eval()
for p in model.parameters():
    torch.nn.init.normal_(p, std=0.02)
scheduler = DDIMScheduler(clip_sample=False)
DDIMPipeline(model, scheduler).save_pretrained(folder)
scheduler.set_timesteps(steps)
size = model.config.sample_size
@torch.inference_mode()
def sample(batch):
    x = torch.randn(batch, 3, size, size)
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t).sample, t, x).prev_sample
print("ready", flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    sample(int(line))
    print(time.perf_counter() - began, flush=True)
"""


def compare(python: str, settings: dict[str, Any], threads: int, steps: int, rounds: int) -> None:
    """Seconds per image at batch 1 and 16."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-c", TORCH, folder, str(threads), str(steps), json.dumps(settings)]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        torch = subprocess.Popen(command, env={**os.environ, "OMP_WAIT_POLICY": "passive"}, **pipes)
        assert torch.stdin and torch.stdout
        while (line := torch.stdout.readline()) != "ready\n":
            assert line, "torch stopped"
        trained = diffjax.load(folder, {"steps": steps})
        plan, shape = trained.experiment.plan(trained.sde), trained.experiment.shape
        for batch in (1, 16):
            ours = Generation(trained.denoise, plan, 0, batch, shape, batch_size=batch)
            seconds = []
            for _ in range(rounds + 1):  # the first warms both up
                began = time.perf_counter()
                list(ours)
                mine = time.perf_counter() - began
                print(batch, file=torch.stdin, flush=True)
                seconds.append((mine, float(torch.stdout.readline())))
            mine, theirs = (statistics.median(s) for s in zip(*seconds[1:], strict=True))
            ratio = statistics.median(b / a for a, b in seconds[1:])
            print(
                f"batch {batch}, {steps} DDIM steps: {mine / batch:.3f} s per image, diffusers "
                f"{theirs / batch:.3f}: {ratio:.2f} times as fast "
                f"(compiled in {ours.compile_seconds:.1f} s)",
                flush=True,
            )
        torch.stdin.close()
        torch.wait()


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--torch", default="", help="python with torch and diffusers")
    flags.add_argument("--threads", type=int, default=2)
    flags.add_argument("--steps", type=int, default=50)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--small", action="store_true", help="small networks")
    given = flags.parse_args()
    if given.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    print(f"jax {jax.__version__}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "dit.safetensors"
        count = transformer(source, *((384, 2) if given.small else (1152, 28)))
        told = ["--set", "heads=6"] if given.small else []
        seconds, most = convert(source, Path(folder) / "out", "--family=dit", *told)
    print(f"DiT, {count / 1e6:.0f} M parameters: converted in {seconds:.1f} s, {most:.2f} GiB")
    if not given.torch:
        print("diffusers is left out: --torch says which python has it")
        return
    compare(given.torch, SMALL if given.small else CIFAR, given.threads, given.steps, given.rounds)


if __name__ == "__main__":
    main()
