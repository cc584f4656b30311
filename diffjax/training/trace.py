"""A profile of some steps: python -m diffjax.train ... --profile, or --profile=FROM:TO"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

LATER, LENGTH = 3, 3
"""Default number of calls before and in a trace; the first calls are not typical."""
SOON = (0, 0)


@contextmanager
def traced(
    run: Callable[..., Any], folder: Path, start: int, stride: int, steps: tuple[int, int] | None
) -> Iterator[Callable[..., Any]]:
    """Yield `run` with a profiler trace of the calls that perform the given steps.

    run: performs `stride` steps per call, beginning at step `start`. folder: the folder of the
    trace; each of several processes has its own subfolder. steps: the first step to trace and the
    one after the last; `SOON` for three calls after the first three, and None for no trace.
    """
    if jax.process_count() > 1:  # a Perfetto trace fails in a folder where other processes write
        folder = folder / f"process_{jax.process_index()}"
    first, last = steps or (0, 0)
    if steps == SOON:
        first, last = start + LATER * stride, start + (LATER + LENGTH) * stride
    done, running = start, False

    def stop() -> None:
        nonlocal running
        if running:
            jax.profiler.stop_trace()
            running = False
            print(f"profile: {folder}", file=sys.stderr)

    def call(*args: Any) -> Any:
        nonlocal done, running
        if not running and done < last and done + stride > first:
            jax.block_until_ready(args)
            jax.profiler.start_trace(folder, create_perfetto_trace=True)
            running = True
        result = run(*args)
        done += stride
        if running and done >= last:
            jax.block_until_ready(result)
            stop()
        return result

    try:
        yield call
    finally:
        stop()
