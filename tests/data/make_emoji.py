"""Draw the images of the source `emoji` and write its captions; run by hand.

    pip install resvg-py==0.5.0
    python tests/data/make_emoji.py                  # into diffjax/data/embedded

Four npm packages of fixed versions are downloaded, 12 MB together, and verified by checksum. With
resvg-py 0.5.0 and Pillow 12 (libwebp 1.6.0) two runs write identical files in about two minutes of
one core. Another version of libwebp may write other bytes for the same pixels.

A concept is an emoji without skin tone that all three styles draw. A concept is left out where one
style draws it exactly as an earlier concept, as the same image could then be in both splits. Each
drawing is rendered on white at 128 x 128 pixels, and every 4 x 4 pixels are averaged.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffjax.data.emoji import COLUMNS, FOLDER, SIDE, STYLES, TABLE
from diffjax.files import whole
from diffjax.io.fetch import Remote, fetch

SCALE = 4
REGISTRY = "https://registry.npmjs.org"
ICONS = f"{REGISTRY}/@iconify-json"
PACKAGES = {
    "noto": Remote(
        f"{ICONS}/noto/-/noto-1.2.9.tgz",
        "noto-1.2.9.tgz",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        3102958,
    ),
    "fluent": Remote(
        f"{ICONS}/fluent-emoji-flat/-/fluent-emoji-flat-1.2.6.tgz",
        "fluent-emoji-flat-1.2.6.tgz",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        1172438,
    ),
    "twemoji": Remote(
        f"{ICONS}/twemoji/-/twemoji-1.2.5.tgz",
        "twemoji-1.2.5.tgz",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        1555888,
    ),
    "texts": Remote(
        f"{REGISTRY}/emojibase-data/-/emojibase-data-17.0.0.tgz",
        "emojibase-data-17.0.0.tgz",
        "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
        6711091,
    ),
}
TONES = {f"1f3f{digit}" for digit in "bcdef"}
OMITTED = {"ass", "fml", "sexy", "shit", "wtf"}
"""Paraphrases and tags that are left out."""


def code(hexcode: str) -> str:
    """Return code points in lower case without the variation selector, such as "1f3f3-200d-1f308".

    The packages disagree on the selector, which does not change the concept.
    """
    return "-".join(point for point in hexcode.lower().split("-") if point != "fe0f")


def contents(archive: Path, name: str) -> Any:
    """Return the JSON data of a file in an npm package."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"package/{name}")
        assert file is not None, f"{archive}: {name} is not a file"
        return json.load(file)


def svg(icons: dict[str, Any], name: str) -> tuple[str, bool]:
    """Return the drawing of an icon, centred in a square, and whether to mirror it.

    Raises ValueError for an icon that its set has withdrawn, and for an alias that is turned.
    """
    mirrored = False
    while name not in icons["icons"]:
        alias = icons["aliases"][name]
        if other := set(alias) - {"parent", "hFlip"}:
            raise ValueError(f"{name}: an alias with {', '.join(sorted(other))}")
        name, mirrored = alias["parent"], mirrored ^ alias.get("hFlip", False)
    icon = icons["icons"][name]
    if icon.get("hidden"):
        raise ValueError(f"{name}: withdrawn from its set")
    size = {k: icon.get(k, icons.get(k, 0)) for k in ("left", "top", "width", "height")}
    side = max(size["width"], size["height"])
    left, top = (size[k] - (side - size[n]) / 2 for k, n in (("left", "width"), ("top", "height")))
    box = f'width="{side}" height="{side}" viewBox="{left:g} {top:g} {side} {side}"'
    space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"<svg {space} {box}>{icon['body']}</svg>", mirrored


