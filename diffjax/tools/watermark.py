"""Watermarks in the initial noise of samples: make a key, and detect its messages in images.

    python -m diffjax.tools.watermark key --out=runs/digits.key --bits=16
    python -m diffjax.sample --workdir=runs/digits --watermark=runs/digits.key,message=me \\
        --num=20 --out=runs/marked
    python -m diffjax.tools.watermark detect --workdir=runs/digits --key=runs/digits.key \\
        --image=runs/marked

`key` writes a secret key. With it, `sample --watermark` encrypts a message into the signs of the
initial noise, whose distribution stays normal (Gaussian Shading, arXiv:2404.04956). `detect` finds
that noise by running the sampler backwards with the network that made the images, without
conditions and without guidance, and counts how many signs agree with the message.

For each image it prints that share, the message by majority vote, and p: the probability that an
image made without the key agrees as well, over all candidates. An image with p of at most --rate is
called marked. --message tests one message, --messages=FILE registered ones, one per line; without
either the test allows for every message. The exit code is 0 if all images are marked, else 1.

Each image has its own encryption, by its seed and number. They are in the metadata of pictures that
a folder of `sample --out` holds. Where metadata are gone, all seeds of --seed and numbers below
--most are tried.

A watermark shows the provenance of honest copies. It is no proof: it does not survive crops, and
published attacks remove and forge such marks (arXiv:2604.06662). Who has the key can mark anything.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from diffjax import cli
from diffjax.config import ConfigError

if TYPE_CHECKING:
    from diffjax.watermark import Key, Reading

RATE = 1e-6
"""Default false-positive rate of one image."""


def flags() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = cli.parser("tools.watermark", __doc__)
    commands = flags.add_subparsers(dest="command", required=True)
    key = commands.add_parser("key", help="write a new secret key", formatter_class=cli.Formatter)
    key.add_argument("--out", type=cli.path, required=True, help="file of the key, a new one")
    key.add_argument("--bits", type=cli.whole(1, 4096), default=32, help="bits of a message")
    detect = commands.add_parser(
        "detect", help="read the messages of images", formatter_class=cli.Formatter
    )
    detect.add_argument(
        "--image", type=cli.path, required=True, metavar="FILE|FOLDER", help="what to examine"
    )
    detect.add_argument("--key", type=cli.path, required=True, help="file of the key")
    detect.add_argument("--message", help="the only message to test: a text, or 0x and digits")
    detect.add_argument("--messages", type=cli.path, help="file of registered messages")
    detect.add_argument(
        "--rate", type=cli.number, default=RATE, help="false-positive rate of one image, in (0, 1)"
    )
    detect.add_argument(
        "--seed",
        type=cli.listed(cli.seed),
        default=[0],
        metavar="SEED,...",
        help="seeds to try where metadata are missing",
    )
    detect.add_argument(
        "--most", type=cli.positive, default=1000, help="numbers of samples to try there"
    )
    detect.add_argument(
        "--steps", type=cli.positive, default=50, help="network passes of the inversion"
    )
    detect.add_argument("--label", help="class of the images (default: unknown)")
    detect.add_argument("--prompt", help="text of the images (default: unknown)")
    detect.add_argument("--batch-size", type=cli.positive, default=64, help="images per batch")
    cli.network_flags(detect)
    return flags


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())
    if asked.command == "key":
        from diffjax.files import reason
        from diffjax.watermark import new_key, write_key

        key = new_key(asked.bits)
        try:
            write_key(asked.out, key)
        except OSError as error:
            raise ConfigError(f"--out={asked.out}: {reason(error)}; needs a new file") from error
        print(f"wrote {asked.out}: key {key.name}, {key.bits} bits; keep it secret, and a copy")
        return 0
    if not 0 < asked.rate < 1:
        raise ConfigError(f"--rate={asked.rate:g}: needs 0 < rate < 1")
    return detect(asked)


def messages_of(asked: argparse.Namespace, key: Key) -> list[tuple[int, ...]]:
    """Return the messages of the flags; none where every message counts."""
    from diffjax import builder
    from diffjax.files import reason
    from diffjax.watermark import bits_of

    if asked.message is not None and asked.messages:
        raise ConfigError("--message, --messages: allowed: one of them")
    if asked.message is not None:
        return [builder.refuse("--message")(bits_of)(asked.message, key.bits)]
    if not asked.messages:
        return []
    place = f"--messages={asked.messages}"
    try:
        lines = asked.messages.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: cannot be read ({reason(error)})") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ConfigError(f"{place}: holds no message")
    return [builder.refuse(place)(bits_of)(text, key.bits) for text in texts]


def detect(asked: argparse.Namespace) -> int:
    """Print a line per image; return 0 if all of them are marked."""
    from diffjax import builder
    from diffjax.watermark import read, read_key, threshold

    key = builder.refuse("--key")(read_key)(asked.key)
    messages = messages_of(asked, key)
    cli.set_up_jax()

    import numpy as np

    from diffjax.runs.detecting import candidates, initial_noise, suspects
    from diffjax.runs.trained import load

    sampling = {} if asked.ema is None else {"ema": asked.ema}
    adapters = dict(asked.adapter)
    trained = load(asked.workdir, sampling, codec=asked.codec, adapters=adapters)
    builder.refuse("--key")(key.places)(int(np.prod(trained.experiment.form.shape)))
    found = suspects(trained, asked.image)
    noise = initial_noise(
        trained,
        np.concatenate([one.items for one in found]),
        steps=asked.steps,
        label=asked.label,
        prompt=asked.prompt,
        batch_size=asked.batch_size,
    )
    each = [(one, f"[{k}]" * (len(one.items) > 1)) for one in found for k in range(len(one.items))]
    names, stated = [one.name + number for one, number in each], [one.nonce for one, _ in each]
    marked, width = 0, max(map(len, names))
    for name, z, nonce in zip(names, noise, stated, strict=True):
        tried = candidates(nonce, asked.seed, range(asked.most))
        reading = read(key, z, tried, messages)
        counts = key.bits, len(tried), len(messages)
        needed = threshold(reading.of, asked.rate, *counts)
        marked += reading.agreeing >= needed
        print(f"{name:<{width}}  {described(reading, needed)}", flush=True)
    print(f"{marked} of {len(names)} marked with key {key.name}, at a rate of {asked.rate:g}")
    return 0 if marked == len(names) else 1


def described(reading: Reading, needed: int) -> str:
    """Return the line of an image."""
    from diffjax.watermark import text_of

    seed, k = reading.nonce
    share = f"{reading.agreeing} of {reading.of} agree ({reading.agreeing / reading.of:.3f})"
    p = f"p = {reading.p:.1e}" if reading.p else "p < 1e-300"
    if reading.agreeing < needed:
        return f"{share}, {p}: not marked (needs {needed})"
    message = text_of(reading.message)
    return f"{share}, {p}, needs {needed}: message {message!r}, seed {seed}, number {k}"


if __name__ == "__main__":
    cli.main(run)
