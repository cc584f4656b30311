"""What depends on a text alone is computed once per prompt, outside of the loop over rows."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import grids, nets, samplers, schedules, sde
from diffjax.arrays import jit_leaves
from diffjax.denoiser import Denoiser, Model
from diffjax.guidance import Guided
from diffjax.nets.conditions import Tokens
from diffjax.parameterization import Velocity
from diffjax.samplers.plan import Plan

FLOW = sde.Flow(schedules.Logit(), t_min=1e-3)
B, TEXT = 2, Tokens(40, mechanism="cross", null=False)
UNET = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (), "heads": 2, "groups": 4}
NETWORKS = {
    "unet": (nets.unet(**UNET, transformer=(1,), conditions=(TEXT,)), "cross_0/[kv]/dot"),
    "dit": (nets.dit(width=16, depth=2, heads=2, conditions=(TEXT,)), "(/tokens|_keys/kv)/dot"),
}
"""Networks, and names of products with a text that depend on nothing else."""


def program(network, settled):
    """Return the compiled sampling of a plan with guidance, whose weights are arguments."""
    like = lambda *shape: jnp.zeros(shape, jnp.float32)
    x, cond, key = like(B, 4, 4, 2), {"tokens": like(B, 24, 40)}, jax.random.key(0)
    shapes = jax.eval_shape(network.init, key, x, like(B), cond)
    params = {"network": jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)}
    table = samplers.ddim(FLOW, grids.uniform(FLOW, 4))
    table.weight[:] = 2.0
    plan = Plan(table, Guided())
    plan = plan.settled() if settled else plan
    leaves, structure = jax.tree.flatten((Denoiser(Model(FLOW, Velocity(), network), params), plan))
    run = jit_leaves(lambda denoise, plan, *args: plan.run(denoise, *args).x, structure)
    return run.lower(leaves, x, jax.random.split(key, B), cond).compile().as_text()


def in_loops(text, pattern):
    """Return how many products of these names there are in loops, and elsewhere."""
    parts = re.split(r"\n(?=(?:ENTRY )?%?[\w.\-]+ \([^\n]*\{)", text)
    named = {re.match(r"(?:ENTRY )?%?([\w.\-]+)", p.strip())[1]: p for p in parts if "(" in p}
    seen, todo = set(), set(re.findall(r"body=%?([\w.\-]+)", text))
    while todo:
        name = todo.pop()
        seen.add(name)
        todo |= {n for n in named if f"%{n}" in re.sub(r"^\S+", "", named.get(name, ""))} - seen
    found = [
        name in seen
        for name, part in named.items()
        for line in part.splitlines()
        if " dot(" in line and re.search(pattern, line)
    ]
    return sum(found), len(found) - sum(found)


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
def test_products_with_the_text_alone_leave_the_loop(name):
    """Keys and values of a text would be computed again in every row."""
    network, pattern = NETWORKS[name]
    inside, outside = in_loops(program(network, settled=True), pattern)
    assert inside == 0 and outside > 0
    inside, outside = in_loops(program(network, settled=False), pattern)
    assert inside > 0  # the branch for rows of weight 1 keeps them in the loop
