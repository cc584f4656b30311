"""Time of tools.encode over that of the bare encoder on the same batches, in one process.

python experiments/benchmarks/encode.py
"""

import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import cli
from diffjax.codecs import Codec
from diffjax.codecs.encoding import Encoding, _moments
from diffjax.data import Memory, Reading
from diffjax.nets.autoencoder import autoencoder

ROUNDS, NUM, BATCH, SIDE = 5, 192, 32, 64


def codec() -> Codec:
    """Return an autoencoder of factor 4 with redrawn weights."""
    network = autoencoder(channels=32, multipliers=(1, 2, 4), blocks=1, groups=8)
    params = network.init(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)), None, None)
    return Codec(params, network=network, fingerprint="random")


def bare(codec: Codec, x: np.ndarray) -> float:
    """Return the seconds of the encoder alone, on uint8 images in memory."""
    began = time.perf_counter()
    for start in range(0, NUM, BATCH):
        jax.block_until_ready(_moments(codec, jnp.asarray(x[start : start + BATCH])))
    return time.perf_counter() - began


def whole(codec: Codec, x: np.ndarray) -> float:
    """Return the seconds of an encoding to a new folder."""
    sources = {"train": Memory(x, np.zeros(NUM, np.int32), 1, "image")}
    about = {"data": {"name": "random"}, "codec": "random"}
    encoding = Encoding(codec, sources, Reading(), about, batch_size=BATCH)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        encoding.run(Path(folder, "latents"))
        return time.perf_counter() - began


if __name__ == "__main__":
    cli.set_up_jax()
    encoder = codec()
    images = np.random.default_rng(0).integers(0, 256, (NUM, SIDE, SIDE, 3), np.uint8)
    bare(encoder, images), whole(encoder, images)  # compiled
    rounds = [(bare(encoder, images), whole(encoder, images)) for _ in range(ROUNDS)]
    alone, command = np.median(rounds, axis=0)
    ratio = np.median([w / b for b, w in rounds])
    print(f"{NUM} images: encoder {alone:.2f} s, tools.encode {command:.2f} s, ratio {ratio:.3f}")
