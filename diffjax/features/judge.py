"""A classifier of real data that judges whether class-conditional samples have their class."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from diffjax.arrays import Params, keys_at
from diffjax.data import Form, Memory, to_float
from diffjax.features.classifier import classifier
from diffjax.files import read_arrays, write_arrays
from diffjax.progress import Progress

BATCH, RATE, STRIDE = 128, 2e-3, 50
EPOCHS, LEAST, MOST = 30, 300, 2000
"""Length of the fit: epochs, and the smallest and largest number of steps."""


See = Callable[[np.ndarray], np.ndarray]


def itself(x: np.ndarray) -> np.ndarray:
    """Return items as they are, which a judge of images and vectors sees."""
    return x


@dataclass(frozen=True)
class Judge:
    """A classifier fitted to real data, independent of the model that generated the samples.

    see: converts stored items to what the classifier sees of them, images or vectors.
    """

    params: Params
    classes: int
    steps: int
    see: See = itself

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the class (N,) of each stored item of x."""
        parts = np.split(x, range(BATCH, len(x), BATCH))
        seen = [outputs(self.params, jnp.asarray(self.see(part)), self.classes) for part in parts]
        return np.concatenate([np.asarray(part["logits"]).argmax(1) for part in seen])

    def right(self, x: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Return whether each item of x (N, ...) has the class that was asked for, bool (N,)."""
        return self.predict(x) == asked

    @property
    def about(self) -> str:
        return f"features.classifier, {self.steps} steps of {BATCH}"


def sight(form: Form) -> See:
    """Return the function from stored items to what a classifier sees of them (`Kind.seen`).

    It is tried on one item. Raises ValueError where the result is neither images nor vectors.

    >>> sight(Form("audio", (64, 1)))
    Traceback (most recent call last):
    ValueError: a classifier of sounds: ...
    """
    kind, units = form.items, dict(form.units)
    see = lambda x: kind.seen(x, units)
    shape = see(np.zeros((1, *form.shape), form.dtype)).shape[1:]
    if len(shape) not in (1, 3):
        what = f"{form.kind} {form.shape}"
        raise ValueError(f"classifier: needs images, vectors or sounds; the items are {what}")
    return see


def judged(form: Form) -> bool:
    """Return whether the classifier supports the items: images, vectors, or pictures of items."""
    try:
        sight(form)
    except ValueError:
        return False
    return True


def fit(train: Memory, flip: bool = False, cache: Path | None = None) -> Judge:
    """Fit the classifier to `train`, with the same result each time.

    flip: mirror images at random. They are also shifted by up to 1/16 of their height. Of sounds,
    the classifier sees the levels of mel bands as images. cache: folder where the fitted classifier
    is stored for later calls. The fit takes 30 epochs, but at least 300 steps and at most 2,000.
    Raises ValueError for items that are neither images nor vectors, nor seen as such.

    >>> fit(Memory(np.zeros((4, 16, 1), np.float32), np.zeros(4, int), classes=2))
    Traceback (most recent call last):
    ValueError: classifier: ...
    """
    see = sight(train.form)
    x = np.concatenate([see(part) for part in np.split(train.x, range(BATCH, len(train), BATCH))])
    steps = STRIDE * round(min(max(EPOCHS * len(train) / BATCH, LEAST), MOST) / STRIDE)
    net, key = classifier(train.classes), jax.random.key(0)
    first = to_float(jnp.asarray(x[:1]))
    file = cache and cache / f"classifier-{_fingerprint(x, train, flip)}.npz"
    if file and file.exists():
        with contextlib.suppress(ValueError):  # a damaged file is replaced
            leaves = [jnp.asarray(value) for value in read_arrays(file).values()]
            structure = jax.tree.structure(jax.eval_shape(net.init, key, first))
            return Judge(jax.tree.unflatten(structure, leaves), train.classes, steps, see)
    params = jax.jit(net.init)(key, first)
    state = (params, _optimizer(steps).init(params), jnp.zeros((), jnp.int32))
    advance = functools.partial(_advance, classes=train.classes, steps=steps, flip=flip)
    items, label = jnp.asarray(x), jnp.asarray(train.label)
    with Progress("fit classifier", steps, "step") as progress:
        for _ in range(steps // STRIDE):
            state, loss = advance(state, key, items, label)
            progress.advance(STRIDE)
            loss.block_until_ready()
    if file:
        leaves = map(np.asarray, jax.tree.leaves(state[0]))
        write_arrays(file, {f"{i:03d}": leaf for i, leaf in enumerate(leaves)})
    return Judge(state[0], train.classes, steps, see)


def _fingerprint(x: np.ndarray, train: Memory, flip: bool) -> str:
    """Return the fingerprint of seen data x and settings, which differs for another classifier."""
    digest = hashlib.sha256(repr((x.shape, train.classes, flip, BATCH, RATE)).encode())
    digest.update(x.tobytes())
    digest.update(np.asarray(train.label).tobytes())
    return digest.hexdigest()[:12]


def _optimizer(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(RATE, steps))


@functools.partial(jax.jit, static_argnames="classes")
def outputs(params: Params, x: Array, classes: int) -> dict[str, Array]:
    """Return the features of seen items x, uint8 images or points: `pool` and `logits`.

    pool: the input of the last layer.
    """
    return classifier(classes).apply(params, to_float(x))


@functools.partial(jax.jit, static_argnames=("classes", "steps", "flip"), donate_argnums=0)
def _advance(
    state: Any,
    key: Key[Array, ""],
    x: Array,
    label: Array,
    *,
    classes: int,
    steps: int,
    flip: bool,
) -> tuple[Any, Array]:
    """Take STRIDE steps on the cross entropy of items drawn with replacement."""
    net = classifier(classes)

    def step(state: Any, _: None) -> tuple[Any, Array]:
        params, opt_state, count = state
        draw, change = jax.random.split(jax.random.fold_in(key, count))
        index = jax.random.randint(draw, (BATCH,), 0, x.shape[0])
        items = _augment(to_float(x[index]), change, flip)

        def loss(params: Params) -> Array:
            logits = net.apply(params, items)["logits"]
            return optax.softmax_cross_entropy_with_integer_labels(logits, label[index]).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = _optimizer(steps).update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state, count + 1), value

    state, losses = jax.lax.scan(step, state, None, STRIDE)
    return state, losses[-1]


def _augment(x: Array, key: Key[Array, ""], flip: bool) -> Array:
    """Return images shifted and mirrored at random, each by its own key; points are unchanged."""
    if x.ndim != 4:
        return x
    most = x.shape[1] // 16
    wide = jnp.pad(x, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")

    def one(key: Key[Array, ""], image: Array) -> Array:
        move, mirror = jax.random.split(key)
        y, z = jax.random.randint(move, (2,), 0, 2 * most + 1)
        image = jax.lax.dynamic_slice(image, (y, z, 0), x.shape[1:])
        return jnp.where(flip & jax.random.bernoulli(mirror), image[:, ::-1], image)

    return jax.vmap(one)(keys_at(key, jnp.arange(len(x))), wide)
