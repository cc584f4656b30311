"""Samples with lanes, and given known positions: from a config, in Python and by commands."""

import numpy as np
import pytest
from commands import ended, one_device
from redrawn import redrawn

from diffjax import builder, cli, config
from diffjax.config import ConfigError
from diffjax.data import series

SMALL = [
    "network.width=8",
    "network.depth=1",
    "network.heads=2",
    "network.patch=2",
    "loss.sizes=(2,)",
    "sampling.steps=3",
    "sampling.lanes={'sizes': (2,)}",
]


def built(*changes):
    return builder.experiment(config.override(config.load("series"), [*SMALL, *changes]))


@pytest.fixture(scope="module")
def trained():
    with one_device():
        yield redrawn(built())


@pytest.fixture(scope="module")
def forecasts(trained):
    """Return six samples given the first four rows of two held-out series."""
    return trained.sample(6, given="test:3,5", known=range(4))


def test_samples_keep_the_known_positions_in_turn(forecasts, trained):
    """A forecast would begin from another past than its own, or from a noisy one."""
    items = series("test").x[[3, 5]]
    assert forecasts.x.shape == (6, 16, 2) and np.isfinite(forecasts.x).all()
    for k, x in enumerate(forecasts.x):
        np.testing.assert_array_equal(x[:4], items[k % 2][:4])
    assert np.ptp(forecasts.x[:, 4:], axis=0).min() > 1e-4
    job = trained.job(given="test:3,5", known=range(4))
    assert "given 4 positions of 2 sequences" in str(job)
    assert job.protocol(forecasts)["known"] == [0, 1, 2, 3]
    assert job.plan.table.lanes == 16 and job.plan.table.t[0, 4] == np.float64(0.999)


def test_the_future_of_a_given_item_has_no_effect(forecasts, trained):
    """A forecast would be told what it forecasts."""
    items = series("test").x[[3, 5]]
    items[:, 4:] = 7.0
    np.testing.assert_array_equal(trained.sample(6, given=items, known=range(4)).x, forecasts.x)


def test_an_order_of_lanes_is_a_setting_of_sampling(trained):
    """Orders could be used from Python alone, or with other settings than those of training."""
    for text, rows in (("full", 3), ("pyramid:delay=1", 10), ("autoregressive", 24)):
        lanes = f"{text}{',' if ':' in text else ':'}sizes=(2,)"
        assert trained.job(lanes=lanes).plan.rows == rows
    job = trained.job(lanes="pyramid:sizes=(2,)", given="test:0", known=[0, 1, 14, 15])
    assert job.plan.rows == 3 + 5  # six free lanes
    assert trained.job().plan.table.lanes == 16
    guided = trained.job(lanes=None)
    assert guided.plan.table.lanes == 0


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"given": "test:0"}, "--given: needs --known too"),
        ({"known": [0]}, "--known: needs --given too"),
        ({"given": "test:0", "known": []}, "--given: needs --known too"),
        ({"given": "test:0", "known": [16]}, "--known: no position 16; known: 0 to 15"),
        ({"given": "test:0", "known": range(16)}, "--known: holds all 16 positions"),
        ({"given": "test:0", "known": [0]}, r"--known: known: holds a part of a lane.*\[0, 1\]"),
        ({"given": "test:0", "known": [0, 1], "start": "x.npy"}, "--given: not with --from"),
        ({"given": "test:99999", "known": [0, 1]}, "--given=test:99999: no item 99999"),
        ({"given": np.zeros((2, 3), np.float32), "known": [0, 1]}, "--given: .*shape"),
        ({"lanes": "diagonal"}, "config.sampling.lanes.name='diagonal': unknown; known: .*pyramid"),
        ({"lanes": "full:delay=1"}, "config.sampling.lanes.delay: no such field"),
        ({"lanes": "full:sizes=(3,)"}, "config.sampling.lanes.sizes: .*whose sum divides 16"),
        ({"lanes": "full:sizes=(1,)"}, "config.sampling.lanes.sizes: .*needs multiples of 2"),
        ({"lanes": "pyramid:sizes=(2,)", "sampler": "unipc"}, "config.sampling.lanes: unipc: has"),
        ({"corrector": "langevin"}, "config.sampling.corrector: not with config.sampling.lanes"),
        ({"noise": "brownian"}, "config.sampling.noise: .*not with lanes"),
        ({"sampler": "adaptive"}, "config.sampling.lanes: applies to rows"),
    ],
)
def test_requests_that_items_cannot_meet_are_refused(trained, request_, says):
    """Sampling would fail when it is compiled, or use other positions."""
    with pytest.raises(ConfigError, match=says):
        trained.job(**request_)


def test_networks_with_one_time_refuse_lanes_by_name():
    """A network would be told times that it never saw in training."""
    asked = config.load("series")
    asked["network"] = {"name": "dit", "width": 8, "depth": 1, "heads": 2}
    asked["loss"] = {"name": "denoising"}
    trained = redrawn(builder.experiment(asked))
    for request in ({"given": "test:0", "known": [0]}, {"lanes": "full"}):
        with pytest.raises(ConfigError, match=r"trains one time for each item.*name='forcing'"):
            trained.job(**request)
    asked = config.load("series")
    asked["network"] = {"name": "wavenet", "channels": 8, "depth": 1}
    with pytest.raises(ConfigError, match=r"config.loss: Network\(WaveNet\): takes one time"):
        builder.experiment(asked)


def test_the_command_continues_held_out_items(trained, tmp_path, monkeypatch, capsys):
    """The documented command would not run, or write other rows than the given ones."""
    trained.save(tmp_path / "run")
    flags = ["--given=test:0,1,2", "--known=0:2,14:16", "--lanes=pyramid:delay=2,sizes=(2,)"]
    out = tmp_path / "x.npz"
    line = [f"--workdir={tmp_path / 'run'}", *flags, f"--out={out}"]
    assert ended(monkeypatch, "sample", *line) == 0
    assert "given 4 positions of 3 sequences" in capsys.readouterr().out
    with np.load(out) as written:
        x = written["arr_0"]
    items = series("test").x[:3]
    np.testing.assert_array_equal(x[:, [0, 1, 14, 15]], items[:, [0, 1, 14, 15]])


@pytest.mark.parametrize("text", ["a", "3:2", "0:", "-1", "0:9999999", ""])
def test_positions_on_the_command_line_are_numbers_or_ranges(text):
    assert cli.places("0:3,7") == [0, 1, 2, 7]
    with pytest.raises(Exception, match="needs positions, as 0:8"):
        cli.places(text)
