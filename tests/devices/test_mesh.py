"""The same training on one device and on many: equal losses, and work that is really split."""

import dataclasses
import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

from diffjax import builder
from diffjax.config import ConfigError, load
from diffjax.data.form import labelled
from diffjax.denoiser import Model
from diffjax.devices import mesh
from diffjax.nets import mlp
from diffjax.nets.blocks import Block, SelfAttention, conv
from diffjax.nets.conditions import Label, settled
from diffjax.nets.layers import VECTORS, Embedding
from diffjax.nets.network import linen, weights_split
from diffjax.nets.resample import upsample
from diffjax.objectives import Denoising
from diffjax.parameterization import V
from diffjax.schedules import Cosine
from diffjax.sde import VP
from diffjax.training import loop
from diffjax.training.checkpoints import Checkpoints
from diffjax.training.ema import Constant
from diffjax.training.experiment import Train
from diffjax.training.step import TrainState, make_step

SHAPE, CLASSES, B, K = (4, 4, 1), 3, 32, 10  # no part of a batch is as long as a layer is wide
DATA, SHARDED = mesh.Data(), mesh.FSDP(smallest=64)
MODEL = mesh.Model(size=2, fsdp=True, smallest=64)
GROUPS = mesh.FSDP(smallest=64, within=4)
SMALL = {
    "network": {"channels": 8, "multipliers": (1,), "attention": (), "heads": 2},
    "loss": {"condition_dropout": 0.3},
    "optimizer": {"learning_rate": 1e-3, "warmup": 0},
    "train": {"batch_size": B},
}


class Tiny(nn.Module):
    """A network with each kind of layer of the U-Net, dropout too, that compiles in seconds."""

    @nn.compact
    def __call__(self, x, c_noise, cond, train=False):
        known = settled((Label(CLASSES),), "tiny", VECTORS)
        emb = Embedding(16, 8, known)(x, c_noise, cond)
        h = Block(8, 0.2)(conv(x, 8), emb, train)
        h = SelfAttention(2)(conv(h, 8, 2))
        return conv(upsample(h), x.shape[-1])


def layout(devices, rule=DATA):
    return mesh.layout(jax.devices()[:devices], rule)


def experiment(**train):
    """Construct a run with a tiny network and every source of randomness in training."""
    config = load("digits_vp")
    for section, changed in SMALL.items():
        config[section] = {**config[section], **changed}
    config["train"] = {**config["train"], **train}
    built = builder.experiment(config, labelled("image", SHAPE, CLASSES))
    return dataclasses.replace(built, model=dataclasses.replace(built.model, network=linen(Tiny())))


