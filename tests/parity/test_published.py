"""Published checkpoints, end to end: read, converted and sampled as by the original code.

`make_published.py` and `make_flax.py` made the files and the numbers; neither torch nor that code
is needed here.
"""

import functools
import itertools
import lzma
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make_published import INDICES, LEVELS, SIZE, STEPS, TIMES, constant, fixed, low, noise
from make_unet import LABEL, drawn, images
from PIL import Image
from programs import quick
from rows import sampled

from diffjax import builder, samplers
from diffjax.builder.sampling import construct_table
from diffjax.config import ConfigError
from diffjax.data.enlarged import Enlarged
from diffjax.data.form import Form, labelled
from diffjax.denoiser import Denoiser
from diffjax.io.contents import Contents
from diffjax.io.reading import read
from diffjax.published import FAMILIES, bare, edm, edm2, guided, recognised, score_sde
from diffjax.published.family import Converted
from diffjax.runs import trained

FOLDER = Path(__file__).with_name("published")
EULER = {
    "sampler": {"name": "euler_maruyama", "chi": 0.0},
    "grid": {"name": "explicit", "times": tuple(np.linspace(1, 1 / STEPS, STEPS).tolist())},
    "steps": STEPS - 1,
}
HEADS = {"schedule": "linear", "steps": 1000, "size": SIZE}


def shadowed(contents: Contents, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return score_sde's averages, without names, in the order of the parameters."""
    names = [n for n in contents.tensors if n.startswith("model.") and not n.endswith("sigmas")]
    first = "model.module.all_modules.0.W"
    names = [n for n in names if n != first or contents.tensors[n].ndim > 1]
    return {f"ema.shadow_params.{i}": values[name] for i, name in enumerate(names)}


@dataclass(frozen=True)
class Case:
    """A stored checkpoint. prefix: before the names its tensors were drawn from.

    told: settings. sampling: in place of those that are converted, to sample as the stored images
    were; None where there are none. shift: of the noise that sampling begins with. times: of our
    process, where the network was asked.
    """

    file: str
    family: Any
    prefix: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] | None = field(default_factory=dict)
    shift: float = 0.0
    times: Callable[[Any], Any] = lambda sde: sde.inverse(jnp.asarray(-2 * np.log(LEVELS)))


def of_index(total: int) -> Callable[[Any], Any]:
    return lambda sde: jnp.asarray((INDICES + 1) / total)


