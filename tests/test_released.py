"""A process that trains many networks keeps the models and programs of the last few only."""

import contextlib
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.arrays import jit_leaves, keys_at, stream
from diffjax.denoiser import Denoiser, Model
from diffjax.generation import program
from diffjax.generation.program import Generation, generate
from diffjax.grids import uniform
from diffjax.guidance import Conditional
from diffjax.nets.network import Network
from diffjax.parameterization import V
from diffjax.samplers import ddim, initial, previews, sample
from diffjax.samplers.plan import Plan
from diffjax.samplers.run import _part_program, _program
from diffjax.schedules import Linear
from diffjax.sde import VP
from diffjax.training.checkpoints import Checkpoints

SDE, SHAPE = VP(Linear()), (2,)
TABLE = ddim(SDE, uniform(SDE, 2))
KEYS = keys_at(stream(0, "sample"), jnp.arange(3))


def denoiser() -> Denoiser:
    """Return a network that equals no other, with a JAX program inside, keyed by its layer."""
    layer = jax.jit(lambda w, x: jnp.tanh(w * x))
    apply = lambda params, x, c_noise, cond, *, key=None: layer(params["w"], x)
    init = lambda key, x, c_noise, cond: {"w": jnp.ones(())}
    return Denoiser(Model(SDE, V(), Network(init, apply)), {"network": {"w": jnp.ones(())}})


def generated(denoise):
    generate(denoise, Plan(TABLE, Conditional()), KEYS[0], jnp.arange(3), {}, shape=SHAPE)


def in_parts(denoise):
    shown = []
    list(Generation(denoise, Plan(TABLE, Conditional()), 0, 3, SHAPE, preview=shown.append))
    list(previews(denoise, TABLE, *initial(SDE, KEYS, SHAPE), every=1))


def sampled(denoise):
    sample(denoise, TABLE, *initial(SDE, KEYS, SHAPE))


@pytest.mark.parametrize(
    "use", [generated, sampled, pytest.param(in_parts, marks=pytest.mark.thorough)]
)
def test_a_model_is_released_with_its_programs(use):
    """JAX would keep each model, and everything traced for it, until the process exits."""
    denoise = denoiser()
    model = weakref.ref(denoise.model)
    use(denoise)
    del denoise
    for cached in (program._program, program._part_program, _program, _part_program):
        assert (cached.cache_info().maxsize or 1000) <= 32
        cached.cache_clear()
    gc.collect()
    assert model() is None


def test_equal_structures_share_a_program():
    """Each batch, and each equal network, would compile again."""
    traces = []
    double = lambda pair, x: traces.append(0) or pair["a"] * x
    call = jit_leaves(double, jax.tree.structure(({"a": 0},)))
    assert [float(call([2.0], 3.0)), float(call([4.0], 5.0))] == [6.0, 20.0] and len(traces) == 1
    program._program.cache_clear()
    model, plan = denoiser().model, Plan(TABLE, Conditional())
    for scale in (1.0, 2.0):
        other = Denoiser(model, {"network": {"w": jnp.asarray(scale)}})
        generate(other, plan, KEYS[0], jnp.arange(3), {}, shape=SHAPE)
    assert program._program.cache_info()[:2] == (1, 1)  # hits and misses


@pytest.mark.thorough
def test_programs_of_checkpoints_are_released_with_the_run(tmp_path):
    """A process that trains a hundred networks would hold a hundred of them."""
    client, counts = jax.devices()[0].client, []
    for k in range(3):
        state = jax.device_put({"w": np.zeros(7 + k, np.float32), "step": np.int32(k)})
        with contextlib.closing(Checkpoints(tmp_path / str(k))) as checkpoints:
            checkpoints.reserve(state)
            checkpoints.save(1, state)
        del checkpoints
        gc.collect()
        counts.append(len(client.live_executables()))
    assert counts[2] == counts[1]
