"""The source `webdataset:<shards>`: images with captions and classes in tar files (WebDataset)."""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from diffjax.config import ConfigError
from diffjax.data.decoded import Decoded
from diffjax.data.layout import layout
from diffjax.data.source import NoSplit, check_split, part
from diffjax.data.walk import endings, shown, tell, walk
from diffjax.io.tars import Member, content, members

if TYPE_CHECKING:
    from PIL import Image

TEXT, FACTS, CLASS = "txt", "json", "cls"
"""Endings of captions, one in each line; of an object with captions; of the number of a class."""
CAPTIONS = ("text", "caption", "captions")
"""Entries of a .json that hold captions, where no setting names others."""
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Item(NamedTuple):
    """The members of a shard whose names are equal up to the ending.

    shard: the tar file. key: the name without ending. image: the member with the image. parts: the
    members with captions and the class, by ending.
    """

    shard: Path
    key: str
    image: Member
    parts: dict[str, Member]

    def read(self, ending: str) -> str:
        """Return the text of a member; raise ConfigError, which names it, for a damaged one."""
        member = self.parts[ending]
        try:
            return content(self.shard, member).decode()
        except (OSError, ValueError) as error:
            raise self.damaged(ending, str(error)) from error

    def damaged(self, ending: str, why: str) -> ConfigError:
        """Return the error that names a member of the item."""
        return ConfigError(f"{shown(self.shard)}: {self.parts[ending].name}: damaged ({why})")


class _Files:
    """Images in shards, with their labels and captions."""

    def __init__(self, items: Sequence[Item], classes: int, entries: Sequence[str]):
        self._items, self._entries = items, entries
        self.names = [str(i) for i in range(classes)]
        self._labels = [label(item, classes) if classes else 0 for item in items]

    def __len__(self) -> int:
        return len(self._items)

    def labels(self) -> Sequence[int]:
        return self._labels

    def name(self, i: int) -> str:
        item = self._items[i]
        return f"{shown(item.shard)}: {item.image.name}"

    def captions(self, index: Sequence[int]) -> list[list[str]]:
        return [captions(self._items[i], self._entries) for i in index]

    def read(self, index: Sequence[int]) -> list[tuple[Callable[[], Image.Image], int]]:
        opened = lambda i: functools.partial(_open, self._items[i])
        return [(opened(i), self._labels[i]) for i in index]


def _open(item: Item) -> Image.Image:
    from PIL import Image

    return Image.open(io.BytesIO(content(item.shard, item.image)))


def webdataset(
    split: str,
    path: str = "",
    test: str = "",
    size: int = 0,
    channels: int = 3,
    holdout: float = 0.1,
    unreadable: int = 0,
    image: str = "",
    captions: tuple[str, ...] = (),
) -> Decoded:
    """Read images with captions and classes in uncompressed tar files, as WebDataset writes them.

    path: a tar file, several as `train-{000..127}.tar`, or a folder of tar files, whose folders
    `train` and `test` are the splits as in `folder`. Members whose names are equal up to the first
    dot behind the last slash are one item: an image of any ending that Pillow reads, and beside it
    `.txt` with a caption in each line, `.json` with captions in its entries `text`, `caption` and
    `captions`, a text or a list of texts, and `.cls` with the number of the class. Other members
    are counted on stderr. Shards are read in place: nothing is unpacked, and no name in them is
    used as a path. Opening them reads all headers once, and items are then read by index, so that
    the order is that of any source.

    test: the shards of the split `test`; without them the share `holdout` is held out by shard and
    name. image: the ending of the images, where items have several, such as `seg.png` beside `jpg`.
    captions: the entries of .json to read in place of those names. size, channels, unreadable: as
    in `folder`. Raises ValueError, which names it, for a shard that is missing, compressed,
    damaged or cut off, for two members of one name, and where some items have a class and others
    have none.

    >>> webdataset("train", "nowhere-{0..1}.tar")
    Traceback (most recent call last):
    ValueError: path=nowhere-{0..1}.tar: nowhere-0.tar: no such file or folder
    """
    check_split(split, "webdataset")
    shards, held_out = found(path, "path", split)
    if test:
        held_out, _ = found(test, "test")
    entries = tuple(captions) or CAPTIONS
    trained = items_of(shards, image, split == "train")
    classes = classes_of(trained)
    if held_out:
        items = items_of(held_out, image) if split == "test" else trained
        if not items:
            raise NoSplit(f"split={split!r}: no items in {shown(held_out[0])}")
    else:
        chosen = part([f"{item.shard.name}/{item.key}" for item in trained], split, holdout)
        items = [trained[i] for i in chosen]
    return Decoded(_Files(items, classes, entries), size, channels, unreadable)


def found(text: str, name: str, split: str = "") -> tuple[list[Path], list[Path]]:
    """Return the shards that a setting names, and those of a held-out split in folders.

    name: of the setting. split: with "train" a line on stderr lists what was skipped. Raises
    ValueError where there are none.
    """
    if not text:
        raise ValueError(
            f"{name}='': needs shards; the form is name=webdataset:PATH-{{000..127}}.tar"
        )
    paths = [Path(each).expanduser() for each in expanded(text)]
    if len(paths) > 1 or not paths[0].is_dir():
        for path in paths:
            if not path.is_file():
                raise ValueError(f"{name}={text}: {shown(path)}: no such file or folder")
        return paths, []
    walked = walk(paths[0], (".tar",))
    if not walked.inside:
        left = walked.left_out() or "nothing"
        raise ValueError(f"{name}={text}: no .tar files in it; left out: {left}")
    places = layout(walked)
    of = lambda split: [base / p for base, inside in (places.part(walked, split),) for p in inside]
    if split == "train":
        tell(walked.root, len(walked.inside), "shard", walked.left_out(), *places.aside)
    return of("train"), of("test") if places.held_out else []


