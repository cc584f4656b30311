"""Learned vectors of words and classes: those that a run has trained, in other networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import builder
from diffjax.arrays import Params
from diffjax.data.form import Form
from diffjax.encoders.words import split
from diffjax.io.trees import flat, joined, nested
from diffjax.nets import Adapted
from diffjax.nets.adapted import PARAMS
from diffjax.nets.rows import ROWS, TABLE, Rows
from diffjax.specs import Spec

if TYPE_CHECKING:
    from diffjax.runs.trained import Trained


class Table(NamedTuple):
    """A table of learned vectors: its path, its condition, and the name of each row, "" for none.

    The first row of a table of labels stands for the missing class.
    """

    path: str
    spec: Spec
    names: tuple[str, ...]


def tables(params: Mapping[str, Any], form: Form) -> Iterator[Table]:
    """Yield the tables of words and of classes among the parameters of a network."""
    for spec in form.conditions:
        if spec.kind == "words" and spec.name in form.texts:
            names: Sequence[str] = form.vocabulary
        elif spec.kind == "label":
            names = ["", *(form.named(k) or str(k) for k in range(spec.size))]
        else:
            continue
        place = spec.kind if spec.name == spec.kind else f"{spec.kind}_{spec.name}"
        ending = f"/{place}/{TABLE}"
        for path in flat(params):
            if f"/{path}".endswith(ending):
                yield Table(path, spec, tuple(names))


def vectors_of(network: Adapted, params: Params, form: Form) -> dict[str, np.ndarray]:
    """Return the rows that an adapter has trained, by their words or classes.

    params: the parameters of the adapted network.
    """
    own = flat(params[PARAMS])
    base = {k: v for k, v in params.items() if k != PARAMS}
    found = {}
    for part in network.adapter.parts:
        for path, spec, names in tables(base, form) if isinstance(part, Rows) else ():
            if part.adapted(own, ROWS).count(path):
                table = part.changed(jnp.asarray(flat(base)[path]), own[f"{path}/{ROWS}"])
                rows = part.places(len(table))
                found |= {names[i] or f"no {spec.name}": np.asarray(table[i]) for i in rows}
    return found


def taught(trained: Trained, vectors: Mapping[str, np.ndarray], weight: float) -> Trained:
    """Return a network with these vectors of words or classes, by name.

    A row W_i becomes W_i + weight (v - W_i). A word that the network does not know becomes a new
    row, for which W_i is the mean of all rows. Raises ValueError where the network has no such
    table, and for vectors of another width, names that are not one word, and unknown classes.
    """
    form, params = trained.experiment.form, dict(trained.denoise.params)
    known = [*tables({k: v for k, v in params["network"].items() if k != PARAMS}, form)]
    if not known:
        raise ValueError("holds learned vectors, and the network has neither words nor classes")
    network = jax.device_get(params["network"])
    for name, vector in vectors.items():
        path, spec, names = next((t for t in known if name in t.names), known[-1])
        table = np.array(flat(network)[path])
        if vector.shape != table.shape[1:]:
            needs = table.shape[1]
            raise ValueError(f"{name!r}: has {vector.size} numbers; the network needs {needs}")
        if name not in names:
            if spec.kind != "words":
                raise ValueError(f"{name!r}: no such class; known: {', '.join(names[1:])}")
            if PARAMS in network:
                raise ValueError(f"{name!r}: is a new word; a network with controls takes none")
            if split(name) != [name]:
                raise ValueError(f"{name!r}: needs one word of letters and digits; rename it")
            table = np.concatenate([table, table.mean(0, keepdims=True)])
            form = grown(form, spec, name)
            known = [t._replace(names=(*names, name)) if t.path == path else t for t in known]
        row = (*names, name).index(name)
        table[row] += weight * (vector - table[row])
        network = joined(network, nested({path: table}))
    params["network"] = jax.tree.map(jnp.asarray, network)
    experiment = builder.experiment(trained.config, form)
    return dataclasses.replace(trained, experiment=experiment, denoise=experiment.denoiser(params))


def grown(form: Form, spec: Spec, word: str) -> Form:
    """Return the form of data whose vocabulary has one more word."""
    larger = dataclasses.replace(spec, size=len(form.vocabulary) + 1)
    specs = tuple(larger if each.name == spec.name else each for each in form.conditions)
    return dataclasses.replace(form, conditions=specs, vocabulary=(*form.vocabulary, word))
