"""The loss of autoencoders against probabilistic PCA, and a run of the smallest autoencoder."""

import dataclasses
import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import one_device

import diffjax
from diffjax import builder
from diffjax.config import ConfigError, load, override
from diffjax.denoiser import Model
from diffjax.features import Distance
from diffjax.features.similarity import psnr, ssim
from diffjax.nets import Autoencoder
from diffjax.nets.costs import count, flops
from diffjax.nets.discriminator import PatchGAN
from diffjax.objectives import Autoencoding, Context
from diffjax.objectives.autoencoding import halved, turned
from diffjax.objectives.errors import l2
from diffjax.parameterization import X0
from diffjax.schedules import Logit
from diffjax.sde import Flow
from diffjax.training.workdir import load_state

SHORT = (
    "loss.noise=0.1",
    "train.steps=4",
    "train.batch_size=4",
    "train.steps_per_dispatch=2",
    "train.log_every=2",
    "train.sample_every=4",
    "train.samples=4",
    "train.checkpoint_every=2",
    "train.held_out_every=4",
    "train.held_out=4",
    "train.writers=()",
)


def model_of(network):
    return Model(Flow(Logit()), X0(), network)


def linear_encode(params, x):
    return x @ params["a"], jnp.broadcast_to(params["logvar"], (len(x), len(params["logvar"])))


def linear_decode(params, z):
    return z @ params["w"]


LINEAR = Autoencoder(
    init=lambda *_: {}, apply=linear_decode, encode=linear_encode, decode=linear_decode
)


@pytest.mark.thorough
def test_a_linear_autoencoder_reaches_probabilistic_pca():
    """A wrong factor of one term would move the optimum.

    The loss is twice the negative log-likelihood of probabilistic PCA without its constant
    (Tipping and Bishop 1999, eq. 9), where the variances beyond q latents are one noise.
    """
    lam, q = np.array([4.0, 2.0, 0.5, 0.3]), 2
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    x = np.random.default_rng(1).normal(size=(512, 4))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T, bias=True))).T
    x = jnp.asarray(x * np.sqrt(lam) @ rotation.T, jnp.float32)
    noise = lam[q:].mean()
    best = np.log(lam[:q]).sum() + (4 - q) * np.log(noise) + 4

    loss, chain = (
        Autoencoding(error=l2, kl_weight=2.0),
        optax.adam(optax.linear_schedule(0.05, 0, 400)),
    )
    a, w = 0.1 * jax.random.normal(jax.random.key(0), (2, 4, q))
    params = {"network": {"a": a, "w": w.T, "logvar": jnp.zeros(q)}}
    params["loss"] = loss.init(model_of(LINEAR), jax.random.key(0), x)

    def value(params, key, x=x):
        return loss(Context(model_of(LINEAR), params, {"x": x}, key))[0]

    def step(carry, key):
        params, state = carry
        updates, state = chain.update(jax.grad(value)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(1), 400)
    run = jax.jit(lambda params: jax.lax.scan(step, (params, chain.init(params)), keys)[0][0])
    params = run(params)
    final = value(params, jax.random.key(2), jnp.tile(x, (100, 1)))
    np.testing.assert_allclose(final, best, atol=0.03)
    np.testing.assert_allclose(jnp.exp(params["loss"]["log_scale"]), noise, rtol=0.05)
    w = np.asarray(params["network"]["w"])
    np.testing.assert_allclose(
        w.T @ w, rotation * np.r_[lam[:q] - noise, 0, 0] @ rotation.T, atol=0.2
    )
    np.testing.assert_allclose(
        np.sort(jnp.exp(params["network"]["logvar"])), noise / lam[:q], rtol=0.2
    )