def expanded(text: str) -> list[str]:
    """Return the paths that a text with ranges names.

    >>> expanded("a-{08..10}.tar"), expanded("b.tar")
    (['a-08.tar', 'a-09.tar', 'a-10.tar'], ['b.tar'])
    """
    match = RANGE.search(text)
    if match is None:
        return [text]
    first, last = match.groups()
    if int(last) < int(first) or int(last) - int(first) >= 1 << 20:
        raise ValueError(f"{match[0]}: needs first <= last, and at most 2**20 shards")
    rests = expanded(text[match.end() :])
    numbers = (f"{i:0{len(first)}d}" for i in range(int(first), int(last) + 1))
    return [f"{text[: match.start()]}{number}{rest}" for number in numbers for rest in rests]


def items_of(shards: Sequence[Path], image: str = "", told: bool = False) -> list[Item]:
    """Return the items of shards in their order.

    image: the ending of the images, "" for any. told: whether a line on stderr counts the members
    that belong to no item. Raises ValueError as `webdataset` does.
    """
    items, aside, known = [], 0, {e.removeprefix(".") for e in endings()}
    wanted = {image.lower().removeprefix(".")} if image else known
    for shard in shards:
        groups: dict[str, dict[str, Member]] = {}
        inside = members(shard)
        for member in inside:
            key, ending = parted(member.name)
            if not key or ending not in {*wanted, TEXT, FACTS, CLASS}:
                continue
            if ending in groups.setdefault(key, {}):
                raise ValueError(f"{shown(shard)}: {member.name}: occurs twice")
            groups[key][ending] = member
        used = 0
        for key, group in groups.items():
            pictures = [ending for ending in group if ending in wanted]
            if len(pictures) > 1:
                both = " and .".join(pictures)
                raise ValueError(f"{shown(shard)}: {key}: has .{both}; set image={pictures[0]!r}")
            if pictures:
                parts = {e: m for e, m in group.items() if e not in wanted}
                items.append(Item(shard, key, group[pictures[0]], parts))
                used += len(group)
        aside += len(inside) - used
    if not items:
        needs = f".{image}" if image else ".jpg, .png, .webp and all others that Pillow reads"
        raise ValueError(f"{shown(shards[0])}: no images in it; known endings: {needs}")
    if told:
        tell(shards[0], len(items), "image", f"members {aside}" if aside else "")
    return items


def parted(name: str) -> tuple[str, str]:
    """Return the key and the ending, in lower case, of a member; the key "" for a hidden one.

    >>> parted("./cats/0001.seg.PNG"), parted("cats/.DS_Store")
    (('cats/0001', 'seg.png'), ('', ''))
    """
    folders, _, file = name.removeprefix("./").rpartition("/")
    stem, dot, ending = file.partition(".")
    if not stem or not dot:
        return "", ""
    return f"{folders}/{stem}" if folders else stem, ending.lower()


def classes_of(items: Sequence[Item]) -> int:
    """Return the number of classes of training items, 0 where they have none.

    Raises ValueError where some items have a class and others have none.
    """
    having = [item for item in items if CLASS in item.parts]
    if having and len(having) < len(items):
        item = next(item for item in items if CLASS not in item.parts)
        raise ValueError(f"{shown(item.shard)}: {item.key}: has no .{CLASS}, and other items do")
    return 1 + max(label(item) for item in having) if having else 0


def label(item: Item, classes: int = 0) -> int:
    """Return the class of an item; raise ConfigError for none of `classes`, if there are any."""
    if CLASS not in item.parts:
        raise ConfigError(f"{shown(item.shard)}: {item.key}: has no .{CLASS}")
    text = item.read(CLASS).strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise item.damaged(CLASS, f"{text[:20]!r}: needs an integer >= 0")
    if classes and int(text) >= classes:
        raise ConfigError(
            f"{shown(item.shard)}: {item.key}: class {text}: no such class in training; known: 0 "
            f"to {classes - 1}"
        )
    return int(text)


def captions(item: Item, entries: Sequence[str]) -> list[str]:
    """Return the captions of an item, those of .txt first, each once.

    entries: the entries of .json that hold captions. Raises ConfigError for a damaged member.
    """
    texts = item.read(TEXT).splitlines() if TEXT in item.parts else []
    if FACTS in item.parts:
        try:
            facts: Any = json.loads(item.read(FACTS))
        except ValueError as error:
            raise item.damaged(FACTS, str(error)) from error
        if not isinstance(facts, dict):
            raise item.damaged(FACTS, "needs an object")
        for name in entries:
            value = facts.get(name) or []
            listed = [value] if isinstance(value, str) else value
            if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
                raise item.damaged(FACTS, f"{name}: needs a text or a list of texts")
            texts += listed
    return [*dict.fromkeys(text.strip() for text in texts if text.strip())]
