"""Catalogue of feature networks, in whose features metrics compare items."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from diffjax.arrays import Params, catalogue
from diffjax.data.kinds import lookup
from diffjax.data.spectra import log_mel
from diffjax.devices.mesh import layout
from diffjax.features import inception_names as inception_file
from diffjax.features import vit_names as vit_file
from diffjax.features.inception import inception as inception_net
from diffjax.features.judge import BATCH, outputs
from diffjax.io import bpe, standard
from diffjax.io.reading import read
from diffjax.progress import Progress

Arrays = dict[str, np.ndarray]
Apply = Callable[[Params, Any], Mapping[str, Any]]
Known = Any
"""Real data: `train` with x and label, `classes`, and `judge`, which is fitted at first access.

It is not a protocol, because a check at run time would access `judge`.
"""


@dataclass(frozen=True)
class Extractor:
    """A map from items to features, with its description for results.

    fingerprint: first 12 hex digits of the SHA-256 of the weights, "" where there are none. about:
    which weights these are, and their source. run: maps a batch (B, ...) as stored, B a multiple of
    the number of devices, to `pool` (B, D), and where the network has them to `logits` (B, K) and
    `spatial` (B, S). captions: maps texts to (N, D) in the space of `pool`, where there is a text
    tower.

    >>> square = Extractor("square", "", "squares of the values", lambda x: {"pool": x**2})
    >>> extract(square, np.full((3, 2), 3.0))["pool"].shape
    (3, 2)
    """

    name: str
    fingerprint: str
    about: str
    run: Callable[[np.ndarray], Arrays]
    captions: Callable[[Sequence[str]], np.ndarray] | None = None


def extract(extractor: Extractor, x: np.ndarray, batch_size: int = 64) -> Arrays:
    """Return the features of all items of x (N, ...), by name, in the order of the items.

    The last batch is filled up, so that one program serves all batches; each is split over all
    devices. batch_size: items per batch, rounded up to a multiple of the number of devices. Raises
    ValueError for no items.

    >>> from types import SimpleNamespace
    >>> from diffjax import data
    >>> points = data.moons("train", size=20)
    >>> extract(pixels(SimpleNamespace(train=points)), points.x)["pool"].shape
    (20, 2)
    """
    if not len(x):
        raise ValueError(f"{extractor.name}: features of no items; needs at least 1 item")
    parts = []
    with Progress(f"features {extractor.name}", len(x), "item") as progress:
        for rows, count in layout().batches(len(x), min(batch_size, len(x))):
            parts.append({k: v[:count] for k, v in extractor.run(x[rows]).items()})
            progress.advance(count)
    return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}


def pixels(real: Known) -> Extractor:
    """The values themselves, without a network: distances compare colours in places only.

    >>> from types import SimpleNamespace
    >>> from diffjax import data
    >>> pixels(SimpleNamespace(train=data.moons("train", size=20))).about
    'values of pixels in [0, 1], no network'
    """
    kind = real.train.form.kind
    about = "values of pixels in [0, 1], no network"
    return Extractor("pixels", "", about, lambda x: {"pool": features(x, kind)})


def features(x: np.ndarray, kind: str) -> np.ndarray:
    """Return stored items of a kind of data as (N, D): pixels in [0, 1], other values unchanged.

    >>> features(np.full((1, 1, 1, 1), 255, np.uint8), "image").tolist()
    [[1.0]]
    """
    return lookup(kind).values(x)


def mel(real: Known, bands: int = 40) -> Extractor:
    """Means and deviations over time of the levels of mel bands of a sound, and of their changes.

    There are four numbers for each band, without a network. bands: their number. Raises ValueError
    for items that are no sounds, or state no rate.

    >>> from types import SimpleNamespace
    >>> from diffjax import data
    >>> mel(SimpleNamespace(train=data.moons("train", size=20)))
    Traceback (most recent call last):
    ValueError: features=mel: needs sounds with a rate; the items are points
    """
    form = real.train.form
    rate = dict(form.units).get("rate")
    if form.kind != "audio" or rate is None:
        raise ValueError(f"features=mel: needs sounds with a rate; the items are {form.kind}")

    def run(x: np.ndarray) -> Arrays:
        levels = log_mel(np.asarray(form.items.normalise(x)).mean(-1), rate, bands)
        both = (levels, np.diff(levels, axis=1))
        return {"pool": np.concatenate([f(a, axis=1) for a in both for f in (np.mean, np.std)], 1)}

    return Extractor("mel", "", f"mean and deviation of {bands} mel bands, no network", run)


def classifier(real: Known) -> Extractor:
    """The small classifier, fitted to the training items.

    It needs no download, and sees sounds as the levels of their mel bands. Its distances compare
    results on these items only. Raises ValueError where the items have no classes.

    >>> from types import SimpleNamespace
    >>> classifier(SimpleNamespace(classes=0))
    Traceback (most recent call last):
    ValueError: features=classifier: ...
    """
    if not real.classes:
        raise ValueError("features=classifier: the data have no classes; allowed: other features")
    judge = real.judge
    about = (
        f"features.classifier fitted to these training items, {judge.steps} steps of {BATCH}: its "
        f"numbers compare with others of the same items only, not with published ones"
    )
    apply = functools.partial(outputs, classes=real.classes)
    extractor = network("classifier", judge.params, apply, about)
    return dataclasses.replace(extractor, run=lambda x: extractor.run(judge.see(x)))


def inception(real: Known, weights: str = "", resize: str = "tensorflow1") -> Extractor:
    """Inception-v3, the network of the Frechet inception distance.

    See `features.inception` for its features. weights: pt_inception-2015-12-05-6726825d.pth, by
    default downloaded once. resize: the method of resizing to 299 x 299, `tensorflow1`, as in most
    evaluators, or `pytorch`, as in pytorch-fid. Raises ValueError for data other than uint8 images,
    and for another method.

    >>> from types import SimpleNamespace
    >>> from diffjax import data
    >>> inception(SimpleNamespace(train=data.moons("train", size=20)))
    Traceback (most recent call last):
    ValueError: inception: ...
    """
    only_images("inception", real)
    net, file = inception_net(resize), standard.weights(inception_file.STANDARD, weights)
    params = inception_file.convert(read(file.path).tensors)
    about = f"{file.about}; images to 299 x 299 as {resize}"
    return published("inception", file, params, net.apply, about)


def dinov2_b14(real: Known, weights: str = "") -> Extractor:
    """DINOv2 ViT-B/14 (arXiv:2304.07193); see `dinov2_l14`.

    >>> from types import SimpleNamespace
    >>> from diffjax import data
    >>> dinov2_b14(SimpleNamespace(train=data.moons("train", size=20)))
    Traceback (most recent call last):
    ValueError: dinov2_b14: ...
    """
    only_images("dinov2_b14", real)
    return _dinov2("dinov2_b14", vit_file.DINOV2_B14, weights)


def dinov2_l14(real: Known, weights: str = "") -> Extractor:
    """DINOv2 ViT-L/14 (arXiv:2304.07193), the network of FD-DINOv2 (arXiv:2306.04675).

    pool: the normalised class token. weights: dinov2_vitl14_pretrain.pth, by default downloaded
    once. Raises ValueError for data other than uint8 images.

    >>> from types import SimpleNamespace
    >>> from diffjax import data
    >>> dinov2_l14(SimpleNamespace(train=data.moons("train", size=20)))
    Traceback (most recent call last):
    ValueError: dinov2_l14: ...
    """
    only_images("dinov2_l14", real)
    return _dinov2("dinov2_l14", vit_file.DINOV2_L14, weights)


def _dinov2(name: str, known: standard.Standard, weights: str) -> Extractor:
    file = standard.weights(known, weights)
    _, net, params = vit_file.dinov2(read(file.path).tensors)
    about = f"{file.about}; images to 224 x 224 as by Pillow, bicubic"
    return published(name, file, params, net.apply, about)


def clip_l14(real: Known, weights: str = "", vocabulary: str = "") -> Extractor:
    """The image tower of CLIP ViT-L/14 (arXiv:2103.00020).

    pool (B, 768): the vectors that are compared with captions, not divided by their norm. weights:
    model.safetensors of openai/clip-vit-large-patch14, by default downloaded once. Weights for
    another size resize images to that size. vocabulary: vocabulary of captions, see `captions`.
    Raises ValueError for data other than uint8 images.

    >>> from types import SimpleNamespace
    >>> from diffjax import data
    >>> clip_l14(SimpleNamespace(train=data.moons("train", size=20)))
    Traceback (most recent call last):
    ValueError: clip_l14: ...
    """
    only_images("clip_l14", real)
    file = standard.weights(vit_file.CLIP_L14, weights)
    _, net, params = vit_file.clip_image(read(file.path).tensors)
    about = f"{file.about}; images resized to squares as by Pillow, bicubic"
    extractor = published("clip_l14", file, params, net.apply, about)
    texts = functools.partial(captions, weights=weights, vocabulary=vocabulary)
    return dataclasses.replace(extractor, captions=texts)


def captions(texts: Sequence[str], weights: str = "", vocabulary: str = "") -> np.ndarray:
    """Return vectors (N, 768) of captions by the text tower of CLIP ViT-L/14.

    They lie in the space of `clip_l14` and are not divided by their norm. weights: those of
    `clip_l14`. vocabulary: bpe_simple_vocab_16e6.txt.gz, by default downloaded once, or merges.txt
    of Hugging Face.
    """
    words = bpe.read(standard.weights(bpe.STANDARD, vocabulary, setting="vocabulary").path)
    file = standard.weights(vit_file.CLIP_L14, weights)
    _, net, params = vit_file.clip_text(read(file.path).tensors)
    tower = network("clip_l14 captions", params, net.apply, file.about, file.sha256[:12])
    return extract(tower, words(texts, params["positions"].shape[1]))["pool"]


def published(
    name: str, file: standard.Weights, params: Params, apply: Apply, about: str
) -> Extractor:
    """Return the extractor of a published network of uint8 images."""
    extractor = network(name, params, apply, about, file.sha256[:12])

    def run(x: np.ndarray) -> Arrays:
        if x.ndim != 4 or x.dtype != np.uint8:
            raise ValueError(f"{name}: items {x.shape[1:]} of {x.dtype}; needs uint8 images")
        return extractor.run(x)

    return dataclasses.replace(extractor, run=run)


def only_images(name: str, real: Known) -> None:
    """Raise ValueError unless the data are uint8 images, which a published network needs."""
    form = real.train.form
    if form.kind != "image" or form.dtype != "uint8":
        raise ValueError(f"{name}: {form.kind} items of {form.dtype}; needs uint8 images")


def network(name: str, params: Params, apply: Apply, about: str, known: str = "") -> Extractor:
    """Return the extractor of `apply(params, x) -> features`, compiled.

    Batches are split over all devices. Products are exact in float32, on GPU and TPU as well,
    because faster products would change distances. known: the fingerprint, where it is not that of
    the parameters.
    """
    devices = layout()

    def exact(params: Params, x: Any) -> Mapping[str, Any]:
        with jax.default_matmul_precision("highest"):
            return apply(params, x)

    here, compiled = devices.put(params), jax.jit(exact)
    run = lambda x: dict(devices.whole(compiled(here, devices.put(x, 0))))
    return Extractor(name, known or fingerprint(params), about, run)


def fingerprint(params: Params) -> str:
    """Return the first 12 hex digits of the SHA-256 of all arrays and their places in the tree."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]


EXTRACTORS = catalogue(pixels, mel, classifier, inception, dinov2_b14, dinov2_l14, clip_l14)
