"""Checkpoints, written by orbax asynchronously and atomically, and verified by checksums."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
import sys
import traceback
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jaxtyping import PyTree
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN
from orbax.checkpoint.future import CommitFutureAwaitingContractedSignals, Future
from orbax.checkpoint.options import AtomicityMode, AtomicityOptions

from diffjax.config import ConfigError
from diffjax.training.checksums import Sums, checksums, total

STATE, SUMS = "state", "checksums"


class Checkpoints:
    """The checkpoints of one run: the newest `keep`, and the one with the lowest loss.

    An interrupted save never counts as a checkpoint: a checkpoint exists once orbax has written its
    commit mark. A reader (`write=False`) may read while a run writes. On several processes, all of
    them make the same calls. root: the folder of the checkpoints.
    """

    def __init__(self, root: Path, keep: int = 2, write: bool = True):
        self._root, self._keep, self._write = root.absolute(), keep, write
        self._quiet = _Quiet()
        self._manager = self._open()
        self._damaged: set[int] = set()
        self._held: PyTree = None
        # A program of this object, so that it is dropped together with the run.
        copy_all = lambda old, new: jax.tree.map(jnp.copy, new)
        self._copied = jax.jit(copy_all, donate_argnums=0, keep_unused=True)
        self._writing = 0

    def _open(self) -> ocp.CheckpointManager:
        # The policy alone forgets the losses once the folder is reopened; best_fn alone deletes
        # the newest checkpoint.
        best = BestN(get_metric_fn=_merit, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=_merit,
            preservation_policy=AnyPreservationPolicy([LatestN(self._keep), best]),
            create=self._write,
            read_only=not self._write,
            cleanup_tmp_directories=self._write,
            atomicity_options=AtomicityOptions(mode=AtomicityMode.COMMIT_FILE),
        )
        handlers = {STATE: ocp.StandardCheckpointHandler(), SUMS: _Sums()}
        return ocp.CheckpointManager(self._root, options=options, item_handlers=handlers)

    def steps(self) -> list[int]:
        """Return the steps with a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """Return the step with the lowest loss among the checkpoints saved with a loss."""
        return self._manager.best_step()

    def save(self, step: int, state: PyTree, loss: float | None = None) -> None:
        """Start writing `state`, and return once it is copied; an existing checkpoint is kept.

        A failure of this save or of an earlier one is a warning of one line, and the next save
        tries again. step: the step of the state. loss: decides which checkpoint is the best.
        """
        self.wait()
        if step in self._damaged:
            self._manager.delete(step)
            self._damaged.remove(step)
        if step in self._manager.all_steps():
            return
        self._writing = step
        held = self._copy(state)
        items = {STATE: ocp.args.StandardSave(held), SUMS: _Save(held)}
        metrics = {"loss": loss} if loss is not None and math.isfinite(loss) else None
        try:
            args = ocp.args.Composite(**items)
            self._manager.save(step, args=args, metrics=metrics, force=True)
        except Exception as error:
            self._failed(error)

    def reserve(self, state: PyTree) -> None:
        """Allocate the memory for copies on CPU and wait for it, since it takes seconds per GB."""
        if not _on_cpu(state):
            return
        held = jax.device_put(state, _shardings(state, "device"), may_alias=False)
        self._held = jax.block_until_ready(self._copied(held, state))

    def _copy(self, state: PyTree) -> PyTree:
        """Copy the state to separate host memory, so that training can continue during the save."""
        if not _on_cpu(state):
            held = jax.device_put(state, _shardings(state, "pinned_host"))
            return jax.tree.map(_parted, held)
        if self._held is None:
            self.reserve(state)
        else:
            self._held = self._copied(self._held, state)
        # New arrays over the same memory: the views that orbax takes are freed together with them.
        return jax.tree.map(_again, self._held)

    def restore(
        self, abstract: PyTree, shardings: PyTree | None = None, at: int | None = None
    ) -> Any | None:
        """Read the newest intact state with the shapes of `abstract`; None without checkpoints.

        A damaged checkpoint is reported, and an older one is read instead. shardings: the placement
        of each leaf, whatever devices it was saved from; one device by default. at: the step of the
        checkpoint, by default the newest. Raises ConfigError if all checkpoints are damaged.
        """
        if shardings is None:
            one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            shardings = jax.tree.map(lambda _: one, abstract)
        target = jax.tree.map(
            lambda a, where: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where),
            abstract,
            shardings,
        )
        for step in reversed(self.steps()) if at is None else [at]:
            state, reason = self._read(step, target)
            if _all(state is not None):
                return state
            self._damaged.add(step)
            logging.warning("checkpoint %d cannot be read (%s): trying an older one", step, reason)
        if self.steps():
            raise ConfigError(f"no checkpoint under {self._root} can be read")
        return None

    def _read(self, step: int, target: PyTree) -> tuple[Any | None, str]:
        """Return the state of a checkpoint and "", or None and the reason of the failure."""
        state, stored, reason = None, {}, "another process cannot read it"
        try:
            args = {STATE: ocp.args.StandardRestore(target), SUMS: _Restore()}
            restored = self._manager.restore(step, args=ocp.args.Composite(**args))
            state, stored = restored[STATE], restored[SUMS]
        except Exception as error:
            reason, self._quiet.failed = _line(error), True
        if not _all(state is not None):
            return None, reason
        sums = checksums(state)
        if not all(a.is_fully_addressable for a in jax.tree.leaves(state)):
            sums = _everywhere(sums)
        if wrong := sorted(path for path in sums if sums[path] != stored.get(path)):
            return None, f"the checksum of {', '.join(wrong[:3])} differs from the saved one"
        return state, ""

    def wait(self) -> None:
        """Block until the last save is on disk or has failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Warn of a failed save and reopen the checkpoints.

        The old manager of orbax would raise the error again, and has lost its list of checkpoints.
        """
        self._quiet.failed = True
        logging.warning(
            "checkpoint %d cannot be written (%s): training continues; the next save tries again",
            self._writing,
            _line(error),
        )
        try:
            self._manager.close()
        except Exception as again:
            logging.debug("closing after a failed save: %s", again)
        self._manager = self._open()

    def close(self) -> None:
        """Wait for the last save, and release the folder and the hooks."""
        self.wait()
        self._manager.close()
        self._quiet.end()