def drawn(text: str, mirrored: bool) -> np.ndarray:
    """Return an SVG on white as uint8 pixels (SIDE, SIDE, 3)."""
    import resvg_py

    side = SCALE * SIDE
    png = resvg_py.svg_to_bytes(
        svg_string=text, width=side, height=side, background="#ffffff", skip_system_fonts=True
    )
    x = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.uint32)
    total = x.reshape(SIDE, SCALE, SIDE, SCALE, 3).sum((1, 3))
    x = ((total + SCALE**2 // 2) // SCALE**2).astype(np.uint8)
    return x[:, ::-1] if mirrored else x


def plain(text: str) -> str:
    """Return a text with straight quotation marks."""
    return text.translate(str.maketrans("\u2019\u201c\u201d", '\'""'))


def key(text: str) -> str:
    """Return the letters and digits of a text in lower case, by which names are compared."""
    return "".join(filter(str.isalnum, text.lower()))


def texts(archive: Path) -> dict[str, dict[str, Any]]:
    """Return `names` and `tags` of every emoji by its code, in the order of Unicode.

    The first name is the label. The others are shortcodes that read as words, unless another emoji
    has a name with the same letters.
    """
    emoji = contents(archive, "en/data.json")
    short = contents(archive, "en/shortcodes/emojibase.json")
    table, users = {}, {}
    for entry in sorted(emoji, key=lambda entry: entry.get("order", 10**6)):
        listed = short.get(entry["hexcode"], [])
        listed = [listed] if isinstance(listed, str) else listed
        worded = [text.replace("_", " ") for text in listed if re.fullmatch("[a-z_-]{3,}", text)]
        others = [text for text in worded if text not in OMITTED and not text.startswith("ja ")]
        names: dict[str, str] = {}
        for text in (plain(entry["label"]), *others):
            names.setdefault(key(text), text)
        tags = [plain(tag) for tag in entry.get("tags", ()) if tag not in OMITTED]
        table[code(entry["hexcode"])] = {"names": list(names.values()), "tags": tags}
        for letters in names:
            users.setdefault(letters, set()).add(entry["hexcode"])
    for entry in table.values():
        first, *others = entry["names"]
        entry["names"] = [first, *(name for name in others if len(users[key(name)]) == 1)]
    return table


def images(archives: dict[str, Path], codes: list[str]) -> dict[str, np.ndarray]:
    """Return the drawings (N, SIDE, SIDE, 3) of the concepts `codes` in each style."""
    x = {}
    for style in STYLES:
        icons = contents(archives[style], "icons.json")
        names = {code(k): name for k, name in contents(archives[style], "chars.json").items()}
        x[style] = np.stack([drawn(*svg(icons, names[c])) for c in codes])
        print(f"{style}: {len(codes)} images drawn", flush=True)
    return x


def distinct(x: dict[str, np.ndarray]) -> list[int]:
    """Return the concepts that no style draws exactly as an earlier concept."""
    seen, kept = set(), []
    for k in range(len(x[STYLES[0]])):
        drawings = {(style, x[style][k].tobytes()) for style in STYLES}
        if not drawings & seen:
            kept.append(k)
        seen |= drawings
    return kept


def sheet(x: np.ndarray) -> Image.Image:
    """Return images (N, SIDE, SIDE, 3) in rows of COLUMNS on one sheet, filled up with white."""
    rest = np.full((-len(x) % COLUMNS, *x.shape[1:]), 255, np.uint8)
    rows = np.concatenate([x, rest]).reshape(-1, COLUMNS, SIDE, SIDE, 3)
    return Image.fromarray(rows.transpose(0, 2, 1, 3, 4).reshape(-1, COLUMNS * SIDE, 3))


def main() -> None:
    flags = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    flags.add_argument("--out", type=Path, default=FOLDER, help="folder of the files")
    flags.add_argument(
        "--downloads", type=Path, default=Path("runs/emoji"), help="folder of the npm packages"
    )
    asked = flags.parse_args()
    archives = {k: fetch(remote, asked.downloads / remote.name) for k, remote in PACKAGES.items()}
    known = [{code(k) for k in contents(archives[style], "chars.json")} for style in STYLES]
    table = texts(archives["texts"])
    codes = [c for c in table if all(c in k for k in known) and not TONES & set(c.split("-"))]
    x = images(archives, codes)
    kept = distinct(x)
    lines = [json.dumps({"code": codes[k], **table[codes[k]]}, ensure_ascii=False) for k in kept]
    asked.out.mkdir(parents=True, exist_ok=True)
    with whole(asked.out / TABLE) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for style in STYLES:
        with whole(asked.out / f"{style}.webp") as part:
            sheet(x[style][kept]).save(part, "webp", lossless=True, quality=100, method=6)
    for name in (TABLE, *(f"{style}.webp" for style in STYLES)):
        content = (asked.out / name).read_bytes()
        print(f"{hashlib.sha256(content).hexdigest()}  {len(content):>9,}  {name}")
    print(f"{len(kept)} concepts; left out as duplicates: {len(codes) - len(kept)}")


if __name__ == "__main__":
    main()
