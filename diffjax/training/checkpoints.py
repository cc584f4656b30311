"""Checkpoints: a small facade over orbax, asynchronous and atomic."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint.options import AtomicityMode, AtomicityOptions

from diffjax.config import ConfigError


class Checkpoints:
    """Checkpoints of one run under `root`, the newest `keep` of them kept.

    A save that was cut off is never seen as a checkpoint: one counts from the moment that orbax
    has written its commit mark. A reader (`write=False`) may look while a run writes.
    """

    def __init__(self, root: Path, keep: int = 2, write: bool = True):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=write,
            read_only=not write,
            cleanup_tmp_directories=write,
            atomicity_options=AtomicityOptions(mode=AtomicityMode.COMMIT_FILE),
        )
        self._manager = ocp.CheckpointManager(
            root.absolute(), options=options, item_handlers=ocp.StandardCheckpointHandler()
        )
        self._damaged: set[int] = set()

    def steps(self) -> list[int]:
        """Steps with a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: PyTree) -> None:
        """Start writing `state`; returns once it is copied. A step that is there is kept."""
        if step in self._damaged:
            self._manager.delete(step)
            self._damaged.remove(step)
        if step not in self._manager.all_steps():
            args = ocp.args.StandardSave(jax.tree.map(_detached, state))
            self._manager.save(step, args=args, force=True)  # also before a damaged newer one

    def restore(self, abstract: PyTree, shardings: PyTree | None = None) -> Any | None:
        """The newest readable state with the shapes of `abstract`, or None where there is none.

        shardings: where each leaf goes, whatever devices it was saved from; one device by default.
        A damaged checkpoint is named and an older one taken; ConfigError if all are damaged.
        """
        if shardings is None:
            one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            shardings = jax.tree.map(lambda _: one, abstract)
        target = jax.tree.map(
            lambda a, where: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where),
            abstract,
            shardings,
        )
        for step in reversed(self.steps()):
            try:
                return self._manager.restore(step, args=ocp.args.StandardRestore(target))
            except Exception as error:
                self._damaged.add(step)
                reason = str(error).strip().split("\n")[0]
                logging.warning(
                    "checkpoint %d cannot be read (%s): trying an older one", step, reason
                )
        if self.steps():
            raise ConfigError(f"no checkpoint under {self._manager.directory} can be read")
        return None

    def wait(self) -> None:
        """Block until everything saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


def _detached(a: jax.Array) -> jax.Array:
    """A copy on CPU, where orbax writes from the array's own buffer while steps go on."""
    return jnp.copy(a) if all(d.platform == "cpu" for d in a.devices()) else a
