"""Targets of compilation: devices that this machine need not have, by name and topology."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from diffjax.config import ConfigError

SQUARE = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBE = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")
TPUS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "v4": (CUBE, int(30.75 * 2**30)),
    "v5e": (SQUARE, int(15.75 * 2**30)),
    "v5p": (CUBE, int(95.74 * 2**30)),
    "v6e": (SQUARE, int(31.25 * 2**30)),
}
"""The topologies of each TPU, and the bytes of memory per chip that its compiler allots."""
GPUS: Mapping[str, tuple[str, int, float, int, int, float, int, int]] = {
    "a100": ("NVIDIA A100-SXM4-80GB", 8, 2039.04, 108, 64, 1.41, 85_100_068_864, 40),
    "h100": ("NVIDIA H100 80GB HBM3", 9, 3352.32, 132, 128, 1.98, 84_942_979_072, 50),
    "h200": ("NVIDIA H200 141GB HBM3e", 9, 4800.0, 132, 128, 1.98, 151_397_597_184, 50),
    "b200": ("NVIDIA B200", 10, 7672.32, 148, 128, 1.965, 191_514_411_008, 126),
}
"""GPUs as their drivers describe them: name, compute capability, GB/s of memory, multiprocessors,
arithmetic units in each, clock in GHz, bytes of memory, MiB of level-2 cache (the descriptions in
`xla/backends/gpu/target_config/specs` of OpenXLA)."""
NAMES = {
    **{"v4": "TPU v4", "v5e": "TPU v5 lite", "v5p": "TPU v5", "v6e": "TPU v6 lite"},
    **{kind: facts[0] for kind, facts in GPUS.items()},
}
HOST = 8
"""Number of GPUs in one machine."""
MOST_CPUS = 64
PLATFORMS = ("tpu", "gpu", "cpu")
CUDA = "nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-crt nvidia-cuda-runtime nvidia-cudnn-cu13"
"""Wheels of NVIDIA's assembler, its libraries, and cuDNN, whose version the lowering of attention
asks for."""


@dataclass(frozen=True)
class Target:
    """A number of devices of one kind, for which programs are compiled.

    platform: tpu, gpu or cpu. kind: an entry of `TPUS` or `GPUS`, "cpu" otherwise. topology: the
    sides of a TPU slice, such as `4x4`, or the number of devices. memory: bytes of one device that
    a program may use, None on CPU.

    >>> str(target("tpu:v5e:4x4")), target("gpu:h100:8").size, target("cpu:2").memory
    ('tpu:v5e:4x4', 8, None)
    """

    platform: str
    kind: str
    topology: str
    memory: int | None

    def __str__(self) -> str:
        parts = (self.platform, self.kind, self.topology)
        return ":".join(parts[:1] + parts[2:] if self.kind == "cpu" else parts)

    @property
    def name(self) -> str:
        """The name of a device, as JAX states it for the real one."""
        return {**NAMES, "cpu": "cpu"}[self.kind]

    @property
    def size(self) -> int:
        """The number of devices."""
        return math.prod(map(int, self.topology.split("x")))

    @property
    def options(self) -> dict[str, Any]:
        """The options of the compiler: without a GPU, its kernels cannot be timed and chosen."""
        return {"xla_gpu_autotune_level": "0"} if self.platform == "gpu" else {}

    def devices(self) -> list[Any]:
        """Return the devices, which can compile programs but, on TPU and GPU, not run them.

        Raises ConfigError where the compiler of the platform is not installed, and where this
        process has too few CPU devices.
        """
        return {"tpu": _tpus, "gpu": _gpus, "cpu": _cpus}[self.platform](self)


def target(text: str, flag: str = "--target") -> Target:
    """Parse a target: `tpu:KIND:TOPOLOGY`, `gpu:KIND:NUMBER` or `cpu:NUMBER`.

    Raises ConfigError, with the allowed values, for one that does not exist.

    >>> target("tpu:v5e:3x3")
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: --target=tpu:v5e:3x3: unknown topology '3x3'; known: 1x1, ...
    """
    platform, *parts = text.split(":")

    def choice(what: str, value: str, known: Any) -> str:
        if value not in known:
            raise ConfigError(f"{flag}={text}: unknown {what} {value!r}; known: {', '.join(known)}")
        return value

    choice("platform", platform, PLATFORMS)
    if platform == "cpu":
        kind, (number,) = "cpu", parts if len(parts) == 1 else ("",)
        counts, memory = range(1, MOST_CPUS + 1), None
    else:
        kinds: Mapping[str, Any] = TPUS if platform == "tpu" else GPUS
        kind = choice("kind", parts[0] if parts else "", kinds)
        number = parts[1] if len(parts) == 2 else ""
        if platform == "tpu":
            topologies, memory = TPUS[kind]
            return Target(platform, kind, choice("topology", number, topologies), memory)
        counts, memory = [1, 2, 4, *range(HOST, 1025, HOST)], GPUS[kind][6]
    if not number.isdecimal() or int(number) not in counts:
        allowed = f"1 to {MOST_CPUS}" if platform == "cpu" else f"1, 2, 4 or a multiple of {HOST}"
        raise ConfigError(f"{flag}={text}: needs a number of devices; allowed: {allowed}")
    return Target(platform, kind, str(int(number)), memory)


def prepare(number_of_cpus: int = 0) -> None:
    """Keep JAX on the CPU, and tell its compilers for other devices not to look for them.

    It should be called before JAX looks for devices: afterwards their number stays as it is, which
    `Target.devices` checks. number_of_cpus: the number of CPU devices that the process needs; 0 for
    the default number.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # the metadata server of a TPU machine
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip is shared
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    jax.config.update("jax_platforms", "cpu")
    if number_of_cpus:
        with contextlib.suppress(RuntimeError):  # JAX has looked for them
            jax.config.update("jax_num_cpu_devices", number_of_cpus)


