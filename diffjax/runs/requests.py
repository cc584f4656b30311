"""Parsing of requests for samples: seeds, indices, guidance weights, classes, prompts, conditions.

Each function raises ConfigError, which names the flag, for a request that cannot be sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffjax import builder, checks
from diffjax.config import ConfigError, nearest, parse
from diffjax.data import conditions
from diffjax.data.form import Form
from diffjax.generation.program import INDICES
from diffjax.training.experiment import Experiment

SHOWN = 10
"""Largest number of class names in a message."""


def integers(name: str, values: int | Sequence[int], stop: int) -> tuple[int, ...]:
    """Return seeds or sample indices as a tuple.

    name: the flag, without its dashes. Raises ConfigError for values not in 0, ..., stop - 1.
    """
    listed = np.atleast_1d(np.asarray(values))
    if listed.ndim != 1 or not listed.size or listed.dtype.kind not in "iu":
        raise ConfigError(f"--{name}={values}: needs one integer, or several")
    for value in listed.tolist():
        builder.refuse("--" + name)(checks.in_range)(stop, **{name: value})
    return tuple(listed.tolist())


class Turns(NamedTuple):
    """What the samples of a request take in turn; see `generation.Job`."""

    seed: int | tuple[int, ...]
    index: tuple[int, ...]
    prompts: tuple[str, ...]
    weight: tuple[float, ...]


def in_turn(seed: Any, index: Any, prompt: Any, weight: Any, guidance: Any) -> Turns:
    """Return the seeds, numbers, prompts and guidance weights of a request as tuples.

    guidance: that of the request, which must not state a weight as well. Raises ConfigError for
    values that no sample can have.
    """
    seeds = integers("seed", seed, checks.SEEDS)
    return Turns(
        seed=seeds[0] if len(seeds) == 1 else seeds,
        index=() if index is None else integers("index", index, INDICES),
        prompts=texts(prompt),
        weight=() if weight is None else guidance_weights(weight, guidance),
    )


def guidance_weights(weight: float | Sequence[float], guidance: Any) -> tuple[float, ...]:
    """Return the guidance weights of samples as a tuple.

    guidance: the guidance of the request, which must not state a weight as well. Raises ConfigError
    for a value that is not finite in float32, and for a weight in both places.
    """
    says = guidance.get("weight") if isinstance(guidance, Mapping) else guidance
    if says is not None:
        raise ConfigError(
            f"--weight={weight}: --guidance={says} sets a weight too; allowed: only one of them"
        )
    listed = np.atleast_1d(np.asarray(weight))
    finite = listed.dtype.kind in "iuf" and (np.abs(listed) <= np.finfo(np.float32).max).all()
    if listed.ndim != 1 or not listed.size or not finite:
        raise ConfigError(f"--weight={weight}: needs one finite number in float32, or several")
    return tuple(listed.astype(float).tolist())


def requested(
    experiment: Experiment,
    label: int | str | Sequence[int | str] | None,
    cond: Mapping[str, Any],
    *,
    prompts: Sequence[str] = (),
    index: Sequence[int] = (),
    seeds: int = 1,
    without: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Return all conditions as rows (K, ...), which samples take in turn.

    These are the requested ones, and for the others the defaults of the samples: sample number k of
    a seed has row k of `Experiment.defaults`, whichever samples are drawn with it. label: classes
    by number or by name. cond: other conditions by name. prompts: texts, which set the conditions
    that the encoder of the run makes of captions. index: the numbers of the samples, in turn, by
    default 0, 1, ... seeds: the number of seeds, each of which gives sample 0, then sample 1, and
    so on. Raises ConfigError for a condition that the network does not take.
    """
    form = experiment.form
    specs = {spec.name: spec for spec in form.conditions if spec.name not in without}
    if label is not None:
        if "label" in cond:
            raise ConfigError("--label: --cond=label sets it too; allowed: only one of them")
        cond = {**cond, "label": class_numbers(label, form)}
    if prompts:
        texts = encoded(experiment, prompts, "--prompt")
        if twice := [name for name in texts if name in cond]:
            raise ConfigError(f"--prompt: --cond={twice[0]} sets it too; allowed: only one of them")
        cond = {**cond, **texts}
    if unknown := [name for name in cond if name not in specs]:
        known = ", ".join(specs) or "none (unconditional)"
        is_declared = unknown[0] in experiment.config["network"].get("conditions", {})
        lacks = "the data set of the run" if is_declared else "the network"
        raise ConfigError(f"--cond={unknown[0]}: {lacks} has no such condition; known: {known}")
    read = conditions.requested
    try:
        rows = {name: read(specs[name], value, form.shape) for name, value in cond.items()}
    except ValueError as error:
        raise ConfigError(f"--cond={error}") from error
    if set(specs) == set(rows):
        return {name: rows[name] for name in specs}
    try:
        taken = lambda v: v[np.mod(index, len(v))] if index else v.repeat(seeds, 0)
        defaults = {name: experiment.defaults[name] for name in specs}
        return {name: taken(values) for name, values in defaults.items()} | rows
    except ConfigError as error:
        lacking = [name for name in specs if name not in rows]
        flag = "--prompt" if {*lacking} <= {*form.texts} else f"--cond={lacking[0]}=..."
        if {*lacking} <= {*(experiment.config["data"].get("maps") or ())}:
            flag = f"--control, or --cond={lacking[0]}=..."
        raise ConfigError(
            f"{', '.join(lacking)}: not set ({flag} of diffjax.sample), and the default, that of "
            f"held-out items, fails: {error}"
        ) from error


