"""Parameters of Inception-v3 from the tensors that pytorch-fid and torch-fidelity publish."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import Params
from diffjax.features.inception import inception
from diffjax.io.standard import Standard
from diffjax.published.tables import Table, converted, fitting, kernel, matrix

STANDARD = Standard(
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
EPSILON = 1e-3
"""Epsilon of the batch norms."""


def convert(tensors: Mapping[str, np.ndarray]) -> Params:
    """Return the parameters of `features.inception`.

    Raises ValueError that names the tensors which do not fit.
    """
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)
    wanted = jax.eval_shape(inception().init, jax.random.key(0), image)
    table: Table = {"fc/kernel": (matrix, "fc.weight")}
    for name in wanted:
        if name != "fc":
            norm = f"{name}.bn.weight", f"{name}.bn.running_var"
            shift = f"{name}.bn.bias", f"{name}.bn.running_mean"
            table[f"{name}/conv/kernel"] = (folded, f"{name}.conv.weight", *norm)
            table[f"{name}/conv/bias"] = (shifted, *norm, *shift)
    counts = {name for name in tensors if name.endswith(".bn.num_batches_tracked")}
    return fitting(converted(table, tensors, counts | {"fc.bias"}), wanted)


def scale(weight: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the scale of a batch norm whose statistics are fixed."""
    return weight / np.sqrt(variance.astype(np.float64) + EPSILON)


def folded(conv: np.ndarray, weight: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the kernel of convolution and batch norm in one: (*K, I, O), or (I, O) for 1 x 1."""
    folded_kernel = kernel(conv) * scale(weight, variance)
    return folded_kernel[0, 0] if conv.shape[2:] == (1, 1) else folded_kernel


def shifted(
    weight: np.ndarray, variance: np.ndarray, bias: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """Return the bias of convolution and batch norm in one."""
    return bias - mean * scale(weight, variance)