def missing(platform: str) -> str:
    """Return a line that says how to install the compiler of a platform, "" if it is there."""
    there = lambda name: importlib.util.find_spec(name) is not None
    if platform == "tpu" and not there("libtpu"):
        return f'the TPU compiler is not installed: pip install "jax[tpu]=={jax.__version__}"'
    plugin = any(map(there, ("jax_cuda13_plugin", "jax_cuda12_plugin")))
    if platform == "gpu" and not (plugin and _assembler()):
        wheels = " ".join(f"jax-cuda13-{part}=={jax.__version__}" for part in ("plugin", "pjrt"))
        return f"the GPU compiler is not installed: pip install --no-deps {wheels} {CUDA}"
    return ""


def _assembler() -> bool:
    """Return whether NVIDIA's assembler is installed, from a wheel or with CUDA."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else None
    wheels = any(any(Path(f).glob("*/bin/ptxas")) for f in folders or ())
    return wheels or shutil.which("ptxas") is not None


def _tpus(target: Target) -> list[Any]:
    """Return the chips of a TPU slice; each is one device, on v4 with both cores together."""
    settings: dict[str, Any] = {}
    if target.kind == "v4":
        settings["chip_config_name"] = "megacore"
    if target.size == 1:
        settings["chips_per_host_bounds"] = (1, 1, 1)
    return _compile_only(target, "tpu", f"{target.kind}:{target.topology}", settings)


def _gpus(target: Target) -> list[Any]:
    """Return the GPUs of one machine, or of several of `HOST` GPUs each."""
    hosts, of_each = max(1, target.size // HOST), min(target.size, HOST)
    settings = {"target_config": description(target.kind), "topology": f"1x{hosts}x{of_each}"}
    return _compile_only(target, "cuda", "", settings)


def _compile_only(target: Target, platform: str, name: str, settings: dict[str, Any]) -> list[Any]:
    from jax.experimental import topologies

    if line := missing(target.platform):
        raise ConfigError(f"--target={target}: {line}")
    try:
        topology = topologies.get_topology_desc(name, platform, **settings)
    except (RuntimeError, NotImplementedError) as error:
        raise ConfigError(f"--target={target}: the compiler refuses it: {error}") from error
    return topology.devices


def _cpus(target: Target) -> list[Any]:
    devices = jax.devices("cpu")
    if len(devices) < target.size:
        raise ConfigError(
            f"--target={target}: this process has {len(devices)} CPU device(s), and JAX has looked "
            f"for them already; set JAX_NUM_CPU_DEVICES={target.size}"
        )
    return devices[: target.size]


def description(kind: str) -> str:
    """Return the description of a GPU for XLA, a text of the message `GpuTargetConfigProto`."""
    name, capability, bandwidth, cores, units, clock, memory, cache = GPUS[kind]
    shared = 228 if capability > 8 else 164
    values = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 48 * 1024,
        "shared_memory_per_core": shared * 1024,
        "shared_memory_per_block_optin": (shared - 1) * 1024,
        "threads_per_core_limit": 2048,
        "core_count": cores,
        "fpus_per_core": units,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 2**16 - 1,
        "block_dim_limit_z": 2**16 - 1,
        "memory_bandwidth": int(bandwidth * 1e9),
        "l2_cache_size": cache * 2**20,
        "clock_rate_ghz": clock,
        "device_memory_size": memory,
        "registers_per_core_limit": 2**16,
        "registers_per_block_limit": 2**16,
    }
    lines = "\n".join(f"  {field}: {value}" for field, value in values.items())
    return (
        f"gpu_device_info {{\n  cuda_compute_capability {{ major: {capability} }}\n{lines}\n}}\n"
        f'platform_name: "CUDA"\ndnn_version_info {{ major: 9 minor: 10 }}\n'
        f'device_description_str: "{name}"\n'
    )