def batches(steps):
    """Return host batches (K, B, ...) as the pipeline builds them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (steps, B, *SHAPE), np.uint8)
    return {"x": images, "cond": {"label": rng.integers(0, CLASSES, (steps, B), np.int32)}}


def trained(devices, rule=DATA, accumulate=2):
    """Train in two parts of a batch, which tests more than one part (a thorough test) does."""
    return _trained(devices, rule, accumulate)  # one cache key, however it is called


@functools.cache
def first_state():
    """Return the first state on the host, from one program for all layouts."""
    return jax.device_get(jax.jit(experiment().initialise)())


@functools.cache
def _trained(devices, rule, accumulate):
    """Run 2 K steps in two dispatches, as `loop.train` does; return losses, states and program."""
    e, where = experiment(accumulate=accumulate), layout(devices, rule)
    state = jax.device_put(first_state(), where.state(first_state()))
    data, states, losses = batches(2 * K), [state], []
    half = lambda i: jax.tree.map(lambda a: a[i * K : (i + 1) * K], data)
    run = loop.compile_steps(e, where, state, where.place(half(0)))
    for i in range(2):
        state, metrics = run(states[-1], where.place(half(i)))
        states.append(state)
        losses.append(metrics["loss"])
    return np.concatenate(losses), states, run.as_text()


def more(*values):
    """Mark a further case of the same claim as thorough."""
    return pytest.param(*values, marks=pytest.mark.thorough)


@pytest.mark.parametrize(
    ("devices", "rule", "accumulate"),
    [
        more(2, DATA, 2),
        (8, SHARDED, 2),
        more(8, MODEL, 2),
        more(2, DATA, 1),
        more(8, DATA, 1),
        more(4, SHARDED, 1),
        more(8, SHARDED, 1),
        more(8, MODEL, 1),
        more(8, GROUPS, 1),
    ],
    ids=["2", "8-fsdp", "8-model"]
    + [f"{devices}-whole" for devices in ("2", "8", "4-fsdp", "8-fsdp", "8-model", "8-groups")],
)
def test_losses_do_not_depend_on_the_devices(devices, rule, accumulate):
    """The losses of a run would change when it resumes on other devices."""
    losses, states, _ = trained(devices, rule, accumulate)
    expected, single, _ = trained(1, DATA, accumulate)
    assert losses.shape == (2 * K,) and int(states[-1].step) == 2 * K
    assert len(set(losses.tolist())) == 2 * K
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    values = lambda s: jax.device_get(s[-1].ema)
    chex.assert_trees_all_close(values(states), values(single), atol=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("rule", [SHARDED, MODEL, GROUPS])
def test_a_state_begins_the_same_on_all_devices(rule):
    """Each layout would start from other parameters."""
    shardings = layout(8, rule).state(first_state())
    began = jax.jit(experiment().initialise, out_shardings=shardings)()
    chex.assert_trees_all_close(jax.device_get(began), first_state(), rtol=1e-6)


def test_replicated_state_is_on_every_device():
    _, states, _ = trained(2)
    leaves = jax.tree.leaves(states[-1])
    assert all(a.sharding.is_fully_replicated and len(a.devices()) == 2 for a in leaves)


@pytest.mark.parametrize(("devices", "accumulate"), [more(4, 1), (8, 2)])
def test_a_rule_splits_parameters_averages_and_moments(devices, accumulate):
    """Sharding would save no memory."""
    last = trained(devices, SHARDED, accumulate)[1][-1]
    for tree in (last.params, last.ema, last.optimizer):
        leaves = jax.tree.leaves(tree)
        whole = sum(a.size for a in leaves)
        held = sum(a.addressable_shards[0].data.size for a in leaves)
        assert held < 1.4 * whole / devices
        assert any(not a.sharding.is_fully_replicated for a in leaves)


@pytest.mark.parametrize(("devices", "rule"), [(2, DATA), (8, SHARDED)])
def test_the_old_state_gives_its_memory_to_the_new_one(devices, rule):
    """Training would need memory for two states."""
    _, (first, second, last), _ = trained(devices, rule)
    for old in (first, second):
        assert all(a.is_deleted() for a in jax.tree.leaves(old))
    assert not any(a.is_deleted() for a in jax.tree.leaves(last))


@pytest.mark.parametrize("accumulate", [more(1), 2])
def test_only_gradients_travel(accumulate):
    """Each device would compute on the whole batch instead of its share."""
    text = trained(2, DATA, accumulate)[2]
    assert "all-reduce" in text
    assert "all-gather" not in text and "all-to-all" not in text
    assert f"{B // 2 // accumulate},4,4,8]" in text and f"f32[{B // accumulate},4,4,8]" not in text
    assert "all-gather" in trained(8, SHARDED)[2]  # gathers parameters: the word is the right one
    assert "all-reduce" not in trained(1)[2]


@pytest.mark.parametrize("accumulate", [more(1), 2])
@pytest.mark.parametrize("rule", [SHARDED, more(MODEL)])
def test_layers_are_gathered_and_batches_are_not(rule, accumulate):
    """Each device would compute on the whole batch, as the compiler may choose to do."""
    text = trained(8, rule, accumulate)[2]
    gathered = re.findall(r"= \(?\w+\[([\d,]+)\][^=]*? all-gather(?:-start)?\(", text)
    shapes = [tuple(map(int, dims.split(","))) for dims in gathered]
    assert (3, 3, 8, 8 // rule.size) in shapes  # the kernel of a convolution
    assert not [s for s in shapes if len(s) == 4 and s[0] in (B, B // accumulate)]


def config_of(network):
    """Return the state of a config with this network, as shapes."""
    config = load("digits_vp")
    config["network"] = network
    return jax.eval_shape(
        builder.experiment(config, labelled("latent", (32, 32, 4), 1000)).initialise
    )


@functools.cache
def dit_b():
    return config_of({"name": "dit", "size": "B"})


def test_groups_of_devices_hold_one_state_each_and_parts_of_one_batch():
    """Two groups would train on the same half of a batch, or hold half a state each."""
    where = layout(8, GROUPS)
    kernel = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    (place,) = jax.tree.leaves(where.state([kernel]))
    assert place.spec == PartitionSpec("data", None) and place.shard_shape((64, 64)) == (16, 64)
    indices = place.devices_indices_map((64, 64))
    first, second = ([indices[d][0] for d in group] for group in where.mesh.devices[:, :, 0])
    assert first == second and len({(i.start, i.stop) for i in first}) == 4
    assert where.parts == 8 and where.split(0).shard_shape((16, 3)) == (2, 3)


@pytest.mark.parametrize("rule", [mesh.FSDP(), mesh.Model(fsdp=True)], ids=["fsdp", "model"])
def test_a_device_of_eight_holds_an_eighth_of_a_transformer(rule):
    """A device would hold more than 0.15 of parameters, averages and moments."""
    state = dit_b()
    shardings = layout(8, rule).state(state)
    for name in ("params", "ema", "optimizer"):
        leaves = jax.tree.leaves(getattr(state, name))
        places = jax.tree.leaves(getattr(shardings, name))
        total = lambda shapes: sum(math.prod(shape) for shape in shapes)
        pairs = zip(leaves, places, strict=True)
        held = total(place.shard_shape(a.shape) for a, place in pairs)
        assert held <= 0.15 * total(a.shape for a in leaves)


def test_tensor_parallel_layers_meet_in_their_hidden_features():
    """Devices would have to communicate between two layers that belong together.

    These are the two layers of an MLP, or q, k, v and `out`. The split axes of both must be the
    hidden features: columns of the first, rows of the second.
    """
    places = layout(8, mesh.Model(size=4)).state(dit_b()).params["network"]["blocks"]["main"]
    spec = lambda *path: functools.reduce(lambda tree, k: tree[k], path, places).spec
    for name in ("qkv", "mlp_in", "modulation"):
        assert spec(name, "kernel") == PartitionSpec(None, None, "model")
    for name in ("out", "mlp_out"):
        assert spec(name, "kernel") == PartitionSpec(None, "model", None)
        assert spec(name, "bias") == PartitionSpec(None, None)


@pytest.mark.parametrize("name", mesh.SHARDINGS)
@pytest.mark.parametrize("devices", [2, 8])
def test_rules_split_what_divides_and_no_axis_twice(name, devices):
    """JAX would refuse the layout while a run starts, without a name."""
    where = layout(devices, mesh.SHARDINGS[name]())
    shapes = [(), (7,), (4096,), (3, 3, 512, 1024), (12, 768, 3072), (999, 1001), (4096, 8192)]
    abstract = {f"a{i}": jax.ShapeDtypeStruct(s, jnp.float32) for i, s in enumerate(shapes)}
    places = where.state(abstract)
    for leaf, a in abstract.items():
        places[leaf].shard_shape(a.shape)  # raises where it does not divide
        axes = [axis for axis in places[leaf].spec if axis]
        assert len(axes) == len(set(axes))
    assert places["a0"].is_fully_replicated and places["a1"].is_fully_replicated
    assert places["a6"].is_fully_replicated == (name == "data")


def test_layouts_that_cannot_be_are_refused_by_name():
    """A mesh that does not fit would raise an error of NumPy about shapes."""
    with pytest.raises(ConfigError, match=r"config\.train\.sharding: size=3: .* devices \(8\)"):
        layout(8, mesh.Model(size=3))
    with pytest.raises(ConfigError, match=r"config\.train\.sharding: within=3: .* devices \(8\)"):
        layout(8, mesh.FSDP(within=3))
    config = load("digits_vp")
    for text, refused in (
        (
            "fsdb",
            r"config\.train\.sharding\.name='fsdb': unknown .*'fsdp'.*known: data, fsdp, model",
        ),
        ("model:size=0", r"config\.train\.sharding: size=0: needs size >= 1"),
    ):
        config["train"]["sharding"] = text
        with pytest.raises(ConfigError, match=refused):
            builder.experiment(config, labelled("image", (8, 8, 1), 10))


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_placed_batches_keep_their_values_and_are_split(devices):
    """Rows would be lost, doubled or mixed between images and labels."""
    data, where = batches(3), layout(devices)
    placed = where.place(data)
    chex.assert_trees_all_equal(jax.device_get(placed), data)
    for a in jax.tree.leaves(placed):
        assert len(a.devices()) == devices
        assert {s.data.shape[:2] for s in a.addressable_shards} == {(3, B // devices)}
        assert a.sharding.is_equivalent_to(
            NamedSharding(where.mesh, PartitionSpec(None, ("replica", "data"))), a.ndim
        )


def test_the_layout_is_over_all_devices_by_default():
    assert mesh.layout().size == len(jax.devices())


def test_a_batch_that_cannot_be_split_is_refused_by_name():
    """The error would come from a reshape or a sharding after the data are read."""
    loop.check(Train(batch_size=32, accumulate=2), layout(8))
    loop.check(Train(batch_size=24, accumulate=2), layout(1))
    refused = pytest.raises(
        ConfigError,
        match=r"config\.train\.batch_size=24: needs a multiple of 16, .*\(8\).*\(2\)",
    )
    with refused:
        loop.check(Train(batch_size=24, accumulate=2), layout(8))


@pytest.mark.thorough
@pytest.mark.parametrize(("rule", "accumulate"), [(DATA, 1), (SHARDED, 2)])
def test_a_checkpoint_of_eight_devices_resumes_on_fewer(rule, accumulate, tmp_path):
    """A run could resume only on the machine on which it started."""
    state = trained(8, rule, accumulate)[1][-1]
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(2 * K, state)
    checkpoints.wait()
    abstract = jax.eval_shape(lambda: state)
    for devices in (8, 2, 1):
        shardings = layout(devices, rule).state(abstract)
        found = checkpoints.restore(abstract, shardings)
        chex.assert_trees_all_equal(jax.device_get(found), jax.device_get(state))
        same = lambda a, where: a.sharding.is_equivalent_to(where, a.ndim)
        assert all(jax.tree.leaves(jax.tree.map(same, found, shardings)))
    checkpoints.close()


def averaged(optimizer):
    """Apply an optimizer to gradients that are averaged over the devices of a pmap."""
    mean = lambda grads: jax.lax.pmean(grads, "data")
    update = lambda grads, state, params=None: optimizer.update(mean(grads), state, params)
    return optax.GradientTransformation(optimizer.init, update)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*pmap:DeprecationWarning")
@pytest.mark.parametrize("optimizer", [more(optax.sgd(0.1)), optax.adam(1e-2)], ids=["sgd", "adam"])
def test_the_step_is_pure_enough_for_pmap(optimizer):
    """Users with their own parallel loop would have to copy the step."""
    model = Model(VP(Cosine(), t_min=1e-3, t_max=0.995), V(), mlp(width=8, depth=1))
    rng = np.random.default_rng(0)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2)))
    # Drawn here: a fresh network starts at zero, where most gradients are zero.
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), params)
    state = TrainState(
        jnp.zeros((), jnp.int32), params, {"mean": params}, optimizer.init(params), ()
    )
    batch = {"x": jnp.asarray(rng.normal(size=(2, 4, 2)), jnp.float32), "cond": {}}
    step = lambda optimizer: make_step(model, Denoising(), optimizer, {"mean": Constant(0.5)}, 0)

    two = jax.tree.map(lambda a: jnp.stack([a, a]), state)
    devices = jax.devices()[:2]
    new, metrics = jax.pmap(step(averaged(optimizer)), "data", devices=devices)(two, batch)
    new, metrics = jax.device_get((new, metrics))
    first, second = (jax.tree.map(lambda a, i=i: a[i], new) for i in (0, 1))
    seen = lambda state: state._replace(health=())  # the gradient of its own loss
    chex.assert_trees_all_equal(seen(first), seen(second))
    assert metrics["loss"][0] != metrics["loss"][1]

    descend = jax.jit(step(optax.sgd(1.0)))
    start = state._replace(optimizer=optax.sgd(1.0).init(params))
    after = [descend(start, {"x": x, "cond": {}})[0].params for x in batch["x"]]
    grads = jax.tree.map(lambda p, a, b: p - (a + b) / 2, params, *after)
    updates, _ = optimizer.update(grads, state.optimizer, params)
    expected = optax.apply_updates(params, updates)
    chex.assert_trees_all_close(first.params, expected, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), first.params, params)
    assert min(jax.tree.leaves(moved)) > 1e-5


class Modulated(nn.Module):
    """A layer on one vector per sample, which scales the sample."""

    @nn.compact
    def __call__(self, x, c_noise, cond, train=False):
        vector = jnp.sin(c_noise[:, None] * jnp.arange(1.0, 65.0)[None])
        return x * nn.Dense(128, name="modulation")(vector)


@pytest.mark.parametrize("split", [True, False])
def test_vectors_travel_instead_of_weights_that_are_larger(split):
    """A transformer would gather the weights of its modulation, a third of all, in each step."""
    network, where = linen(Modulated()), layout(4, mesh.FSDP(smallest=1))
    x, c_noise = jnp.ones((8, 128)), jnp.linspace(0.1, 1.0, 8)
    params = network.init(jax.random.key(0), x, c_noise, None)
    gradient = lambda p, x, c: jax.grad(lambda p: (network.apply(p, x, c, None) ** 2).sum())(p)
    whole = gradient(params, x, c_noise)
    places = where.state(params)
    jitted = jax.jit(gradient, in_shardings=(places, where.split(0), where.split(0)))
    with jax.set_mesh(where.mesh), weights_split(split):
        compiled = jitted.lower(params, x, c_noise).compile()
    gathered = re.findall(r"= \(?\w+\[([\d,]+)\][^=]*? all-(?:gather|reduce)", compiled.as_text())
    assert ("64,128" in gathered) != split
    out = compiled(jax.device_put(params, places), *where.put((x, c_noise), 0))
    chex.assert_trees_all_close(jax.device_get(out), jax.device_get(whole), atol=1e-5)
