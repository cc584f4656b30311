"""Signed metadata of pictures: C2PA manifests (https://c2pa.org)."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from PIL import Image

import diffjax
from diffjax import builder
from diffjax.config import ConfigError
from diffjax.files import reason, whole
from diffjax.runs.output import Sign

FLAG = "--c2pa"
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""The term of IPTC for media that a trained model generated."""
CURVES = {256: "es256", 384: "es384", 521: "es512"}
"""Algorithms of C2PA for keys on elliptic curves, by their bits."""


def signer(paths: Sequence[Path]) -> Sign:
    """Return a function that adds a manifest to a PNG file, in place.

    paths: a chain of certificates, that of the signer first, and its private key (.pem). The
    manifest states that a trained model generated the picture, the version of diffjax, and the
    metadata of the picture. A reader trusts it only if it trusts the root of the chain; without it
    the manifest proves that the file did not change since it was signed. No server is asked for a
    time stamp. Raises ConfigError for files that cannot be used, and without c2pa-python.
    """
    if len(paths) != 2:
        raise ConfigError(f"{FLAG}: {len(paths)} files; needs a certificate and a key, CERT,KEY")
    try:
        import c2pa  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(f"{FLAG}: needs c2pa-python: pip install 'diffjax[c2pa]'") from error
    texts = [_read(path) for path in paths]
    info = c2pa.C2paSignerInfo(builder.refuse(FLAG)(algorithm)(texts[1]), *texts, None)

    def signed(name: str, texts: Mapping[str, str], source: IO[bytes], into: IO[bytes]) -> None:
        c2pa.Builder(json.dumps(manifest(name, texts))).sign(signs, "image/png", source, into)

    def sign(path: Path, texts: Mapping[str, str]) -> None:
        with whole(path) as part, path.open("rb") as source, part.open("w+b") as into:
            signed(path.name, texts, source, into)

    try:  # sign a pixel, since the files are checked as late as that
        signs = c2pa.Signer.from_info(info)
        Image.new("L", (1, 1)).save(pixel := io.BytesIO(), "PNG")
        signed("pixel", {}, io.BytesIO(pixel.getvalue()), io.BytesIO())
    except c2pa.C2paError as error:
        raise ConfigError(f"{FLAG}: the files do not sign ({reason(error)})") from error
    return sign


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{FLAG}={path}: cannot be read ({reason(error)})") from error


def algorithm(key: bytes) -> str:
    """Return the name of the signature of a private key, such as `es256`.

    Raises ValueError for text that is no private key, and for a kind that C2PA does not know.
    """
    from cryptography.hazmat.primitives import (  # pyright: ignore[reportMissingImports]
        serialization,
    )

    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"KEY is no private key without a password ({reason(error)})") from error
    kind, size = type(private).__name__.lower(), getattr(private, "key_size", 0)
    for name, algorithm in (("ed25519", "ed25519"), ("rsa", "ps256"), ("ec", CURVES.get(size))):
        if kind.startswith(name) and algorithm:
            return algorithm
    known = f"{', '.join(CURVES.values())}, ed25519, ps256"
    raise ValueError(f"KEY is a {type(private).__name__} of {size} bits; known: {known}")


def manifest(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the manifest of a picture with these metadata.

    >>> made = manifest("a.png", {"seed": "3"})
    >>> made["assertions"][0]["data"]["actions"][0]["digitalSourceType"].rpartition("/")[2]
    'trainedAlgorithmicMedia'
    """
    agent = {"name": "diffjax", "version": diffjax.__version__}
    created = {"action": "c2pa.created", "digitalSourceType": SOURCE, "softwareAgent": agent}
    return {
        "claim_generator_info": [agent],
        "title": name,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": "io.github.diffjax.sample", "data": dict(texts)},
        ],
    }
