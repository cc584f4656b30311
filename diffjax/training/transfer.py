"""Weights of one network for another: parameters by name, renamed by a map that is stated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from diffjax.arrays import Params
from diffjax.config import ConfigError
from diffjax.io.trees import flat, nested, some
from diffjax.training.experiment import Experiment


class Transfer(NamedTuple):
    """params: those that were found, as a tree, which lacks the others. missing: paths that the
    source does not have. surplus: paths of the source that are not known here. reshaped: paths of
    another shape there, with both shapes. None of these three is among `params`."""

    params: Params
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    reshaped: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(
            (
                some("not found, so drawn anew", self.missing),
                some("of other shapes, so drawn anew", self.reshaped),
                some("not used", self.surplus),
            )
        )

    @property
    def complete(self) -> bool:
        return not (self.missing or self.surplus or self.reshaped)


def transfer(experiment: Experiment, params: Params, renames: Sequence[str] = ()) -> Transfer:
    """The parameters of another network by the names that they have here.

    renames: `OLD=NEW`, in their order: a regular expression that is searched in the paths of the
    source, as `network/blocks`, and what it is replaced by. Raises ConfigError for one that changes
    nothing, and where two parameters end up under one name.
    """
    loaded: dict[str, Any] = flat(params)
    for text in renames:
        loaded = renamed(loaded, text)
    wanted = flat(jax.eval_shape(experiment.parameters))
    both = [path for path in wanted if path in loaded]
    shapes = lambda path: (tuple(loaded[path].shape), wanted[path].shape)
    reshaped = {path: shapes(path) for path in both if len({*shapes(path)}) > 1}
    return Transfer(
        params=nested({path: loaded[path] for path in both if path not in reshaped}),
        missing=tuple(sorted(set(wanted) - set(loaded))),
        surplus=tuple(sorted(set(loaded) - set(wanted))),
        reshaped=tuple(f"{k} {old}, needs {new}" for k, (old, new) in reshaped.items()),
    )


def renamed(tensors: dict[str, Any], text: str) -> dict[str, Any]:
    """The tensors with other paths. The last `=` of `OLD=NEW` counts: OLD may have more."""
    old, sign, new = text.rpartition("=")
    place = f"--resume_map={text}"
    if not sign or not old:
        raise ConfigError(f"{place}: the form is OLD=NEW, a regular expression and its replacement")
    try:
        paths = {path: re.sub(old, new, path) for path in tensors}
    except (re.error, IndexError) as error:
        raise ConfigError(f"{place}: no regular expression ({error})") from error
    if not any(re.search(old, path) for path in tensors):
        known = sorted({"/".join(path.split("/")[:2]) for path in tensors})
        raise ConfigError(f"{place}: fits no parameter; known: {', '.join(known)}")
    targets = list(paths.values())
    if twice := sorted({path for path in targets if targets.count(path) > 1}):
        raise ConfigError(f"{place}: several parameters become {twice[0]!r}")
    return {paths[path]: value for path, value in tensors.items()}