def test_similarities_follow_their_formulas():
    """A window that leaves the image, or a range of 1, would shift published numbers."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, 12, 13, 3)).astype(np.float32)
    y = (x + 0.3 * rng.normal(size=x.shape)).astype(np.float32)
    np.testing.assert_allclose(psnr(x, y), 10 * np.log10(4 / ((x - y) ** 2).mean((1, 2, 3))), 1e-5)
    bell = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    bell = np.outer(bell, bell) / bell.sum() ** 2
    places = []
    for i in range(2):
        for j in range(3):
            a, b = x[:, i : i + 11, j : j + 11], y[:, i : i + 11, j : j + 11]
            mean = lambda v: np.einsum("bhwc,hw->bc", v, bell)
            ma, mb = mean(a), mean(b)
            va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
            up = (2 * ma * mb + 0.0004) * (2 * cov + 0.0036)
            places.append(up / ((ma**2 + mb**2 + 0.0004) * (va + vb + 0.0036)))
    np.testing.assert_allclose(ssim(x, y), np.stack(places).mean((0, 2)), rtol=1e-4)


def encode(params, x):
    mean, logvar = linear_encode(params, x.reshape(len(x), 64))
    return tuple(a.reshape(len(x), 1, 1, 2) for a in (mean, logvar))


def decode(params, z):
    return linear_decode(params, z.reshape(len(z), 2)).reshape(len(z), 8, 8, 1)


def init(key, *_):
    w = 0.1 * jax.random.normal(key, (2, 64))
    return {"a": w.T, "w": w, "logvar": jnp.zeros(2)}


def of_images():
    """Return the smallest autoencoder of digits: a linear one."""
    return Autoencoder(init, lambda p, x, *_, **__: x, encode=encode, decode=decode, latent=2)


def dense_encode(params, x):
    return jnp.split(x.reshape(len(x), 16) @ params["encoder"], 2, axis=-1)


def dense_decode(params, z):
    hidden = jnp.tanh(z @ params["decoder"]["first"])
    return (hidden @ params["decoder"]["last"]["kernel"]).reshape(len(z), 4, 4, 1)


DENSE = Autoencoder(
    init=lambda *_: {}, apply=dense_decode, encode=dense_encode, decode=dense_decode
)


@dataclasses.dataclass(frozen=True)
class Dense:
    """A discriminator of one hidden layer."""

    def __call__(self, params, x):
        hidden = jnp.tanh(x.reshape(len(x), 16) @ params["first"])
        return (hidden @ params["last"]).reshape(-1, 2, 2, 1)


def parts_of_a_loss():
    """Return model, items, parameters and objective of an adversarial loss of small layers."""
    loss = Autoencoding(kl_weight=0.1, adversarial_weight=0.5, discriminator=Dense())
    keys = iter(jax.random.split(jax.random.key(1), 6))
    draw = lambda *shape: 0.5 * jax.random.normal(next(keys), shape)
    network = {
        "encoder": draw(16, 4),
        "decoder": {"first": draw(2, 3), "last": {"kernel": draw(3, 16)}},
    }
    own = {
        "log_scale": jnp.asarray(-0.7),
        "discriminator": {"first": draw(16, 5), "last": draw(5, 4)},
    }
    return model_of(DENSE), draw(4, 4, 4, 1), {"network": network, "loss": own}, loss


@pytest.mark.thorough
def test_each_side_has_the_gradient_of_its_own_loss():
    """The discriminator would help the generator, or the adaptive weight be that of another layer.

    Reconstruction, generator and discriminator are written out here as separate losses, with the
    adaptive weight from two more passes through the decoder.
    """
    model, x, params, loss = parts_of_a_loss()
    key, net = jax.random.key(2), DENSE
    eps = jax.random.normal(jax.random.split(key, 3)[0], (4, 2))
    judge = lambda of, images: loss.discriminator(of, images)

    def reconstruction(own, s):
        mean, logvar = net.encode(own, x)
        x_hat = net.decode(own, mean + jnp.exp(logvar / 2) * eps)
        nll = (jnp.abs(x_hat - x) * jnp.exp(-s) + s).sum((1, 2, 3)).mean()
        kl = 0.5 * (mean**2 + jnp.exp(logvar) - 1 - logvar).sum(1).mean()
        return nll, kl, x_hat

    @jax.jit
    def separate(params):
        own, s, of = params["network"], params["loss"]["log_scale"], params["loss"]["discriminator"]
        nll = lambda own: reconstruction(own, s)[0]
        generator = lambda own: -judge(of, reconstruction(own, s)[2]).mean()
        at_last = lambda tree: jnp.linalg.norm(tree["decoder"]["last"]["kernel"])
        adaptive = 0.5 * at_last(jax.grad(nll)(own)) / (at_last(jax.grad(generator)(own)) + 1e-4)
        whole = lambda own, s: sum(
            w * a for w, a in zip((1, 0.1), reconstruction(own, s)[:2], strict=True)
        )
        first = jax.grad(lambda own, s: whole(own, s) + adaptive * generator(own), (0, 1))(own, s)
        x_hat = reconstruction(own, s)[2]
        relu = jax.nn.relu
        hinge = lambda of: (relu(1 - judge(of, x)) + relu(1 + judge(of, x_hat))).mean() / 2
        return adaptive, hinge(of), (*first, jax.grad(hinge)(of))

    context = lambda params, step=5: Context(model, params, {"x": x}, key, step=step)
    together = jax.jit(jax.value_and_grad(lambda p: loss(context(p))[:2], has_aux=True))
    (_, metrics), grads = together(params)
    adaptive, hinge, wanted = separate(params)
    np.testing.assert_allclose(metrics["adaptive_weight"], adaptive, rtol=1e-4)
    np.testing.assert_allclose(metrics["discriminator"], hinge, rtol=1e-5)
    parts = grads["network"], grads["loss"]["log_scale"], grads["loss"]["discriminator"]
    for part, expected in zip(parts, wanted, strict=True):
        scale = max(float(jnp.abs(a).max()) for a in jax.tree.leaves(expected))
        chex.assert_trees_all_close(part, expected, atol=1e-4 * scale)


def test_the_adaptive_weight_repeats_no_pass_of_the_decoder():
    """A step would take a third longer: only the last layer and the discriminator are passed."""
    model, x, params, loss = parts_of_a_loss()
    plain = dataclasses.replace(loss, adversarial_weight=0.0)
    value = lambda loss, p: loss(Context(model, p, {"x": x}, jax.random.key(0)))[0]
    cost = lambda loss: flops(jax.make_jaxpr(functools.partial(value, loss))(params))
    of_discriminator = flops(jax.make_jaxpr(loss.discriminator)(params["loss"]["discriminator"], x))
    of_last = 2 * x.size * 3
    # Three forward passes and one backward pass of the discriminator, and two gradients of W.
    surplus = cost(loss) - cost(plain) - 5 * of_discriminator
    assert 0 <= surplus <= 2 * of_last


def test_a_discriminator_has_the_size_of_the_published_one():
    """Another width or depth would be called PatchGAN.

    pix2pix's has 2,768,705 parameters for pairs of images, with as many in its batch norms.
    """
    x, judge = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32), PatchGAN()
    params = jax.eval_shape(judge.init, jax.random.key(0), x)
    assert count(params) == 2_768_705 - 4 * 4 * 3 * 64
    assert jax.eval_shape(judge, params, x).shape == (1, 30, 30, 1)
    with pytest.raises(ValueError, match="at least 24 x 24; the items have the shape"):
        judge.check((16, 16, 3))


def test_no_adversarial_term_before_the_start_and_none_held_out():
    """The discriminator would learn from noise, or the held-out loss depend on it."""
    model, x, params, loss = parts_of_a_loss()
    loss = dataclasses.replace(loss, adversarial_start=3)
    context = Context(model, params, {"x": x}, jax.random.key(0))
    value = jax.jit(lambda step: loss(context._replace(step=step)))
    before, after = value(2), value(3)
    assert before[0] == before[1]["loss"] == after[1]["loss"] != after[0]
    assert before[1]["discriminator"] == 0 < after[1]["discriminator"]
    held_out = context._replace(evaluating=True)
    assert "discriminator" not in jax.eval_shape(lambda: loss(held_out))[1]


@pytest.mark.thorough
def test_equivariance_compares_transformed_latents_with_transformed_images():
    """A turn of the latent the other way round would make the decoder blur.

    With an encoder that is equivariant itself, the term changes nothing.
    """
    repeat = lambda params, z: z.repeat(2, 1).repeat(2, 2)
    exact = Autoencoder(
        init=lambda *_: {},
        apply=repeat,
        encode=lambda params, x: (halved(x), jnp.full(halved(x).shape, -30.0)),
        decode=lambda params, z: params["w"] * repeat(params, z),
        last=("w",),
    )
    x = repeat({}, repeat({}, jax.random.normal(jax.random.key(0), (4, 4, 4, 1))))
    context = Context(
        model_of(exact), {"network": {"w": jnp.ones(())}}, {"x": x}, jax.random.key(1)
    )
    loss = Autoencoding(learned_scale=False, equivariance=0.5, kl_weight=0.0, noise=0.0)
    np.testing.assert_allclose(loss(context)[0], 0, atol=1e-3)
    for k in range(4):
        np.testing.assert_array_equal(turned(x, jnp.full(4, k)), jnp.rot90(x, k, (1, 2)))
    wide = x[:, :, :4]
    np.testing.assert_array_equal(turned(wide, jnp.array([0, 1, 2, 3]))[2:], wide[2:, ::-1, ::-1])


def small(*changes):
    return override(load("digits_vae"), (*SHORT, *changes))


def linear(*changes):
    return {**small(*changes), "network": {"name": f"{__name__}:of_images"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of four steps, and the trained autoencoder."""
    folder = tmp_path_factory.mktemp("autoencoding") / "run"
    with one_device():
        return folder, diffjax.fit(linear(), folder)


