"""Write small checkpoints of score_sde in Flax, for test_published.py; run by hand.

    pip install -e .
    git clone https://github.com/yang-song/score_sde                     0acb9e0
    python tests/parity/make_flax.py score_sde tests/parity/published

Made with jax 0.10.2 and flax 0.12.8. Imports of the original that its networks do not need are
left out: tensorflow, `flax.optim`, and the classifier of its conditional samples.

As in `make_published.py`, the tensors in the files are constants. For the output of the network and
the sample of the ODE from given noise, they are drawn from their names.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from make_published import STEPS, TIMES, constant, noise, write
from make_unet import SCORE_NCSNPP, SIZE, drawn, images, score_config

AVERAGES = "params_ema"


def named(tree: Any, value: Any, above: str = "") -> Any:
    """A tree of `value(dotted name, shape)`."""
    return {
        k: named(v, value, f"{above}{k}.")
        if isinstance(v, dict)
        else np.asarray(value(f"{above}{k}", v.shape), np.float32)
        for k, v in tree.items()
    }


def checkpoint(shapes: Any) -> bytes:
    """The original's `State`, as flax.training.checkpoints writes it."""
    full = lambda name, shape: np.full(shape, constant(name), np.float32)
    average = named(shapes, full)
    state = {
        "step": 7,
        "optimizer": {"target": named(shapes, lambda name, shape: full(name, shape) + 0.5)},
        "lr": 2e-4,
        "model_state": {},
        "ema_rate": 0.999,
        AVERAGES: average,
        "rng": np.array([1, 2], np.uint32),
    }
    return flax.serialization.to_bytes(state)


def make(folder: Path, name: str, kind: Any, sde: Any, config: Any) -> None:
    from models import utils

    model, last = kind(config), lambda a: jnp.asarray(np.moveaxis(a, 1, -1))
    init = lambda: model.init(jax.random.key(0), last(images()), jnp.ones(2), train=False)
    shapes = jax.eval_shape(init)["params"]
    params = named(shapes, drawn)
    ask = utils.get_score_fn(sde, model, params, {}, train=False, continuous=True)
    ve = not config.data.centered
    x = last((images() + 1) / 2 if ve else images())
    z, said = last(noise()), []
    for t in jnp.asarray(TIMES, jnp.float32):
        t = jnp.full(2, t)
        alpha, std = (a.reshape(-1, 1, 1, 1) for a in sde.marginal_prob(jnp.ones((2, 1, 1, 1)), t))
        x0 = (alpha * x + std * z + std**2 * ask(alpha * x + std * z, t)) / alpha
        said.append(2 * x0 - 1 if ve else x0)
    ode = sde.reverse(ask, probability_flow=True)
    made = z * getattr(sde, "sigma_max", 1.0)
    for t in jnp.linspace(1, 1 / STEPS, STEPS)[:-1]:
        made = made - ode.sde(made, jnp.full(2, t))[0] / STEPS
    made = 2 * made - 1 if ve else made
    first = lambda a: np.moveaxis(np.asarray(a), -1, -3)
    data = checkpoint(shapes)
    write(folder, name, data, times=TIMES, denoised=first(jnp.stack(said)), samples=first(made))


def main(folder: str, out: str) -> None:
    import flax.training.checkpoints  # looks for tensorflow itself

    for name in ("tensorflow", "models.wideresnet_noise_conditional"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["models.wideresnet_noise_conditional"].__dict__["WideResnet"] = None
    flax.__dict__["optim"] = types.SimpleNamespace(Optimizer=object)
    sys.path.insert(0, folder)
    import sde_lib
    from models.ncsnpp import NCSNpp

    ve = {"scale_by_sigma": True, "progressive_input": "residual"}
    for name, sde, settings in (
        ("flax-ddpmpp-vp", sde_lib.VPSDE(), {"ch_mult": (1, 2, 2)}),
        ("flax-ncsnpp-ve", sde_lib.VESDE(), {**SCORE_NCSNPP, **ve}),
    ):
        config = score_config(**settings)
        config.data.centered = not isinstance(sde, sde_lib.VESDE)
        config.data.image_size = SIZE
        make(Path(out), name, NCSNpp, sde, config)


if __name__ == "__main__":
    main(*sys.argv[1:])
