"""The form of a data set: kind, shape and conditions of its items, as the source declares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.data import conditions as arrays
from diffjax.data import excitation
from diffjax.data.kinds import Kind, lookup
from diffjax.files import ending
from diffjax.specs import Spec

KNOWN, ABSENT = "known", "absent"
"""Names of the conditions of imputation: the known values of an item, and its gaps in training; see
`data.hidden`."""


@dataclass(frozen=True)
class Form:
    """The properties of a data set on which networks, pictures and metrics depend.

    All items of a data set have one shape; items of different lengths are padded with NaN and have
    the condition `length`.

    kind: an entry of `data.kinds.KINDS`. shape: the shape of one item, as the network sees it.
    conditions: the inputs of the network besides the noise level and the item. dtype: the type of
    stored items. units: the meaning of the numbers beyond the kind, such as (("rate", 16000),);
    `lengths` counts the training items of each length, from 0, and `filter` states the window, the
    hop and the bands of the filter that makes sounds of excitations (`data.excitation`).
    class_names: the names of the labels in order, where the source has names. texts: the names of
    the conditions that an encoder makes of captions. vocabulary: the words that the encoder knows,
    where it has learned them from the captions of training. encoder: the fingerprint of the weights
    of the encoder, "" without any. gaps: True if values of items may be missing, NaN in x; such
    items serve imputation alone. Raises ValueError where kind, shape, dtype, length and gaps do not
    fit together, where two conditions share a name, and where the number of names is not the number
    of classes.

        >>> Form("image", (8, 8, 1), (Spec("label", "label", 10),), "uint8").classes
        10
    """

    kind: str
    shape: tuple[int, ...]
    conditions: tuple[Spec, ...] = ()
    dtype: str = field(default="float32", compare=False)
    units: tuple[tuple[str, Any], ...] = field(default=(), compare=False)
    class_names: tuple[str, ...] = field(default=(), compare=False)
    texts: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = field(default=(), compare=False, repr=False)
    encoder: str = field(default="", compare=False, repr=False)
    gaps: bool = field(default=False, compare=False)

    def __post_init__(self):
        self.items.check(self.shape, self.dtype)
        if len({spec.name for spec in self.conditions}) < len(self.conditions):
            raise ValueError(f"conditions {self.names}: a name occurs twice")
        if self.class_names and len(self.class_names) != self.classes:
            raise ValueError(
                f"class_names: {len(self.class_names)} names for {self.classes} classes"
            )
        for spec in self.conditions:
            if spec.kind == "length":
                self._check_length(spec)
        if self.gaps and (self.ends or self.dtype != "float32"):
            raise ValueError(
                f"gaps: {self.items.noun}s of {self.dtype}{' with lengths' * self.ends}; needs "
                f"float32 items of one length"
            )

    def _check_length(self, spec: Spec) -> None:
        if spec != (wanted := Spec("length", "length", self.shape[0])):
            raise ValueError(f"{spec}: needs {wanted} for items of shape {self.shape}")
        if not self.items.lengths or self.dtype != "float32":
            raise ValueError(
                f"length: the items are {self.items.noun}s of {self.dtype}; needs sequences or "
                f"audio of float32"
            )

    @property
    def items(self) -> Kind:
        """The kind of the items, an entry of `data.kinds.KINDS`."""
        return lookup(self.kind)

    @property
    def classes(self) -> int:
        """The number of classes, 0 where items have no label."""
        return next((s.size for s in self.conditions if s.name == "label"), 0)

    @property
    def ends(self) -> bool:
        """True if items have different lengths, that is, the condition `length`."""
        return any(spec.kind == "length" for spec in self.conditions)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The number of training items of each length, from 0; empty where they are not counted."""
        return tuple(dict(self.units).get(arrays.LENGTHS, ()))

    def refuse_lengths(self, reader: str) -> None:
        """Raise ValueError where items have lengths, on behalf of a `reader` that needs one length.

        reader: the name, in the message, of code that would treat the padding as data.
        """
        if self.ends:
            noun = self.items.noun
            raise ValueError(
                f"{reader}: would include the padding of {noun}s with lengths; allowed: {noun}s of "
                f"one length"
            )

    @property
    def conditional(self) -> bool:
        """True if some condition may be missing, as guidance needs."""
        return any(spec.kind != "length" for spec in self.conditions)

    def refuse_gaps(self, reader: str) -> None:
        """Raise ValueError where values of items may be missing, on behalf of a `reader`."""
        if self.gaps:
            raise ValueError(
                f"{reader}: values of the {self.items.noun}s are missing; allowed: data.hidden, as "
                f"share=(0.1,0.9), and the metrics of forecasts"
            )

    @property
    def excites(self) -> bool:
        """True if items are excitations, of which `completed` makes sounds."""
        return excitation.FILTER in dict(self.units)

    @property
    def stored(self) -> Form:
        """The form of samples after `completed`: of sounds for excitations, elsewhere this one."""
        if not self.excites:
            return self
        units = tuple(pair for pair in self.units if pair[0] != excitation.FILTER)
        blocks, bins, channels = self.shape
        return replace(self, kind="audio", shape=(blocks * bins, channels), units=units)

    @property
    def filter(self) -> excitation.Filter:
        """The filter that makes sounds of excitations."""
        units = dict(self.units)
        return excitation.Filter(units["rate"], *units[excitation.FILTER])

    def read(self, maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return maps of stored items as the network reads them: on its grid."""
        on_grid = {excitation.MEL: self.filter.read} if self.excites else {}
        return {k: on_grid[k](v) if k in on_grid else v for k, v in maps.items()}

    def completed(self, x: np.ndarray, cond: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return samples (N, ...) with what their conditions determine.

        These are the values that the condition `known` states, and NaN beyond the length of each
        item, where items have lengths. Excitations become the sounds of the condition `mel`.
        """
        if self.excites:
            x = self.filter.sounds(x, cond[excitation.MEL])
        if KNOWN in self.names:
            x = np.where(np.isnan(cond[KNOWN]), x, cond[KNOWN])
        if not self.ends:
            return x
        outside = np.arange(x.shape[1]) >= np.asarray(cond["length"])[:, None]
        return np.where(outside.reshape(*outside.shape, *(1,) * (x.ndim - 2)), np.nan, x)

    @property
    def names(self) -> list[str]:
        """The names of the conditions, in order."""
        return [spec.name for spec in self.conditions]

    @property
    def range(self) -> tuple[float, float] | None:
        """The least and the largest stored value, None where there is no bound."""
        return self.items.range(self.dtype)

    def denormalise(self, x: np.ndarray) -> np.ndarray:
        """Return samples of the network in the type and the range of stored items."""
        return self.items.denormalise(np.asarray(x), self.dtype)

    def reader(self, path: Path) -> Callable[[Path], np.ndarray] | None:
        """Return the function that reads files of items with the ending of a path.

        It is None for other endings, and for formats that only show items.

        >>> labelled("image", (8, 8, 1)).reader(Path("items.npz")) is None
        True
        """
        read = files.read if (files := self.items.whole().get(ending(path))) else None
        return None if read is None else lambda path: read(path, self.shape, dict(self.units))

    def picture(
        self, x: np.ndarray, label: np.ndarray | None = None, texts: Sequence[str] = ()
    ) -> np.ndarray:
        """Draw stored items (N, ...) as one uint8 picture (H, W, 3), in the way of their kind.

        texts: one below each item, in place of the order of classes; or empty.
        """
        return self.items.picture(x, label, dict(self.units), self.class_names, texts)

    def named(self, label: int) -> str:
        """Return the name of a class: "" where the class has none, and for the missing label -1."""
        return self.class_names[label] if 0 <= label < len(self.class_names) else ""

    def example(self, num: int) -> dict[str, np.ndarray]:
        """Return conditions of `num` items in the right shapes, 0 except for full lengths."""
        return arrays.example(self.conditions, num, self.shape)

    def carried(self, items: Mapping[str, np.ndarray], num: int) -> dict[str, np.ndarray]:
        """Return the conditions of this form for `num` items; those not in `items` are missing."""
        here = self.conditions
        values = {s.name: items.get(s.name) for s in here}
        absent = {s.name: s for s in here if values[s.name] is None}
        return {
            k: arrays.missing(absent[k], num, self.shape) if v is None else v
            for k, v in values.items()
        }

    def as_json(self) -> dict[str, Any]:
        """Return the form as JSON data; `from_json` is the inverse."""
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "range": list(self.range) if self.range else None,
            "units": dict(self.units),
            "conditions": {s.name: {"kind": s.kind, "size": s.size} for s in self.conditions},
            **({"classes": list(self.class_names)} if self.class_names else {}),
            **({"texts": list(self.texts)} if self.texts else {}),
            **({"vocabulary": list(self.vocabulary)} if self.vocabulary else {}),
            **({"encoder": self.encoder} if self.encoder else {}),
            **({"gaps": True} if self.gaps else {}),
        }


def from_json(read: Mapping[str, Any]) -> Form:
    """Read a form that `as_json` wrote.

    Raises KeyError, TypeError or ValueError for any other contents.
    """
    return Form(
        kind=read["kind"],
        shape=tuple(read["shape"]),
        conditions=tuple(Spec(name, **spec) for name, spec in read["conditions"].items()),
        dtype=read["dtype"],
        units=tuple(sorted(read["units"].items())),
        class_names=tuple(read.get("classes", ())),
        texts=tuple(read.get("texts", ())),
        vocabulary=tuple(read.get("vocabulary", ())),
        encoder=read.get("encoder", ""),
        gaps=read.get("gaps", False),
    )


def labelled(kind: str, shape: tuple[int, ...], classes: int = 0, dtype: str = "") -> Form:
    """Return the form of items whose only condition is a label, or that have none.

    classes: the number of classes, 0 for no label. dtype: by default the first type that the kind
    allows, which is uint8 for images.
    """
    label = (Spec("label", "label", classes),) if classes else ()
    return Form(kind, tuple(shape), label, dtype or lookup(kind).dtypes[0])
