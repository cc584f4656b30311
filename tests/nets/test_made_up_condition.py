"""A kind of condition that the package does not know, in three networks and in a config."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import diffjax
from diffjax import builder
from diffjax.arrays import null
from diffjax.config import load, override
from diffjax.nets import NETWORKS
from diffjax.nets.conditions import CONDITIONS, Condition, Tokens, absent, learned, place, present
from diffjax.specs import Spec


@dataclass(frozen=True)
class WindDirection:
    """An angle (B, 1), embedded by its cosine and sine; a learned vector where it is missing."""

    size: int = 1
    name: str = "wind"
    mechanism: str = ""
    scale: float = 1.0
    mechanisms: ClassVar[tuple[str, ...]] = ("embedding",)
    droppable: ClassVar[bool] = True

    def shape(self, x):
        return (x[0], 1)

    def missing(self, x):
        return absent(len(x), 1)

    def embed(self, value, width, dtype, rows):
        angle, there = present(value, dtype)
        turned = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1) * self.scale
        vector = nn.Dense(width, name=place(self))(turned)
        return jnp.where(there, vector, learned(f"no_{place(self)}", len(value), width))


SMALL = {
    "unet": ({"channels": 8, "multipliers": (1,), "blocks": 1, "attention": ()}, (4, 4, 1)),
    "dit": ({"width": 12, "depth": 1, "heads": 2}, (4, 4, 1)),
    "mlp": ({"width": 12, "depth": 1}, (3,)),
}


@pytest.mark.parametrize("name", SMALL)
def test_it_works_in_every_network_that_takes_vectors(name):
    """A new kind of condition would cost changes in every network."""
    settings, shape = SMALL[name]
    network = NETWORKS[name](**settings, conditions=(WindDirection(), WindDirection(name="swell")))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, *shape)), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), x, jnp.ones(3), None)
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(1)
    params = jax.tree.unflatten(tree, [jnp.asarray(rng.normal(size=a.shape), "f4") for a in leaves])
    apply = jax.jit(network.apply)
    cond = {"wind": jnp.array([[0.0], [1.0], [2.0]]), "swell": jnp.array([[1.0], [1.0], [0.5]])}
    before = apply(params, x, jnp.ones(3), cond)
    turn = lambda by: {**cond, "wind": cond["wind"].at[0].add(by)}
    moved = np.abs(apply(params, x, jnp.ones(3), turn(1.0)) - before).reshape(3, -1).max(1)
    assert moved[0] > 1e-3 and (moved[1:] < 1e-5).all()
    around = apply(params, x, jnp.ones(3), turn(2 * np.pi))
    np.testing.assert_allclose(around, before, rtol=1e-3, atol=1e-3)
    absent, missing = (apply(params, x, jnp.ones(3), c) for c in ({}, null(cond)))
    np.testing.assert_allclose(missing, absent, rtol=1e-5, atol=1e-5)


def test_it_is_built_from_a_config_and_its_settings_are_fields(monkeypatch):
    """The builder would have to know every kind of condition."""
    monkeypatch.setitem(CONDITIONS, "wind_direction", WindDirection)
    config = override(
        load("digits_vp"), ["network.conditions={'wind': {'scale': 2.0}, 'text': {'size': 8, "
                            "'kind': 'tokens', 'layers': 2}}"]
    )  # fmt: skip
    model = builder.construct_model(config, (Spec("wind", "wind_direction", 1),))
    known = model.network.init.module.conditions
    assert known.by("embedding") == [WindDirection(scale=2.0, mechanism="embedding")]
    assert known.by("cross") == [Tokens(8, "text", "cross", layers=2)]
    assert isinstance(known.entries[0], Condition)


def test_the_package_knows_nothing_of_it():
    """This file alone would not show what a kind costs."""
    root = Path(diffjax.__file__).parent
    assert not [p for p in root.rglob("*.py") if "WindDirection" in p.read_text()]
