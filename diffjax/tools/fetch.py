"""Download published weights by the name of their repository, a file by its URL, or CIFAR-10.

    python -m diffjax.tools.fetch google/ddpm-cifar10-32
    python -m diffjax.tools.fetch facebook/DiT-XL-2-256 --only=transformer/* --only=scheduler/*
    python -m diffjax.tools.fetch https://example.org/network.pkl --sha256=2f0c...
    python -m diffjax.tools.fetch cifar10 --out=data

OWNER/NAME is a model repository of huggingface.co. The command downloads its descriptions (.json)
and its weights in one format, which `tools.convert` and `diffjax.load` read. `cifar10` becomes
ArrayRecord files in OUT/cifar10, without TensorFlow, for the flags
--config.data.name=tfds:cifar10 --config.data.data_dir=OUT.

An interrupted download resumes. Every file is compared with its published SHA-256 before it
receives its name; a file that differs is deleted.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
from pathlib import Path

from diffjax import cli
from diffjax.config import ConfigError

REPOSITORY = r"[\w.-]+/[\w.-]+"
CIFAR10 = "cifar10"


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("tools.fetch", __doc__)
    flags.add_argument("source", metavar="SOURCE", help="OWNER/NAME, a URL, or cifar10")
    flags.add_argument(
        "--out",
        type=cli.path,
        help="folder (default: ~/.cache/diffjax/hub/... for weights, data for a data set)",
    )
    flags.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help="download only matching files of a repository; may be repeated",
    )
    flags.add_argument("--revision", help="branch, tag or commit of a repository (default: main)")
    flags.add_argument("--sha256", help="SHA-256 of a URL; without it the file is not verified")
    flags.add_argument(
        "--base", metavar="URL", help="another server: a mirror of huggingface.co, or of CIFAR-10"
    )
    return flags


def run() -> int:
    asked = cli.read(flags())
    source = asked.source
    is_url = re.match(r"https?://", source) is not None
    if not is_url and source != CIFAR10 and not re.fullmatch(REPOSITORY, source):
        raise ConfigError(f"SOURCE={source}: needs OWNER/NAME, a URL, or {CIFAR10}")
    for flag, fits in (
        ("only", not is_url and source != CIFAR10),
        ("revision", not is_url and source != CIFAR10),
        ("sha256", is_url),
        ("base", not is_url),
    ):
        if getattr(asked, flag) and not fits:
            raise ConfigError(f"--{flag}: does not apply to {source}; leave it out")
    if asked.sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", asked.sha256):
        raise ConfigError(f"--sha256={asked.sha256}: needs 64 hex digits")
    if asked.base and not re.match(r"https?://", asked.base):
        raise ConfigError(f"--base={asked.base}: needs a URL")
    if is_url:
        return file(asked)
    return cifar10(asked) if source == CIFAR10 else weights(asked)


def file(asked: argparse.Namespace) -> int:
    """Download one file by its URL."""
    from diffjax.builder import refuse
    from diffjax.io.fetch import Remote, fetch

    name = asked.source.partition("?")[0].rstrip("/").rpartition("/")[2]
    if not re.search(r"://[^/]+/", asked.source) or not name:
        raise ConfigError(f"SOURCE={asked.source}: the URL names no file")
    remote = Remote(asked.source, name, (asked.sha256 or "").lower())
    path = (asked.out or hub() / "files") / name
    refuse("SOURCE")(fetch)(remote, path)
    print(f"{path}" + ("" if asked.sha256 else ": not verified, since --sha256 is not set"))
    return 0


def weights(asked: argparse.Namespace) -> int:
    """Download the files of a model repository from which a network can be read."""
    from diffjax.builder import refuse
    from diffjax.io.fetch import HUB, chosen, fetch, repository

    refuse_source = refuse(f"SOURCE={asked.source}")
    files = refuse_source(repository)(asked.source, asked.revision or "main", asked.base or HUB)
    files = refuse("--only" if asked.only else f"SOURCE={asked.source}")(chosen)(
        files, asked.only or ()
    )
    out = asked.out or hub() / asked.source / (asked.revision or "main")
    total = sum(remote.size for remote in files)
    print(f"{len(files)} files, {total / 1e6:.1f} MB, to {out}", flush=True)
    for remote in files:
        refuse_source(fetch)(remote, out / remote.name)
    place = shlex.quote(str(out))
    name = asked.source.rpartition("/")[2]
    print(f"next: python -m diffjax.tools.convert {place} --out=runs/{name}")
    return 0


def cifar10(asked: argparse.Namespace) -> int:
    """Download the archive of CIFAR-10, and write the data set from it."""
    from diffjax.builder import refuse
    from diffjax.data import cifar10, prepare
    from diffjax.io.fetch import fetch

    out = (asked.out or Path("data")) / CIFAR10
    done, work = out / prepare.VERSION, out / ".work"
    if done.exists():
        print(f"{out}: exists already")
    else:
        remote = cifar10.ARCHIVE
        if asked.base:
            remote = remote._replace(url=f"{asked.base.rstrip('/')}/{remote.name}")
        archive = refuse(f"SOURCE={CIFAR10}")(fetch)(remote, hub() / "files" / remote.name)
        originals = refuse(f"SOURCE={CIFAR10}")(cifar10.read)(archive)
        refuse("--out")(work.mkdir)(parents=True, exist_ok=True)
        seen = prepare.scan(originals, work, 0, 3, os.cpu_count() or 1)
        items = {split: (seen.split == k).nonzero()[0] for k, split in enumerate(originals)}
        prepare.write(done, CIFAR10, items, seen, work, originals["train"].names)
        shutil.rmtree(work)
    place = shlex.quote(str(out.parent))
    print(f"next: --config.data.name=tfds:{CIFAR10} --config.data.data_dir={place}")
    return 0


def hub() -> Path:
    """Return the user's folder for downloads."""
    from diffjax.io.standard import cache

    return cache().parent / "hub"


if __name__ == "__main__":
    cli.main(run)