def test_a_run_shows_reconstructions_and_is_not_sampled(run):
    """The trainer would have to know autoencoders, and `sample` would draw from no process."""
    folder, trained = run
    rows = [json.loads(s) for s in (folder / "metrics.jsonl").read_text().splitlines()]
    (held_out,) = [row for row in rows if "held_out/loss" in row]
    assert {"held_out/psnr", "held_out/ssim", "held_out/kl/1"} <= set(held_out)
    assert {"latent_std", "kl/0", "error", "scale"} <= set(rows[0])
    assert (folder / "samples/step_00000004.png").exists()
    assert "of_images" in repr(trained)
    codec = builder.construct_codec(str(folder), "--codec")
    x = trained.experiment.source("train").x / np.float32(127.5) - 1
    mean, std = codec.moments(jnp.asarray(x))
    np.testing.assert_allclose(mean.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(mean.var((0, 1, 2)) + (std**2).mean((0, 1, 2)), 1, rtol=1e-4)
    with pytest.raises(ConfigError, match="generates no samples: train a network in its latents"):
        trained.sample(2)
    with pytest.raises(ConfigError, match="generates no samples"):  # likelihoods, teachers, ...
        jax.eval_shape(trained.denoise, jnp.zeros((2, 8, 8, 1)), jnp.ones(2))


def test_the_perceptual_distance_is_weighed_and_its_weights_are_held():
    """Gradients would train the weights of LPIPS, or its weight be that of one value."""
    largest = lambda params, x, y: params["w"] * jnp.abs(x - y).max((1, 2, 3))
    far = Distance("far", {"w": 3.0}, largest)
    model, x, params, loss = parts_of_a_loss()
    loss = Autoencoding(
        learned_scale=False, kl_weight=0.0, perceptual_weight=0.5, perceptual=lambda: far
    )
    held = loss.hold(model, params)
    assert held == {"perceptual": {"w": 3.0}} and loss.distance is far
    assert Autoencoding(perceptual=lambda: far).hold(model, params) == {}
    context = Context(model, params, {"x": x}, jax.random.key(0), held=held)
    eps = jax.random.normal(jax.random.split(context.key, 3)[0], (4, 2))
    mean, logvar = dense_encode(params["network"], x)
    difference = jnp.abs(dense_decode(params["network"], mean + jnp.exp(logvar / 2) * eps) - x)
    wanted = (difference.sum((1, 2, 3)) + 16 * 0.5 * 3 * difference.max((1, 2, 3))).mean()
    np.testing.assert_allclose(jax.jit(lambda: loss(context)[0])(), wanted, rtol=1e-5)


@pytest.mark.thorough
def test_a_run_resumes_bit_for_bit(run, tmp_path):
    """The learned scale, or the noise of a step, would depend on where the run stopped."""
    with one_device():
        diffjax.fit(linear("train.steps=2"), tmp_path)
        parts = diffjax.fit(linear(), tmp_path)
    states = [load_state(parts.experiment, folder) for folder in (run[0], tmp_path)]
    chex.assert_trees_all_equal(*states)
    assert float(states[0].params["loss"]["log_scale"]) != 0


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        (small() | {"sde": {"name": "vp"}}, r"config.sde: config.loss.name='autoencoding' has no"),
        (small("loss.kl_weight=-1"), r"config.loss: kl_weight=-1.*needs kl_weight >= 0"),
        (
            small("network.multipliers=(1,1,1,1,1)", "network.groups=8"),
            "needs sides that are multiples of 16",
        ),
        (small() | {"sampling": {"steps": 3}}, "config.sampling.steps: .*generates no samples"),
        (small("data.labels=True"), "autoencoder takes no conditions"),
        (
            small() | {"network": {"name": "mlp"}},
            "config.network.name='mlp': config.loss.name='autoencoding' needs an autoencoder",
        ),
        (
            {**load("digits_vp"), "network": {"name": "autoencoder"}, "data": {"name": "digits"}},
            "config.network.name='autoencoder': config.loss.name='denoising' cannot train",
        ),
    ],
)
def test_what_does_not_suit_an_autoencoder_is_refused(config, refused):
    """A network without a process would be sampled, or one with a process called a codec."""
    with pytest.raises(ConfigError, match=refused):
        builder.experiment(config)
