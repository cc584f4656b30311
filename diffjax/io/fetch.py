"""Downloads that resume, are verified by checksum, and appear whole or not at all."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, NamedTuple

from diffjax.files import reason
from diffjax.progress import Progress

HUB = "https://huggingface.co"
PART, SECONDS, TRIES = 2**20, 30, 3
"""Bytes per read; seconds without an answer, and consecutive connections without a byte, after
which a download fails."""
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npz")
"""Endings of weights; where a repository has several, the first of them is taken."""


class Remote(NamedTuple):
    """A file on a server.

    sum: SHA-256, or SHA-1 as git computes it, in hex digits; "" where it is not known. size: in
    bytes, 0 where it is not known.
    """

    url: str
    name: str
    sum: str = ""
    size: int = 0


class Unfinished(ValueError):
    """A download that was interrupted; the same call resumes it."""


def fetch(remote: Remote, path: Path) -> Path:
    """Download a file to `path`, through `path.part`, unless it is there with its checksum.

    An interrupted download is resumed where the checksum is known, as only then is it certain that
    the parts belong together. Raises ValueError with one line that names the address: where there
    is no network or no such file, where the download was interrupted (`Unfinished`), and where the
    content has another checksum, of which nothing is kept.
    """
    if path.is_file() and (not remote.sum or _sum(path, remote.sum) == remote.sum):
        return path
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not remote.sum:
            part.unlink(missing_ok=True)
        _download(remote, part)
        if remote.sum and (got := _sum(part, remote.sum)) != remote.sum:
            part.unlink()
            raise ValueError(f"{remote.url}: its checksum is {got}, not {remote.sum}: deleted")
        os.replace(part, path)
    except urllib.error.HTTPError as error:
        raise ValueError(f"{remote.url}: {_refused(error)}") from error
    except urllib.error.URLError as error:
        raise ValueError(f"{remote.url}: cannot be reached ({_why(error)})") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({reason(error)})") from error
    finally:
        if part.is_file() and not part.stat().st_size:
            part.unlink()
    return path


def _download(remote: Remote, part: Path) -> None:
    """Fill `part` from its present size on, and reconnect after interruptions."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        if remote.size and before == remote.size:
            return
        total, why = _once(remote, part, before if before < (remote.size or before + 1) else 0)
        after = part.stat().st_size
        if after == total or not (total or why):
            return
        failures = failures + 1 if after <= before else 0
        if failures == TRIES or not remote.sum:
            kept = "; the same command resumes"
            if not remote.sum:
                kept = ""
                part.unlink()
            count = f"{after} of {total if total > 0 else '?'} bytes"
            raise Unfinished(f"{remote.url}: broke off after {count} ({why or 'closed'}){kept}")


def _once(remote: Remote, part: Path, start: int) -> tuple[int, str]:
    """Read from one connection; return the total size, 0 if unknown, and why it was closed."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(remote.url, headers=headers)
    part.touch()
    try:
        answer = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:  # no bytes from there on: start again
            raise
        error.close()
        part.unlink()
        return _once(remote, part, 0)
    except (ConnectionError, TimeoutError, HTTPException) as error:  # before an answer
        return remote.size or -1, reason(error)
    with answer:
        resumed = start if answer.status == 206 else 0  # 200: the whole file, whatever the request
        length = int(answer.headers.get("Content-Length") or 0)
        total = resumed + length if length else remote.size
        with part.open("ab" if resumed else "wb") as file:
            return total, _copy(answer, file, remote.name, resumed, total)


def _copy(answer: Any, file: IO[bytes], name: str, start: int, total: int) -> str:
    """Copy an answer to a file; return why it stopped before the end, or ""."""
    with Progress(f"download {name}", total or start, "B", start) as progress:
        while True:
            try:
                block = answer.read(PART)
            except (OSError, HTTPException) as error:
                return reason(error)
            if not block:
                return ""
            file.write(block)
            progress.advance(len(block))


def _why(error: Exception) -> str:
    """Return why there is no connection, which a URLError wraps."""
    inner = getattr(error, "reason", None)
    return reason(inner if isinstance(inner, Exception) else error)


def _refused(error: urllib.error.HTTPError) -> str:
    error.close()
    text = f"{error.code} {error.reason}"
    if error.code in (401, 403):
        return f"{text}: needs a login, or does not exist; download the file by hand"
    return text


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum(path: Path, known: str) -> str:
    """Return the SHA-256 of a file, or the SHA-1 of its git object if `known` has that length."""
    if len(known) != 40:
        return sha256(path)
    with path.open("rb") as file:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        while block := file.read(PART):
            digest.update(block)
        return digest.hexdigest()


def repository(name: str, revision: str = "main", base: str = HUB) -> list[Remote]:
    """Return the files of a model repository, `OWNER/NAME`, with their checksums.

    Raises ValueError where there is no such repository, or the answer is not a list of files.
    """
    place = f"{base.rstrip('/')}/api/models/{name}/tree/{urllib.parse.quote(revision, safe='')}"
    url, listed = f"{place}?recursive=true", []
    while url:
        page, url = _page(url)
        listed += page
    files = []
    for entry in listed:
        if isinstance(entry, dict) and entry.get("type") == "file" and "path" in entry:
            large = entry.get("lfs") or {}
            path = urllib.parse.quote(entry["path"])
            address = f"{base.rstrip('/')}/{name}/resolve/{revision}/{path}"
            sum_ = large.get("oid") or entry.get("oid") or ""
            files.append(Remote(address, entry["path"], sum_, int(entry.get("size") or 0)))
    if not files:
        raise ValueError(f"{place}: lists no files")
    return files


def _page(url: str) -> tuple[list[Any], str]:
    """Return a list of entries, and the address of the next page, or ""."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            entries = json.loads(answer.read())
            following = re.search(r'<([^>]+)>;\s*rel="next"', answer.headers.get("Link") or "")
    except urllib.error.HTTPError as error:
        raise ValueError(f"{url}: {_refused(error)}") from error
    except (OSError, HTTPException) as error:
        raise ValueError(f"{url}: cannot be reached ({_why(error)})") from error
    except ValueError as error:
        raise ValueError(f"{url}: not a list of files ({reason(error)})") from error
    if not isinstance(entries, list):
        raise ValueError(f"{url}: not a list of files")
    return entries, following[1] if following else ""


def chosen(files: Sequence[Remote], patterns: Sequence[str] = ()) -> list[Remote]:
    """Return the files from which a network is read: descriptions, and weights in one form.

    patterns: such as `unet/*`, in place of that choice. Raises ValueError for a pattern that
    matches no file, for a repository without weights, and for names that lead out of the folder.
    """
    if outside := [f.name for f in files if f.name.startswith("/") or ".." in f.name.split("/")]:
        raise ValueError(f"{outside[0]!r}: would be written outside of the folder")
    fits = lambda pattern: [f for f in files if fnmatch.fnmatch(f.name, pattern)]
    for pattern in patterns:
        if not fits(pattern):
            raise ValueError(
                f"{pattern}: matches no file; known: {', '.join(f.name for f in files)}"
            )
    if patterns:
        return [f for f in files if any(fnmatch.fnmatch(f.name, p) for p in patterns)]
    for ending in WEIGHTS:
        if weights := [f for f in files if f.name.endswith(ending)]:
            return [f for f in files if f.name.endswith(".json") or f in weights]
    raise ValueError(f"no weights among {', '.join(f.name for f in files)}")
