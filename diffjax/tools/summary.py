"""Print the layers and the cost of the network of a config, before anything is compiled.

    python -m diffjax.tools.summary --config=configs/cifar_vp.py
    python -m diffjax.tools.summary --config=configs/cifar_vp.py --depth=2 --config.network.blocks=3

The command prints the layers in the order of their calls, with output shape and parameters. It then
prints the total number of parameters, the FLOPs per image (all products, 2 for a multiply-add), and
the memory of the training state and of the values that each image stores for the gradient. All of
this follows from shapes; without the data set, --shape and --classes describe its items.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from diffjax import cli, config
from diffjax.cli.form import asked_form, form_flags

if TYPE_CHECKING:
    from diffjax.nets.costs import Costs


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("tools.summary", __doc__, overrides=True)
    flags.add_argument("--config", required=True, help="config file, or name of a built-in one")
    flags.add_argument("--depth", type=cli.positive, default=1, help="levels of layers to show")
    form_flags(flags)
    return flags


def run() -> int:
    asked = cli.read(flags())

    import jax
    import jax.numpy as jnp

    from diffjax import builder
    from diffjax.nets.costs import costs

    chosen = config.override(config.load(asked.config), asked.overrides)
    e = builder.experiment(chosen, asked_form(asked))
    of = jax.ShapeDtypeStruct
    cond = {name: of(a.shape, a.dtype) for name, a in e.form.example(1).items()}
    costs_of = builder.refuse("config.network")(costs)(
        e.model.network, of((1, *e.shape), jnp.float32), of((1,), jnp.float32), cond
    )
    show(costs_of, asked.depth, e.train.batch_size, chosen["network"])
    return 0


def show(costs: Costs, depth: int, batch_size: int, network: dict[str, Any]) -> None:
    """Print the table of layers, and the totals."""
    rows = [layer for layer in costs.layers if len(layer.path) <= depth]
    wide = max(len("/".join(layer.path)) for layer in rows)
    print(f"{'layer':<{wide}}  {'kind':<16} {'output':<22} {'parameters':>12}")
    for layer in rows:
        shape = " x ".join(str(n) for n in layer.shape[1:])
        path = "/".join(layer.path)
        print(f"{path:<{wide}}  {layer.kind:<16} {shape:<22} {layer.parameters:12,d}")
    image, state = costs.stored, 16 * costs.parameters
    print(
        f"\n{network.get('name')}: {costs.parameters:,} parameters\n"
        f"{costs.flops / 1e9:.4g} GFLOPs per image forward, {costs.gradient_flops / 1e9:.4g} with "
        f"gradient\n"
        f"{state / 1e9:.3g} GB of state in float32: parameters, their average, two moments of "
        f"Adam\n"
        f"{image / 1e6:.4g} MB per image for the gradient, {batch_size * image / 1e9:.3g} GB for "
        f"a batch of {batch_size}"
    )


if __name__ == "__main__":
    cli.main(run)
