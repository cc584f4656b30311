"""Excitations of sounds: their inverse, their form, and the sources that are refused."""

import numpy as np
import pytest

from diffjax import builder, data
from diffjax.config import ConfigError
from diffjax.data.excitation import Filter
from diffjax.data.excited import Excited, excited
from diffjax.data.form import from_json
from diffjax.data.kinds.storing import wav_bytes
from diffjax.data.maps import Mapped, mel
from diffjax.evaluation.spectral import distance

RATE = 8000


def voice(length: int, seed: int) -> np.ndarray:
    """Return a tone with harmonics that begins after silence, with soft noise, (L, 1)."""
    rng, t = np.random.default_rng(seed), np.arange(length) / RATE
    tone = sum(np.sin(2 * np.pi * 150 * k * t + k) / k**2 for k in range(1, 20))
    loud = np.where(t > t[-1] / 3, 0.2 * np.exp(-5 * t), 0)
    return (loud * tone + 0.001 * rng.normal(size=length))[:, None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("voice")
    for k in range(8):
        (place / f"{k}.wav").write_bytes(wav_bytes(voice(3000 + 100 * k, k), RATE))
    return place


def opened(folder, maps=("mel",), **more):
    spec = {"name": f"sounds:{folder}", "length": 2048, "holdout": 0.3, "maps": maps}
    source, reading = builder.construct_data({**spec, "excitation": True, **more}, "data")
    found = source("train")
    assert isinstance(found, Excited)
    return found, reading


@pytest.mark.parametrize("maps", [("mel",), ("mel:bands=20,window=128,hop=32",)])
def test_sounds_come_back_from_their_excitations(folder, maps):
    """A network would learn sounds that are not those of the files."""
    source, reading = opened(folder, maps)
    number = np.arange(len(source))
    for items, true in (
        (source[number], source.source[number]),
        (source.draw(number, number + 9, 0), source.source.draw(number, number + 9, 0)),
    ):
        sounds = reading.form(source).completed(items["x"], items)
        assert sounds.dtype == np.float32 and np.abs(sounds).max() <= 1
        assert distance(sounds[..., 0], true["x"][..., 0] / 32768).max() < 0.4
        assert 0.3 < items["x"].std() < 1.5  # the sounds have 40 dB between their parts
        assert items["x"].shape[1:] == source.form.shape == (*items["mel"].shape[1:3], 1)
    assert not np.array_equal(source.draw(number, number, 0)["x"], source[number]["x"])


def test_the_form_says_what_samples_become(folder):
    """Files of sounds, pictures and metrics would be those of excitations."""
    source, reading = opened(folder, ("mel:hop=32",))
    form = reading.form(source)
    again = from_json(form.as_json())
    for of in (form, again):
        assert of.excites and (of.kind, of.shape) == ("latent", (16, 128, 1))
        assert of.filter == (RATE, 256, 32, 40) and of.names == ["mel"]
        assert not of.stored.excites and dict(of.stored.units) == {"rate": RATE}
        assert (of.stored.kind, of.stored.shape) == ("audio", (2048, 1))
    loud = form.completed(1e4 * np.ones((1, 16, 128, 1)), {"mel": np.full((1, 16, 128, 4), 2.5)})
    assert np.abs(loud).max() == 1


def test_levels_are_known_from_the_grid_of_a_network():
    """The filter would have another envelope than that of the sound."""
    of, rng = Filter(RATE, 256, 64, 40), np.random.default_rng(0)
    levels = rng.uniform(size=(3, 16, 40))
    grid = of.on_grid(levels)
    assert grid.shape == (3, 8, 128, 2)
    np.testing.assert_allclose(of.levels(grid), levels, atol=1e-6)
    flat = of.on_grid(np.broadcast_to(levels[:, :, :1], levels.shape))
    np.testing.assert_allclose(flat[:, :, 0, 1], 5 * (levels[:, 1::2, 0] - 0.5), atol=1e-6)


def test_other_sources_of_sounds_are_kept_in_memory(folder):
    """Each epoch would compute excitations of sounds that it reads from a disk."""
    x = (32768 * np.stack([voice(1024, k) for k in range(3)])).astype(np.int16)
    inner = data.Memory(x, units=(("rate", RATE),))
    source = excited(Mapped(inner, {"mel": mel}))
    kept, index = source.kept(), np.arange(3)
    np.testing.assert_array_equal(kept[index]["x"], source[index]["x"])
    assert kept.labels().tolist() == [0, 0, 0] and kept.captions(index) == [[], [], []]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"maps": ()}, r"excitation=True: needs maps=\('mel',\); the audio items \(2048, 1\)"),
        ({"crop": 512}, "crop=512: excitations are of whole sounds"),
        ({"length": 2000}, "length=2000: needs a multiple of window / 2 = 128, at least 256"),
        ({"maps": ("mel:hop=48",)}, "hop=48: must divide window / 2 = 128"),
        ({"hidden": "way=end"}, "hidden=.*: excitations are of whole sounds"),
    ],
)
def test_what_has_no_excitation_is_refused(folder, settings, message):
    with pytest.raises(ConfigError, match=message):
        opened(folder, **settings)


def test_sounds_of_several_channels_and_of_unequal_lengths_are_refused():
    mapped = lambda source: Mapped(source, {"mel": mel})
    rate = (("rate", RATE),)
    two = data.Memory(np.zeros((2, 512, 2), np.int16), units=rate)
    with pytest.raises(ValueError, match="excitation=True: the sounds have 2 channels; needs 1"):
        excited(mapped(two))
    length = {"length": np.array([512, 300], np.uint32)}
    ends = data.Memory(np.zeros((2, 512, 1), np.float32), kind="audio", cond=length, units=rate)
    with pytest.raises(ValueError, match="excitation=True: would include the padding"):
        excited(mapped(ends))
