"""Runs over several processes, one per host or per device: their connection and shared signals."""

from __future__ import annotations

import signal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from diffjax.config import ConfigError
from diffjax.devices.mesh import Layout


def join(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    """Connect to the other processes of the run, before JAX looks for devices.

    coordinator: HOST:PORT on which process 0 listens. processes: the number of processes.
    process_id: the index of this process. Without arguments the processes are detected on SLURM,
    GKE and TPU pods; elsewhere, and with processes=1, the process is alone. Raises ConfigError for
    arguments that are incomplete or out of range.

    >>> join("localhost:1234", 2, 2)
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: --process_id=2: ...
    """
    cluster = (coordinator, processes, process_id)
    if processes == 1:
        return
    if any(a is not None for a in cluster):
        if coordinator is None or processes is None or process_id is None:
            raise ConfigError("--coordinator, --processes, --process_id: must be set together")
        if not 0 <= process_id < processes:
            raise ConfigError(f"--process_id={process_id}: needs 0 <= process_id < {processes}")
        if not coordinator.rpartition(":")[2].isdecimal():
            raise ConfigError(f"--coordinator={coordinator}: needs HOST:PORT")
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    try:
        jax.distributed.initialize(*cluster)
    except (ValueError, RuntimeError) as error:
        running = "must be called before" in str(error)  # JAX has started: in a notebook or a test
        if any(a is not None for a in cluster) or not (isinstance(error, ValueError) or running):
            raise
        return  # without a cluster, the process is alone
    signal.signal(signal.SIGTERM, before)  # the handler of JAX would record SIGTERM and continue


def first() -> bool:
    """Return True in the process that writes files.

    >>> first()
    True
    """
    return jax.process_index() == 0


class SharedSignal:
    """A signal received by any process, which all processes learn in the same call.

    On several processes it arrives one call late, so that no call waits for the devices.

    >>> from diffjax.devices.mesh import layout
    >>> SharedSignal(layout(jax.devices()[:1]))(signal.SIGTERM).name
    'SIGTERM'
    """

    def __init__(self, layout: Layout):
        self._alone, self._pending = layout.alone, None
        self._split = NamedSharding(layout.mesh, PartitionSpec(layout.mesh.axis_names))
        self._most = jax.jit(jnp.max, out_shardings=layout.everywhere)

    def __call__(self, received: signal.Signals | None) -> signal.Signals | None:
        if self._alone:
            return received
        local = np.full(len(self._split.addressable_devices), received or 0, np.int32)
        everyone = jax.make_array_from_process_local_data(self._split, local)
        before, self._pending = self._pending, self._most(everyone)
        number = 0 if before is None else int(before)
        return signal.Signals(number) if number else None

    def now(self, received: signal.Signals | None) -> signal.Signals | None:
        """Return the same without the delay of one call; this waits for the devices."""
        return self(received) or self(received)
