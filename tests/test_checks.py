"""The library refuses bad arguments in one line, before anything is compiled."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import analytic, grids, samplers
from diffjax.arrays import stream
from diffjax.denoiser import Denoiser, Model, reframe
from diffjax.generation.program import Generation
from diffjax.guidance import Conditional
from diffjax.nets import Network, linen, mlp
from diffjax.nets.conditions import Label
from diffjax.objectives import Context, Denoising
from diffjax.parameterization import Eps, V, half_logsnr, log_sigma, quarter_log_sigma
from diffjax.samplers.plan import Plan
from diffjax.samplers.run import parts
from diffjax.schedules import Cosine, Linear, Logit, Schedule, Shifted
from diffjax.sde import VE, VP, Flow

SDE = VP(Linear())
X, T = jnp.ones((4, 2)), jnp.full(4, 0.5)
KEYS = jax.random.split(jax.random.key(0), 4)
TABLE = samplers.ddim(SDE, grids.uniform(SDE, 3))
GAUSSIAN = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(SDE)
MODEL = Model(SDE, Eps(), mlp(width=4, depth=1, conditions=(Label(3),)))


def params(model: Model = MODEL):
    """Return zeros in the shapes of the parameters, so that nothing is compiled."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), X, {"label": jnp.zeros(4, jnp.int32)})
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)


def label(*classes: int) -> dict:
    return {"label": jnp.array(classes)}


class Rising(Schedule):
    def __call__(self, t):
        return 10 * t - 5

    def inverse(self, l):
        return (l + 5) / 10


class Bent(Rising):
    """A schedule that falls from t = 0 to t = 1, but not everywhere."""

    def __call__(self, t):
        return -5 * t + 2 * jnp.sin(9 * t)


def flat(model: Model = MODEL) -> Model:
    """Return a model whose network has one output per sample."""
    one = lambda params, x, c_noise, cond, key=None: x[:, :1]
    return dataclasses.replace(model, network=Network(lambda *a: {}, one))


def two_outputs(model: Model = MODEL) -> Model:
    two = lambda params, x, c_noise, cond, key=None: (x, x[:, :1])
    return dataclasses.replace(model, network=Network(lambda *a: {}, two))


def loss(model: Model = MODEL, **batch):
    context = Context(model, {"network": {}}, {"x": X, **batch}, jax.random.key(0))
    return jax.eval_shape(lambda: Denoising()(context)[0])


def sample(**changed):
    arguments = {"denoise": GAUSSIAN, "table": TABLE, "x": X, "keys": KEYS} | changed
    return samplers.sample(**arguments)


def generation(**changed):
    plan = Plan(TABLE, Conditional())
    arguments = {"denoise": GAUSSIAN, "plan": plan, "seed": 0, "num": 4, "shape": (2,)} | changed
    return Generation(**arguments)


SHAPES = {
    "times (B, 1)": (lambda: GAUSSIAN(X, T[:, None]), r"t has the shape \(4, 1\); needs one"),
    "one time": (lambda: GAUSSIAN(X, jnp.array(0.5)), r"t has the shape \(\); needs one"),
    "a number as time": (lambda: GAUSSIAN(X, 0.5), r"t=0.5: needs an array"),
    "times of the network": (
        lambda: Denoiser(MODEL, params())(X, T[:, None]),
        r"t has the shape \(4, 1\); needs one number per sample, \(4,\)",
    ),
    "second times": (
        lambda: Denoiser(MODEL, params())(X, T, to=T[:, None]),
        r"to has the shape \(4, 1\); needs one number per sample",
    ),
    "times of another frame": (
        lambda: reframe(GAUSSIAN, VE(Shifted(Linear(), 0.0)))(X, T[:, None]),
        r"t has the shape \(4, 1\); needs one number per sample",
    ),
    "times of the process": (
        lambda: SDE.perturb(X, X, T[:, None]),
        r"\(4, 1\) for samples of shape \(4, 2\): needs one value",
    ),
    "one sample": (lambda: GAUSSIAN(jnp.array(1.0), T), r"x=.*: needs an array of samples"),
    "whole numbers": (lambda: GAUSSIAN(jnp.ones((4, 2), int), T), r"x of type int32: needs floats"),
    "output of the network": (
        lambda: jax.eval_shape(Denoiser(flat(), {"network": {}}), X, T),
        r"the network's output has the shape \(4, 1\); needs \(4, 2\)",
    ),
    "second output": (
        lambda: jax.eval_shape(Denoiser(two_outputs(), {"network": {}}), X, T),
        r"the network's second output has the shape \(4, 1\); needs \(4, 2\)",
    ),
    "output in the loss": (lambda: loss(flat()), r"output has the shape \(4, 1\); needs \(4, 2\)"),
    "one key": (lambda: sample(keys=KEYS[0]), r"keys has the shape \(\); needs one key"),
    "too few keys": (lambda: sample(keys=KEYS[:2]), r"keys has the shape \(2,\); needs one"),
    "noise": (lambda: sample(noise=X), r"noise has the shape \(4, 2\); needs \(3, 4, 2\)"),
    "condition": (
        lambda: sample(cond=label(0)),
        r"cond\['label'\] has the shape \(1,\); needs one entry per sample",
    ),
    "weights of a batch": (
        lambda: loss(weight=T[:, None]),
        r"batch\['weight'\] has the shape \(4, 1\); needs one number per sample",
    ),
    "mask of a batch": (
        lambda: loss(mask=jnp.ones((4, 3))),
        r"batch\['mask'\] has the shape \(4, 3\); needs one that broadcasts",
    ),
}
"""Arrays of a shape that would be broadcast, or fail far from the cause."""

