"""Construction of an encoder from config.data.encoder and the captions of the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.builder.construct import construct, instance, lookup, named_parameters, refuse
from diffjax.config import ConfigError, parse
from diffjax.data import Source
from diffjax.data.form import Form
from diffjax.data.source import Captioned
from diffjax.encoders import ENCODERS, Described, Encoder, stored
from diffjax.training.workdir import read_form


def construct_encoder(text: str, vocabulary: tuple[str, ...], place: str) -> Encoder:
    """Return the encoder that a text `name:argument=value` names.

    vocabulary: what it has learned from the captions of training, if it learns from them.

    >>> construct_encoder("words:length=3", ("apple", "red"), "config.data.encoder")
    Words(vocabulary=('apple', 'red'), length=3)
    """
    learned: dict[str, Any] = {"vocabulary": vocabulary} if learns(text, place) else {}
    return instance(construct(ENCODERS, text, place, **learned), Encoder, place)


def learns(text: str, place: str) -> Any:
    """Return the function from captions to a vocabulary, None for an encoder that needs none.

    >>> learns("t5:path=t5-base", "config.data.encoder") is None
    True
    """
    entry = lookup(ENCODERS, parse(text).get("name"), f"{place}.name")
    return entry.learn if "vocabulary" in named_parameters(entry, place) else None


def encoder_of(text: str, form: Form, place: str) -> Encoder:
    """Return the encoder of a run whose data have this form.

    Raises ConfigError where the run was not trained with captions, and for another encoder than
    that of the training.
    """
    if not text or not form.texts:
        raise ConfigError(f"{place}={text!r}: the network was trained without captions")
    encoder = construct_encoder(text, form.vocabulary, place)
    if encoder.fingerprint != form.encoder:
        raise ConfigError(
            f"{place}={text}: has the fingerprint {encoder.fingerprint}; the run was trained with "
            f"{form.encoder}"
        )
    return encoder


def described(
    open_split: Callable[[str], Source], text: str, place: str, run: str = "", folder: str = ""
) -> Callable[[str], Source]:
    """Return `split -> source` whose items have the conditions that an encoder makes of captions.

    The encoder learns from the captions of the training split. run: one with whose words its
    vocabulary begins. folder: where the conditions of all captions are stored, in place of those
    that the encoder makes while it runs. Raises ConfigError for a data set without captions, for a
    caption that the encoder refuses, and for a run without a vocabulary.
    """
    learn, place_of_run = learns(text, place), place.replace("encoder", "vocabulary")

    def open_described(split: str) -> Source:
        begin = read_form(Path(run)).vocabulary if run else ()
        if run and not (begin and learn):
            lacks = f"{run} has no vocabulary" if learn else f"{text} learns none"
            raise ConfigError(f"{place_of_run}={run}: {lacks}; allowed: ''")
        train, source = captioned(open_split("train"), place), open_split(split)
        rows = train.captions(np.arange(len(train)))
        if not any(rows):
            raise ConfigError(f"{place}: the training items have no captions; allowed: ''")
        vocabulary = ()
        if learn:
            vocabulary = learn((caption for row in rows for caption in row), begin)
        if folder:
            encoder = from_folder(folder, text, place.replace("encoder", "encoded"))
        else:
            encoder = construct_encoder(text, vocabulary, place)
        return refuse(place)(Described)(captioned(source, place), encoder)

    return open_described


def from_folder(folder: str, text: str, place: str) -> Encoder:
    """Return the stored captions of an encoder; raise ConfigError where a folder has none of it."""
    if learns(text, place.replace("encoded", "encoder")):
        raise ConfigError(f"{place}={folder}: the encoder {text} runs no network; allowed: ''")
    return refuse(place)(stored)(Path(folder).expanduser(), text)


def captioned(source: Any, place: str) -> Captioned:
    """Return a source that may have captions; raise ConfigError for another one."""
    if not isinstance(source, Captioned):
        raise ConfigError(f"{place}: this data set has no captions; allowed: ''")
    return source
