"""Settings of JAX, XLA and the host for the process of a command."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def set_up_jax() -> None:
    """Tune JAX for a dedicated process; call this before JAX looks for devices."""
    spare_threads()
    keep_memory()
    use_compile_cache()


def spare_threads() -> None:
    """Give XLA two threads per CPU device, where there are several devices.

    By default XLA has one thread per core. On cores shared with other work, collectives of as many
    devices were seen to wait for each other until XLA aborted the process. One spare thread did not
    prevent this; one spare thread per device did.
    """
    devices = os.environ.get("JAX_NUM_CPU_DEVICES", "")
    if devices.isdecimal() and int(devices) > 1:
        os.environ.setdefault("NPROC", str(max(os.cpu_count() or 1, 2 * int(devices))))


def keep_memory() -> None:
    """Let glibc keep freed memory for the next step, where all devices are CPUs.

    XLA allocates the memory of a step anew each time. glibc returns large blocks to the system at
    once, and its per-thread arenas cannot keep them at all, so each step would touch new pages.
    This takes up to a quarter of the time of the train step of DiT-B/4 (`experiments/benchmarks`).
    With this setting the memory of the process never shrinks. Settings of the user (MALLOC_...,
    GLIBC_TUNABLES) take precedence.
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
    """Cache compiled programs between runs, in JAX_COMPILATION_CACHE_DIR or the user's cache."""
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "diffjax" / "xla"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