OBJECTS = {
    "schedule": (lambda: VP("linear"), r"schedule='linear': needs an instance of Schedule"),
    "schedule inside": (lambda: Shifted("linear", 1.0), r"schedule='linear': needs an instance"),
    "t_max": (lambda: VP(Linear(), t_max="1"), r"t_max='1': needs a number"),
    "process": (lambda: Model("vp", Eps(), mlp()), r"sde='vp': needs an instance of SDE"),
    "parameterization": (lambda: Model(SDE, "eps", mlp()), r"parameterization='eps': needs an"),
    "network": (lambda: Model(SDE, Eps(), "mlp"), r"network='mlp': needs an instance of Network"),
    "module": (lambda: linen("mlp"), r"module='mlp': needs an instance of Module"),
    "noise label": (lambda: Eps(c_noise="time"), r"c_noise='time': needs a function"),
    "weight": (lambda: Denoising(weight="elbo"), r"weight='elbo': needs a function"),
    "draw": (lambda: Denoising(draw="uniform"), r"draw='uniform': needs an instance of Draw"),
    "dropout": (lambda: Denoising(condition_dropout="0.1"), r"condition_dropout='0.1': needs a"),
    "sampler's process": (lambda: samplers.ddim("vp", [1.0, 0.0]), r"sde='vp': needs an instance"),
    "grid's process": (lambda: grids.uniform("vp", 4), r"sde='vp': needs an instance of SDE"),
    "grid in log-SNR": (lambda: grids.karras("vp", 4), r"sde='vp': needs an instance of SDE"),
    "denoiser": (
        lambda: sample(denoise="run"),
        r"denoise='run': needs a function, such as diff",
    ),
    "table": (lambda: sample(table="ddim"), r"table='ddim': needs an instance of Table"),
    "guidance": (lambda: sample(guidance=2.0), r"guidance=2.0: needs an instance of Guidance"),
    "x": (lambda: sample(x=[1.0, 2.0]), r"x=\[1.0, 2.0\]: needs an array"),
    "keys": (lambda: sample(keys=0), r"keys=0: needs one typed key per sample, such as jax.random"),
    "old keys": (lambda: sample(keys=jnp.zeros((4, 2), jnp.uint32)), r"keys=.*needs one typed key"),
    "cond": (lambda: sample(cond=3), r"cond=3: needs a mapping from names to arrays"),
    "cond of a name": (lambda: sample(cond={"label": 0}), r"cond\['label'\]=0: needs an array"),
    "batch": (
        lambda: Denoising()(Context(MODEL, {}, X, jax.random.key(0))),
        r"batch: needs a mapping from names to arrays",
    ),
}
"""Names and numbers in place of objects and arrays."""