DDIM = {"sampler": {"name": "ddim"}, "steps": STEPS}
LEADING = {**DDIM, "grid": {"name": "leading", "total": 1000}}
AT = {"size": SIZE, "attention": 4}
SCORE: dict[str, Any] = {
    "family": score_sde,
    "prefix": "model.module.",
    "sampling": EULER,
    "times": lambda sde: jnp.asarray(TIMES),
}
CASES = [
    Case("edm-ddpmpp.pkl", edm, "ema."),
    Case("edm-adm.pkl", edm, "ema."),
    Case("edm-vp.pkl", edm, "ema."),
    Case("edm-ve.pkl", edm, "ema."),
    Case("edm-iddpm.pkl", edm, "ema.", times=of_index(1000)),
    Case("edm2.pkl", edm2, "ema."),
    Case(
        "guided-adm.pt",
        guided,
        told={**HEADS, "head_channels": 64},
        sampling=LEADING,
        times=of_index(1000),
    ),
    Case(
        "guided-order.pt",
        guided,
        told={**HEADS, "heads": 4, "order": "3hc"},
        sampling=LEADING,
        times=of_index(1000),
    ),
    Case(
        "guided-upsampler.pt",
        guided,
        told={**HEADS, "heads": 4, "factor": 4},
        sampling=LEADING,
        times=of_index(1000),
    ),
    Case(
        "improved.pt",
        guided,
        told={"schedule": "cosine", "steps": 4000, "heads": 4, "size": SIZE},
        sampling={**DDIM, "grid": {"name": "leading", "total": 4000}},
        times=of_index(4000),
    ),
    Case(
        "score-ddpm.pth",
        **{
            **SCORE,
            "told": {"sde": "vp", "discrete": True, **AT},
            "times": of_index(1000),
            "sampling": None,
        },
    ),
    Case("score-ddpmpp-vp.pth", **SCORE, told={"sde": "vp", **AT}),
    Case("score-ddpmpp-subvp.pth", **SCORE, told={"sde": "subvp", **AT}),
    # The original's noise has mean 0 for images in [0, 1]: here that is -1.
    Case("score-ncsnpp-ve.pth", **SCORE, told=AT, shift=-1.0),
    Case(
        "score-ncsnpp-discrete.pth",
        **{
            **SCORE,
            "told": {"sde": "ve", **AT},
            "times": lambda sde: jnp.asarray(INDICES / 999),
            "sampling": None,
        },
    ),
]
FLAX = {**SCORE, "prefix": "params_ema."}
CASES += [
    Case("flax-ddpmpp-vp", **FLAX, told={"sde": "vp", **AT}),
    Case("flax-ncsnpp-ve", **FLAX, told={"sigma_max": 50.0, **AT}, shift=-1.0),
]
BY_NAME = {case.file: case for case in CASES}
# A pickle and a file of Flax; the other families are in `make thorough`.
IN_SUITE = (
    "edm2.pkl",
    "flax-ncsnpp-ve",
)
every = pytest.mark.parametrize(
    "file", [pytest.param(n, marks=() if n in IN_SUITE else pytest.mark.thorough) for n in BY_NAME]
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> Callable[[Case], Contents]:
    """Return the contents of a file, read once for all tests."""
    folder, made = tmp_path_factory.mktemp("published"), {}

    def contents(case: Case) -> Contents:
        if case.file not in made:
            packed = FOLDER / f"{case.file}.xz"
            (folder / case.file).write_bytes(lzma.decompress(packed.read_bytes()))
            made[case.file] = read(folder / case.file)
        return made[case.file]

    return contents


def weighted(case: Case, contents: Contents) -> Contents:
    """Return the contents with tensors drawn from their names, in place of the constants."""
    values = {
        name: tensor
        if fixed(name)
        else np.asarray(drawn(name.removeprefix(case.prefix), tensor.shape))
        for name, tensor in contents.tensors.items()
        if not name.startswith(("optimizer.", "ema.shadow_params."))
    }
    if case.family is score_sde:
        values |= shadowed(contents, values)
    return Contents(values, contents.settings)


@pytest.mark.parametrize("file", BY_NAME)
def test_the_file_is_read_to_the_last_tensor(opened, file):
    """Names would refer to other tensors, or the source code in EDM's files be executed."""
    case = BY_NAME[file]
    contents = opened(case)
    assert recognised(contents) == case.family.__name__.rpartition(".")[2]
    averages = shadowed(contents, {name: name for name in contents.tensors})
    assert any(name.startswith(case.prefix) for name in contents.tensors)
    for name, tensor in contents.tensors.items():
        if not fixed(name) and not (case.file.startswith("flax") and case.prefix not in name):
            average = averages.get(name, "") if case.family is score_sde else ""
            expected = constant((average or name).removeprefix(case.prefix)) + bool(average) / 2
            assert (np.asarray(tensor) == expected).all(), name


@pytest.fixture(scope="module")
def converted(opened) -> Callable[[Case], tuple[Converted, Denoiser]]:
    """Return a function that converts a file with the original weights, once for all tests."""

    @functools.cache
    def of_file(file: str) -> tuple[Converted, Denoiser]:
        case = BY_NAME[file]
        made = case.family.convert(weighted(case, opened(case)), **case.told)
        model = builder.construct_model(made.config, form_of(made).conditions)
        return made, quick(Denoiser(model, {"network": jax.tree.map(jnp.asarray, made.params)}))

    return lambda case: of_file(case.file)


def enlarging(made: Converted) -> Enlarged | None:
    section = made.config.get("data", {"name": "folder:images"})
    return builder.construct_data(section, "data", opened=False)[1].enlarged


def form_of(made: Converted) -> Form:
    form, enlarged = labelled(made.kind, made.shape, made.classes), enlarging(made)
    return enlarged.form(form) if enlarged else form


def label(made: Converted) -> dict[str, Any]:
    """Return the conditions of the stored outputs: labels, and smaller images of an upsampler."""
    cond = {"label": jnp.asarray(LABEL)} if made.classes else {}
    if enlarged := enlarging(made):
        small = np.moveaxis(low(), 1, -1)
        cond |= enlarged.conditions(small, (-3, -2), np.zeros(2), 0 * small)
    return {name: jnp.asarray(value) for name, value in cond.items()}


def last(x: Any) -> jax.Array:
    """Move the channels to the last axis."""
    return jnp.asarray(np.moveaxis(np.asarray(x, np.float32), 1, -1))


def test_a_published_upsampler_enlarges_given_images(opened, tmp_path):
    """Its weights would be readable, but no command could pass a smaller image to them."""
    case = BY_NAME["guided-upsampler.pt"]
    path = tmp_path / case.file
    path.write_bytes(lzma.decompress((FOLDER / f"{case.file}.xz").read_bytes()))
    made = trained.load(path, settings=case.told)
    small = np.random.default_rng(0).integers(0, 256, (2, 2, 2, 3), np.uint8)
    job = made.job(low=small, label=[2, 0])
    low = job.conditions(2)["low"]
    expected = np.asarray(Image.fromarray(small[0, ..., 1].astype(np.float32)).resize((8, 8), 2))
    np.testing.assert_allclose(low[0, ..., 1], expected / 127.5 - 1, atol=1e-5)
    assert made.config["loss"]["condition_dropout"] == {"label": 0.1}
    with pytest.raises(ConfigError, match=r"6 channels to 6: .* an upsampler needs factor"):
        trained.load(path, settings={k: v for k, v in case.told.items() if k != "factor"}).job()


PLACED = ("edm-ddpmpp.pkl", "edm-adm.pkl", "score-ddpm.pth", "score-ncsnpp-ve.pth")
"""Files of families that the thorough tier computes with."""


@pytest.mark.parametrize("file", PLACED)
def test_every_tensor_has_its_place(opened, file):
    """A layer would keep its initial values, or get the tensor of another one."""
    case = BY_NAME[file]
    made = case.family.convert(opened(case), **case.told)
    form = labelled(made.kind, made.shape, made.classes)
    model = builder.construct_model(made.config, form.conditions)
    x, cond = np.zeros((1, *made.shape), np.float32), {"label": np.zeros(1, int)}
    arguments = x, cond if made.classes else {}
    wanted = jax.eval_shape(model.init, jax.random.key(0), *arguments)["network"]
    assert jax.tree.map(np.shape, made.params) == jax.tree.map(np.shape, wanted)


@every
def test_a_converted_network_is_the_published_one(converted, file):
    """Published weights would denoise differently from the original code."""
    case = BY_NAME[file]
    stored = np.load(FOLDER / f"{Path(file).stem}.npz")["denoised"]
    made, denoise = converted(case)
    channels = made.shape[-1]
    x0 = last(np.concatenate([images(), images()[:, :1]], 1)[:, :channels])
    # score_sde's noise is added to images in [0, 1], by which it is twice as much here.
    for t, expected in zip(case.times(denoise.sde), stored, strict=True):
        t = jnp.full(2, t, jnp.float32)
        x = denoise.sde.perturb(x0, last(noise(channels)), t)
        error = np.abs(denoise(x, t, label(made)).x0 - last(expected)).max()
        assert error / np.abs(expected).max() < 1e-5, f"{file}: t = {t[0]}"


LOOPED = ("edm-ddpmpp.pkl", "guided-adm.pt", "score-ddpmpp-vp.pth")


def some(short: Collection[str], long: Collection[str]) -> Any:
    """Return the cases with samples, one for each test: of two tiers, and the others by hand."""
    cases = {name: case for name, case in BY_NAME.items() if case.sampling is not None}
    tier = lambda name: pytest.mark.thorough if name in long else pytest.mark.exhaustive
    params = [pytest.param(c, id=n, marks=() if n in short else tier(n)) for n, c in cases.items()]
    return pytest.mark.parametrize("case", params)


def begun(case: Case, made: Converted, denoise: Denoiser) -> tuple[Any, Any, Any]:
    """Return the table of a case, its initial noise, and the stored samples."""
    sde, theirs = denoise.sde, last(np.load(FOLDER / f"{Path(case.file).stem}.npz")["samples"])
    table = construct_table(case.sampling or made.config["sampling"], sde, "config.sampling")
    begin = sde.sigma(jnp.asarray(sde.t_max)) * last(noise(made.shape[-1])) + case.shift
    return table, begin, theirs


@some(IN_SUITE, BY_NAME)
def test_it_samples_as_the_original(converted, case):
    """The schedule, the grid or the sampler would differ from the published ones."""
    made, denoise = converted(case)
    table, begin, theirs = begun(case, made, denoise)
    error = np.abs(sampled(denoise, table, begin, label(made)) - theirs).max()
    assert error / np.abs(theirs).max() < 1e-3, f"{error:.1e}"


@some((), LOOPED)
def test_the_loop_samples_as_the_original(converted, case):
    """The loop, which users run, would differ from the table.

    Small networks are tested elsewhere.
    """
    made, denoise = converted(case)
    table, begin, theirs = begun(case, made, denoise)
    keys = jax.random.split(jax.random.key(0))
    ours = samplers.sample(denoise, table, begin, keys, cond=label(made))
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert error < 1e-3, f"{error:.1e}"


ODD = (None, True, -1, 0, 3, 1e300, float("nan"), "x", [], [1], ["x"], {}, (0, 0))


def places(settings: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Yield the keys that lead to each field."""
    inner = [places(v, (*above, k)) for k, v in settings.items() if isinstance(v, dict)]
    return [(*above, k) for k in settings] + [place for part in inner for place in part]


def with_field(settings: Mapping[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    first, *rest = place
    inner = with_field(settings[first], tuple(rest), value) if rest else value
    return {**settings, first: inner}


@pytest.mark.thorough
@pytest.mark.parametrize("file", BY_NAME)
def test_damaged_contents_are_refused_in_one_line(opened, file):
    """A file that lacks a tensor, or with another value of a setting, would end in a traceback."""
    case = BY_NAME[file]
    whole, family = opened(case), FAMILIES[recognised(opened(case))]
    tensors = {name: np.asarray(a) for name, a in whole.tensors.items()}
    names = sorted(tensors)[:: 1 + len(tensors) // 20]
    tried = [whole._replace(tensors={k: a for k, a in tensors.items() if k != n}) for n in names]
    for odd in (np.zeros(()), np.zeros(7), np.zeros((0, 2))):
        tried += [whole._replace(tensors={**tensors, name: odd}) for name in names]
    # Only fields of the network and its arguments: layers have hundreds that nothing reads.
    read = [p for p in places(whole.settings) if len(p) <= 2 or "_init_kwargs" in p[:3]]
    fields = itertools.product(read, ODD)
    tried += [whole._replace(settings=with_field(whole.settings, *field)) for field in fields]
    lines = []
    for contents in tried:
        try:
            family.convert(bare(contents, family)[0], **case.told)
        except ValueError as error:
            lines.append(str(error))
    assert len(lines) > len(names) and not any("\n" in line for line in lines)
