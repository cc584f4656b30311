"""Settings of JAX, XLA and the host in the process of a command."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def set_up_jax() -> None:
    """What makes JAX fast in a process of its own; before it looks for devices."""
    spare_threads()
    keep_memory()
    use_compile_cache()


def spare_threads() -> None:
    """Give XLA two threads per CPU device, where there are several.

    It has one per core. On cores that do other work as well, collectives of as many devices were
    seen to wait for each other until XLA ended the process; so they were with one spare thread, and
    not with one per device.
    """
    devices = os.environ.get("JAX_NUM_CPU_DEVICES", "")
    if devices.isdecimal() and int(devices) > 1:
        os.environ.setdefault("NPROC", str(max(os.cpu_count() or 1, 2 * int(devices))))


def keep_memory() -> None:
    """Let glibc keep freed memory for the next step, where all devices are CPUs.

    XLA asks for the memory of a step anew each time, glibc hands large pieces back to the system at
    once, and its threads cannot keep them at all: so each step would touch new pages, which takes
    the train step of DiT-B/4 up to a quarter of its time (`experiments/benchmarks`). A process does
    not shrink any more. Settings of the user (MALLOC_..., GLIBC_TUNABLES) are left as they are.
    """
    import ctypes
    import importlib.util

    plugins = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    user_set = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt and not user_set and (os.environ.get("JAX_PLATFORMS") == "cpu" or not plugins):
        trim_threshold, mmap_max, arena_max = -1, -4, -8  # names of malloc.h
        mallopt(arena_max, 1)
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


def use_compile_cache() -> None:
    """Keep compiled programs between runs, in JAX_COMPILATION_CACHE_DIR or the user's cache."""
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "diffjax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