VALUES = {
    "seed": (lambda: stream(2**32, "sample"), r"seed=4294967296: needs 0 <= seed < 2\*\*32"),
    "negative seed": (lambda: stream(-1, "sample"), r"seed=-1: needs 0 <= seed"),
    "seed of samples": (lambda: generation(seed=2**32), r"seed=4294967296: needs 0 <= seed"),
    "no samples": (lambda: generation(num=0), r"num=0: needs num >= 1"),
    "fewer": (lambda: generation(num=-1), r"num=-1: needs num >= 1"),
    "half a sample": (lambda: generation(num=2.5), r"num=2.5: needs an integer"),
    "batch size": (lambda: generation(batch_size=0), r"batch_size=0: needs batch_size >= 1"),
    "steps": (lambda: grids.uniform(SDE, 0), r"steps=0: needs steps >= 1"),
    "half a step": (lambda: grids.trailing(SDE, 1.5), r"steps=1.5: needs an integer"),
    "steps of a grid in log-SNR": (lambda: grids.karras(SDE, -3), r"steps=-3: needs steps >= 1"),
    "previews": (lambda: parts(4, 0), r"every=0: needs every >= 1"),
    "sigma_data": (lambda: Eps(sigma_data=np.inf), r"sigma_data=inf: needs sigma_data > 0"),
    "dropout": (lambda: Denoising(condition_dropout=np.nan), r"condition_dropout=nan: needs a fin"),
    "hybrid": (lambda: Denoising(hybrid=np.inf), r"hybrid=inf: needs a finite number"),
    "rising schedule": (
        lambda: VP(Rising()),
        r"decreasing log-SNR; it is -4.99 at t=0.001",
    ),
    "bent schedule": (
        lambda: Flow(Bent()),
        r"decreasing log-SNR; it is 0.01.* at t=0.001",
    ),
    "label beside cond": (
        lambda: loss(label=jnp.zeros(4, int)),
        r"batch\['label'\]: no such entry; conditions are batch\['cond'\]\['label'\]",
    ),
    "no such class": (
        lambda: sample(denoise=Denoiser(MODEL, params()), cond=label(0, 1, 2, 3)),
        r"cond\['label'\]=3: no such class; known: -1 \(none\), 0 to 2",
    ),
    "no such negative class": (
        lambda: jax.eval_shape(
            functools.partial(Denoiser(MODEL, params()), cond=label(0, 1, 2, -2)), X, T
        ),
        r"cond\['label'\]=-2: no such class",
    ),
    "no such class of many samples": (
        lambda: generation(denoise=Denoiser(MODEL, params()), cond=label(0, 1, 2, 9)),
        r"cond\['label'\]=9: no such class",
    ),
    "no such component": (lambda: sample(cond=label(0, 0, 1, 0)), r"label=1: no such class"),
    "no such condition": (
        lambda: sample(denoise=Denoiser(MODEL, params()), cond={"text": X}),
        r"condition \['text'\]: the network takes \['label'\]",
    ),
}
"""Values that would alias another one, be clamped, or give NaN."""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(*case, id=f"{kind}: {name}")
        for kind, cases in (("shape", SHAPES), ("object", OBJECTS), ("value", VALUES))
        for name, case in cases.items()
    ],
)
def test_refused_in_one_line(call, message):
    """A bad argument would be broadcast or clamped, give NaN, or raise deep inside the code."""
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400


@pytest.mark.parametrize(
    "other", [Flow(Logit(), t_max=0.999), VP(Cosine(), t_max=0.99), VE(Linear())]
)
def test_a_table_is_refused_by_a_denoiser_of_another_process(other):
    """Samples would silently be noise, or have another distribution."""
    table = samplers.ddim(other, grids.uniform(other, 3))
    with pytest.raises(ValueError, match=r"planned for .*, the denoiser has VP.* at t="):
        sample(table=table)
    with pytest.raises(ValueError, match=r"planned for .*, the denoiser has VP"):
        next(samplers.previews(GAUSSIAN, table, X, KEYS, every=1))
    with pytest.raises(ValueError, match=r"planned for .*, the denoiser has VP"):
        generation(plan=Plan(table, Conditional()))


def test_a_table_of_the_same_noise_levels_is_taken():
    """A schedule written in another way, or a longer range of times, would be refused."""
    same = VP(Shifted(Linear(), 0.0), t_min=1e-4)
    sample(table=samplers.ddim(same, grids.uniform(same, 3)))


@pytest.mark.parametrize("c_noise", [half_logsnr, log_sigma, quarter_log_sigma])
def test_a_noise_label_that_is_infinite_is_refused(c_noise):
    """A run would train to its end, and its network return NaN at the first row of any sampler."""
    with pytest.raises(ValueError, match=rf"c_noise={c_noise.__name__} with .* at t_max=1;"):
        Model(VP(Cosine()), V(c_noise), mlp())
    Model(VP(Cosine(), t_max=0.99), V(c_noise), mlp())


@pytest.mark.parametrize("mechanism", ["embed", "unit"])
def test_a_class_that_does_not_exist_is_nan_in_a_compiled_program(mechanism):
    """-2 would mean the last class, and 3 of 3 nothing, where values are traced."""
    from flax import linen as nn

    class Module(nn.Module):
        @nn.compact
        def __call__(self, value):
            rest = (
                (4, jnp.float32, nn.initializers.ones) if mechanism == "embed" else (jnp.float32,)
            )
            return getattr(Label(3), mechanism)(value, *rest)

    labels = jnp.array([-2, -1, 0, 2, 3])
    bound = Module().init(jax.random.key(0), labels)
    made = jax.jit(Module().apply)(bound, labels)
    assert jnp.isfinite(made).all(1).tolist() == [False, True, True, True, False]
