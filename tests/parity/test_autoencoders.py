"""Published autoencoders with every tensor redrawn; `make_autoencoders.py` made the numbers."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import make_dit
import numpy as np
import pytest
from commands import ended, one_device
from make_autoencoders import CASES, LABELS, SIDE, STEPS, noise
from make_features import drawn
from PIL import Image
from programs import quick
from rows import sampled

from diffjax import builder, codecs
from diffjax.builder.sampling import construct_table
from diffjax.data.form import labelled
from diffjax.denoiser import Denoiser
from diffjax.io.contents import Contents
from diffjax.io.reading import write
from diffjax.io.trees import flat
from diffjax.nets.autoencoder import autoencoder as of_kl
from diffjax.nets.tiny import tiny as of_tiny
from diffjax.published import autoencoder
from diffjax.published.dit import dit

STORED = dict(np.load(Path(__file__).with_name("autoencoders.npz")))
LIMIT = 1e-5
"""Of the largest value; float32 in both."""
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def contents(name):
    """Return the tensors drawn again with the config, and the stored arrays."""
    stored = {k.partition("/")[2]: v for k, v in STORED.items() if k.startswith(f"{name}/")}
    shapes = json.loads(str(stored["shapes"]))
    tensors = {k: np.asarray(drawn(k, tuple(s))) for k, s in shapes.items()}
    return Contents(tensors, {}, config=json.loads(str(stored["config"]))), stored


def last(a):
    """Return an array with its channels last."""
    return np.moveaxis(a, 1, -1)


def close(ours, theirs, what):
    error = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
    assert error < LIMIT, f"{what}: {error:.1e}"


@jax.jit
def both(codec, x, z):
    """Return raw moments of images, and images of raw latents."""
    mean, logvar = codec.network.encode(codec.params, x)
    return mean, jnp.exp(0.5 * logvar), codec.network.decode(codec.params, z)


def some(names, cheap):
    """Mark as thorough what resembles others or is large."""
    marks = lambda name: () if name in cheap else pytest.mark.thorough
    return [pytest.param(name, marks=marks(name)) for name in names]


@pytest.mark.parametrize("name", some(CASES, ("sd", "tiny")))
def test_moments_and_images_are_those_of_diffusers(name):
    """Published latents would be those of another autoencoder, and pictures would be damaged."""
    published, stored = contents(name)
    kind = "tiny" if name == "tiny" else "kl"
    codec = codecs.CODECS[kind](published)
    x = jnp.asarray(last(noise(f"{name}/x", (2, 3, SIDE, 2 * SIDE))))
    z = jnp.asarray(last(noise(f"{name}/z", stored["mean"].shape)))
    if name == "flux2":
        mean, _ = jax.jit(codec.moments)(x)
        close(mean, last(stored["normalised"]), "normalised mean")
        # The fold of z is checked by that of the mean, of which z has the shape.
        folded = codec.network.encode.fold(z)
        close(jax.jit(codec.decode)(folded), last(stored["folded_image"]), "image")
        return
    mean, std, image = both(codec, x, z)
    close(mean, last(stored["mean"]), "mean")
    close(image, last(stored["image"]), "image")
    if kind == "tiny":
        assert not np.asarray(std).any()
    else:
        close(std, last(stored["std"]), "std")


@pytest.mark.thorough
def test_dit_and_its_autoencoder_give_the_images_of_the_original():
    """Latents would be decoded without their scale, or sampled in another order of channels."""
    shapes = json.loads(str(np.load(Path(__file__).with_name("dit.npz"))["dit/shapes"]))
    tensors = {k: make_dit.drawn(k, tuple(s)) for k, s in shapes.items()}
    settings = make_dit.SMALL
    converted = dit(Contents(tensors, {}), heads=settings["num_heads"], size=settings["input_size"])
    form = labelled(converted.kind, converted.shape, converted.classes)
    model = builder.construct_model(converted.config, form.conditions)
    denoise = quick(Denoiser(model, {"network": jax.tree.map(jnp.asarray, converted.params)}))
    ddim = {"sampler": {"name": "ddim"}, "grid": {"name": "leading", "total": 1000}, "steps": STEPS}
    table = construct_table(ddim, denoise.sde, "config.sampling")
    start = jnp.asarray(last(noise("pipeline/z", (2, 4, 8, 8))))
    begin = denoise.sde.sigma(jnp.asarray(denoise.sde.t_max)) * start
    latents = sampled(denoise, table, begin, {"label": jnp.asarray(LABELS)})
    theirs = STORED["pipeline/latents"]
    assert np.abs(latents - last(theirs)).max() / np.abs(theirs).max() < 1e-3
    codec = codecs.CODECS["kl"](contents("sd")[0])
    image = jax.jit(codec.decode)(jnp.asarray(latents, jnp.float32))
    assert np.abs(image - last(STORED["pipeline/image"])).max() < 1e-3


@pytest.mark.thorough
def test_commands_convert_dit_with_its_autoencoder_and_write_its_images(tmp_path, monkeypatch):
    """A user of the commands would get other pictures than the library decodes."""
    shapes = json.loads(str(np.load(Path(__file__).with_name("dit.npz"))["dit/shapes"]))
    tensors = {k: make_dit.drawn(k, tuple(s)) for k, s in shapes.items()}
    write(tmp_path / "dit.safetensors", tensors, {})
    folder, run = tmp_path / "vae", tmp_path / "run"
    folder.mkdir()
    published = contents("sd")[0]
    write(folder / "diffusion_pytorch_model.safetensors", published.tensors, {})
    (folder / "config.json").write_text(json.dumps(published.config))
    small = make_dit.SMALL
    stated = (f"--set=heads={small['num_heads']}", f"--set=size={small['input_size']}")
    flags = ("--family=dit", *stated, f"--config.data.codec={folder}", f"--out={run}")
    asked = (f"--workdir={run}", "--num=2", "--label=1", "--guidance=1", "--steps=3")
    with one_device():
        assert ended(monkeypatch, "tools.convert", str(tmp_path / "dit.safetensors"), *flags) == 0
        assert ended(monkeypatch, "sample", *asked, f"--out={tmp_path / 'images'}") == 0
        raw = f"--out={tmp_path / 'z.npz'}"
        assert ended(monkeypatch, "sample", *asked, "--latents", raw) == 0
        z = np.load(tmp_path / "z.npz")["arr_0"]
        decoded = np.asarray(jax.jit(codecs.CODECS["kl"](published).decode)(z))
    for k, image in enumerate(decoded):
        with Image.open(tmp_path / "images" / f"{k:06d}.png") as picture:
            apart = np.asarray(picture) - np.clip(127.5 * (image + 1), 0, 255)
        assert np.abs(apart).max() < 0.51
    assert decoded.std() > 0.05 and np.abs(decoded[0] - decoded[1]).max() > 0.05


def same(ours, theirs):
    ours, theirs = flat(ours), flat(theirs)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_a_folder_and_its_older_forms_give_the_same_codec(tmp_path):
    """Older files, and single files of CompVis, would be refused, or read into other places."""
    published, stored = contents("sd")
    (tmp_path / "vae").mkdir()
    write(tmp_path / "vae" / "diffusion_pytorch_model.safetensors", published.tensors, {})
    (tmp_path / "vae" / "config.json").write_text(json.dumps(published.config))
    codec = codecs.load(tmp_path)
    assert codec.about == "AutoencoderKL, factor 2, 4 channels"
    assert codec.normalisation == codecs.RULES["sd"].normalisation

    def old(name):
        for new, before in OLD.items():
            name = name.replace(f".{new}.", f".{before}.")
        return name

    older = {old(k): v for k, v in published.tensors.items()}
    assert older.keys() != published.tensors.keys()
    same(codecs.CODECS["kl"](published._replace(tensors=older)).params, codec.params)
    names = json.loads(str(stored["compvis"]))
    square = lambda name, w: w[..., None, None] if "attn_1" in name and w.ndim == 2 else w
    single = dict(zip(names, published.tensors.values(), strict=True))
    single = {f"first_stage_model.{k}": square(k, v) for k, v in single.items()}
    single |= {"model.diffusion_model.out.2.weight": np.ones((2, 2), np.float32)}
    write(tmp_path / "v1.safetensors", single, {})
    with pytest.raises(ValueError, match=r"v1\.safetensors: rule: .* set rule to one of none, sd"):
        codecs.load(tmp_path / "v1.safetensors")
    ckpt = codecs.load(tmp_path / "v1.safetensors", rule="sd")
    # Its norms have 32 groups, which no tensor states.
    same(ckpt.params, codec.params)
    # A training checkpoint of LDM holds its losses too, and the scale that it measured.
    ldm = {k.removeprefix("first_stage_model."): v for k, v in single.items() if "first" in k}
    ldm |= {"loss.logvar": np.zeros(()), "scale_factor": np.float32(0.25)}
    measured = codecs.CODECS["kl"](Contents(ldm, {}))
    same(measured.params, codec.params)
    assert measured.normalisation.scale == 4.0


F8 = {"multipliers": (1, 2, 4, 4), "blocks": 2, "attention": True, "attention_levels": ()}
TINY = (1, 3, 3, 3)
PUBLISHED = {
    "sd-f8": (autoencoder.kl_table(F8 | {"quantised": True}), of_kl(quantised=True)),
    "sd3-f8": (autoencoder.kl_table(F8 | {"quantised": False}), of_kl(latent=16)),
    "taesd": (autoencoder.tiny_table(TINY, TINY), of_tiny()),
}
COUNTS = {"sd-f8": (248, 83653863), "sd3-f8": (244, 83819683), "taesd": (134, 2445063)}


@pytest.mark.parametrize("name", some(COUNTS, ("taesd",)))
def test_published_sizes_have_the_published_names_and_shapes(name):
    """Files of the published size would be refused."""
    table, network = PUBLISHED[name]
    shapes = json.loads(str(STORED[f"size/{name}"]))
    assert {theirs for _, *names in table.values() for theirs in names} == set(shapes)
    views = {k: np.broadcast_to(np.float32(0), shape) for k, shape in shapes.items()}
    ours = {k: layout(*map(views.get, names)).shape for k, (layout, *names) in table.items()}
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    params = flat(jax.eval_shape(network.init, jax.random.key(0), x))
    assert ours == {k: a.shape for k, a in params.items()}
    assert (len(shapes), sum(a.size for a in params.values())) == COUNTS[name]