class _Quiet:
    """A filter of log records and hooks that keeps each failure to one line.

    It is active from its creation until `end`, or until the process exits if something has failed.
    When one of the reads or writes of a state fails, orbax leaves the others unfinished. Each of
    them would later call a closed event loop, for which tensorstore prints a traceback, or raise an
    error that asyncio logs. orbax also logs the errors that it raises.
    """

    def __init__(self):
        self.failed = False
        self._shown, sys.unraisablehook = sys.unraisablehook, self._look
        self._filters = {"absl": _not_of_orbax, "asyncio": _not_unfinished}
        for name, wanted in self._filters.items():
            logging.getLogger(name).addFilter(wanted)
        # Never removed: some of these records appear only while Python exits.
        logging.getLogger("asyncio").addFilter(_not_of_a_state)

    def _look(self, ended: Any) -> None:
        if str(ended.exc_value) != "Event loop is closed":
            self._shown(ended)

    def end(self) -> None:
        if sys.unraisablehook == self._look and not self.failed:
            sys.unraisablehook = self._shown
        for name, wanted in self._filters.items():
            logging.getLogger(name).removeFilter(wanted)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in Path(record.pathname).parts


def _not_unfinished(record: logging.LogRecord) -> bool:
    return "exception was never retrieved" not in record.getMessage()


def _not_of_a_state(record: logging.LogRecord) -> bool:
    """Return False for a log record of a read or a write of orbax that was never awaited."""
    if _not_unfinished(record):
        return True
    error = record.exc_info[1] if record.exc_info else None
    said = record.getMessage() + "".join(traceback.format_exception(error))
    return not re.search("orbax|ocdbt", said, re.IGNORECASE)


def _merit(metrics: dict[str, float]) -> float:
    return -metrics["loss"]


def _line(error: BaseException) -> str:
    while error.__cause__:
        error = error.__cause__
    return str(error).strip().split("\n")[0].split(" [tensorstore_spec")[0]


def _on_cpu(state: PyTree) -> bool:
    return all(d.platform == "cpu" for d in jax.tree.leaves(state)[0].devices())


def _shardings(state: PyTree, memory: str) -> PyTree:
    return jax.tree.map(lambda a: a.sharding.with_memory_kind(memory), state)


def _again(a: jax.Array) -> jax.Array:
    parts = [shard.data for shard in a.addressable_shards]
    return _parted(jax.make_array_from_single_device_arrays(a.shape, a.sharding, parts))


def _parted(a: jax.Array) -> jax.Array:
    """Return the array after JAX has built its list of shards.

    JAX builds the list on first access. Two threads that access it at once, such as those that
    write the state and compute its checksums, were seen to get shards twice or not at all.
    """
    list(a.addressable_shards)
    return a


def _all(here: bool) -> bool:
    """Return True if the condition holds in every process."""
    if jax.process_count() == 1:
        return here
    return bool(np.all(multihost_utils.process_allgather(np.asarray(here))))


def _everywhere(sums: Sums) -> Sums:
    """Return the checksums of whole leaves, from those of the parts that each process holds."""
    halves = [[v >> 32, v & 0xFFFFFFFF] for pair in sums.values() for v in pair]
    every = np.asarray(multihost_utils.process_allgather(np.array(halves, np.uint32)), np.uint64)
    rows = (every[..., 0] << np.uint64(32) | every[..., 1]).reshape(len(every), -1, 2).tolist()
    return total(dict(zip(sums, map(tuple, row), strict=True)) for row in rows)


class _Sums(ocp.AsyncCheckpointHandler):
    """A handler that computes the checksums while orbax writes the state.

    It writes one JSON file per process.
    """

    async def async_save(self, directory: Any, args: _Save) -> list[Future]:
        written = self._written(directory, args.state)
        return [CommitFutureAwaitingContractedSignals(written, name=SUMS)]

    async def _written(self, directory: Any, state: PyTree) -> None:
        path = directory / f"process_{jax.process_index()}.json"
        path.write_text(json.dumps(checksums(state)))

    def save(self, directory: Any, args: _Save) -> None:
        raise NotImplementedError("checkpoints are written in the background")

    def restore(self, directory: Any, args: _Restore) -> Sums:
        parts = [json.loads(p.read_text()) for p in sorted(directory.glob("process_*.json"))]
        return total(parts)


@ocp.args.register_with_handler(_Sums, for_save=True)
@dataclasses.dataclass
class _Save(ocp.args.CheckpointArgs):
    state: PyTree


@ocp.args.register_with_handler(_Sums, for_restore=True)
@dataclasses.dataclass
class _Restore(ocp.args.CheckpointArgs):
    pass