def texts(prompt: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return one prompt or several as a tuple.

    Raises ConfigError for no prompt in a list, and for one that is not a text.
    """
    if prompt is None:
        return ()
    listed = (prompt,) if isinstance(prompt, str) else tuple(prompt)
    if not listed or not all(isinstance(text, str) for text in listed):
        raise ConfigError(f"--prompt={prompt}: needs one text, or several")
    return listed


def encoded(experiment: Experiment, texts: Sequence[str], flag: str) -> dict[str, np.ndarray]:
    """Return the conditions that the encoder of a run makes of texts, by name, (K, ...).

    Raises ConfigError, which names the flag, for a run without captions and for a text that the
    encoder refuses.
    """
    if not experiment.form.texts:
        raise ConfigError(
            f"{flag}: the network was trained without captions; allowed: --label, --cond"
        )
    return builder.refuse(flag)(experiment.encoder)(texts)


def without_text(experiment: Experiment) -> dict[str, np.ndarray]:
    """Return the conditions of the empty text, (1, ...) by name, {} where they are missing.

    Networks that were trained with missing conditions in place of a text have learned a null, and
    need no encoder for it; published ones were trained with the empty text instead, from which
    guidance leads away.
    """
    if parse(experiment.reading.encoder).get("empty", "missing") == "missing":
        return {}
    return experiment.encoder([""])


def class_numbers(label: int | str | Sequence[int | str], form: Form) -> list[int]:
    """Return the numbers of classes that are requested by number or by name.

    A text is a name if a class has that name, and a number otherwise. Raises ConfigError for a
    class that the network does not know.
    """
    listed = label if isinstance(label, list | tuple) else np.atleast_1d(label).tolist()
    numbers = []
    for value in listed:
        if isinstance(value, str) and value in form.class_names:
            numbers.append(form.class_names.index(value))
            continue
        text = str(value)
        if not text.isdecimal() or int(text) >= form.classes:
            raise ConfigError(f"--label={value}: no such class{known_classes(form, text)}")
        numbers.append(int(text))
    return numbers


def known_classes(form: Form, near: str) -> str:
    """Return the known labels, for a message, with the class name nearest to a text."""
    if not form.class_names:
        return f"; known: {f'0 to {form.classes - 1}' if form.classes else 'none (unconditional)'}"
    hint, _, _ = nearest(near, form.class_names).partition(";")
    some = ", ".join(form.class_names[:SHOWN]) + ", ..." * (form.classes > SHOWN)
    return f"{hint}; known: 0 to {form.classes - 1}, or {some}"
