"""Metrics: each step of a run appears once, however often the run was interrupted."""

import json
import sys
import time
import types
from io import BytesIO

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import event_file_writer

from diffjax import builder
from diffjax.config import ConfigError
from diffjax.likelihood import EDGES
from diffjax.training.log import Log
from diffjax.training.writers import JSONL, WRITERS, Tensorboard, Writer, check_writers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, start: int, steps) -> None:
    writer = JSONL(path.parent, start)
    for step in steps:
        writer.scalars(step, {"loss": step / 10})
    writer.close()


def test_lines_are_readable_json_in_order(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 0, [5, 10])
    assert rows(path) == [{"step": 5, "loss": 0.5}, {"step": 10, "loss": 1.0}]


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path):
    """Lines would be lost in a kill -9."""
    path = tmp_path / "metrics.jsonl"
    writer = JSONL(path.parent, 0)
    writer.scalars(5, {"loss": 1.0})
    assert rows(path) == [{"step": 5, "loss": 1.0}]
    writer.close()


@pytest.mark.parametrize("start", [0, 5, 7, 10, 15])
def test_a_resumed_run_has_every_step_once(tmp_path, start):
    """Steps after the checkpoint, which are repeated, would appear twice."""
    path = tmp_path / "metrics.jsonl"
    write(path, 0, [5, 10, 15])
    write(path, start, [s for s in (5, 10, 15, 20) if s > start])
    assert [r["step"] for r in rows(path)] == [5, 10, 15, 20]


@pytest.mark.parametrize(
    "rest", ["{", '{"step": 10, "lo', '{"step": 10}\n{"st', '{"step"\n', "\n", "\0\0\0\0"]
)
def test_a_damaged_last_line_is_removed(tmp_path, rest):
    """A line cut by a kill or a full disk would be joined with the next, and spoil both."""
    path = tmp_path / "metrics.jsonl"
    write(path, 0, [5])
    with path.open("a") as file:
        file.write(rest)
    write(path, 5, [10])
    assert [r["step"] for r in rows(path)] == [5, 10]


def test_a_whole_last_line_without_its_end_is_not_joined_to_the_next(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5, "loss": 0.5}')
    write(path, 5, [10])
    assert [r["step"] for r in rows(path)] == [5, 10]


def test_a_file_with_nothing_to_remove_is_left_as_it_is(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 0, [5, 10])
    before = path.stat().st_ino, path.read_bytes()
    write(path, 10, [])
    assert (path.stat().st_ino, path.read_bytes()) == before
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """Return a module in place of wandb that records its calls."""
    told = []
    run = types.SimpleNamespace(
        define_metric=lambda *args, **kwargs: None,
        log=told.append,
        finish=lambda: told.append("finished"),
    )
    made = types.SimpleNamespace(
        told=told,
        init=lambda **settings: told.append(settings) or run,
        Image=lambda image: ("image", image.shape),
        Histogram=lambda np_histogram: ("histogram", *map(len, np_histogram)),
    )
    monkeypatch.setitem(sys.modules, "wandb", made)
    (tmp_path / "config.json").write_text('{"seed": 3}')
    return made


@pytest.mark.parametrize("make", [JSONL, *WRITERS.values()])
def test_the_writers_are_writers(tmp_path, wandb, make):
    """An entry could not be constructed from (workdir, start), or receive a log."""
    made = make(tmp_path, 0)
    assert isinstance(made, Writer)
    made.scalars(1, {"loss": 0.5})
    made.histogram(1, "loss_at_logsnr", (0, 1, 2), np.ones(2, np.float32))
    made.image(1, "samples", np.zeros((2, 2, 3), np.uint8))
    made.close()


def test_a_resumed_run_is_the_same_run_at_wandb(tmp_path, wandb):
    """Each launch would be a separate run at wandb."""
    for start in (0, 5):
        writer = WRITERS["wandb"](tmp_path, start, project="mine")
        writer.scalars(start + 5, {"loss": 1.0})
        writer.histogram(start + 5, "h", (0, 1, 2), np.ones(2))
        writer.close()
    first, second = wandb.told[:4], wandb.told[4:]
    assert first[0] == second[0] and first[0]["id"]
    assert first[0] == {
        "project": "mine",
        "name": tmp_path.name,
        "dir": str(tmp_path),
        "config": {"seed": 3},
        "id": (tmp_path / "wandb.txt").read_text().strip(),
        "resume": "allow",
    }
    assert first[1:] == [
        {"step": 5, "loss": 1.0},
        {"step": 5, "h": ("histogram", 2, 3)},
        "finished",
    ]
    assert second[1] == {"step": 10, "loss": 1.0}


def test_a_writer_whose_package_is_not_installed_names_the_command(monkeypatch):
    """A run would write its config, and stop before its first step."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"^config.train.writers: .*pip install wandb$"):
        check_writers([WRITERS["tensorboard"], builder.Applied(WRITERS["wandb"], ())])


def test_writers_are_built_from_names_with_settings():
    """`wandb:project=mine` in a config would not suffice."""
    tensorboard, wandb = builder.construct_writers(("tensorboard", "wandb:project=mine"))
    assert tensorboard is Tensorboard
    assert wandb.arguments == (("project", "mine"),)
    with pytest.raises(
        ConfigError, match=r"writers\[1\].name='tensrboard': unknown.*'tensorboard'"
    ):
        builder.construct_writers(("wandb", "tensrboard"))


@pytest.fixture
def board(tmp_path, monkeypatch):
    """Write scalars of a run begun at `start`, to event files of increasing times."""
    clock = types.SimpleNamespace(now=1_700_000_000.0, time=lambda: clock.now)
    monkeypatch.setattr(event_file_writer, "time", clock)  # its file names are in seconds

    def run(start: int, steps, image=None) -> None:
        clock.now += 10
        writer = Tensorboard(tmp_path, start)
        for step in steps:
            writer.scalars(step, {"loss": step / 10 + start / 1000, "rate": 1.0})
            if image is not None:
                writer.image(step, "samples", image)
        writer.close()

    return run


def accumulated(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), {"histograms": 0})
    events.Reload()
    return events


def test_tensorboard_reads_the_scalars(tmp_path, board):
    board(0, [5, 10])
    events = accumulated(tmp_path / "tensorboard")
    assert set(events.Tags()["scalars"]) == {"loss", "rate"}
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("loss")] == [(5, 0.5), (10, 1)]


def test_tensorboard_reads_the_images(tmp_path, board):
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    board(0, [5], image)
    (event,) = accumulated(tmp_path / "tensorboard").Images("samples")
    assert (event.step, event.height, event.width) == (5, 6, 9)
    read = np.asarray(Image.open(BytesIO(event.encoded_image_string)).convert("RGB"))
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("start", [0, 5, 10])
def test_tensorboard_shows_a_resumed_run_once(tmp_path, board, start):
    """Curves would fold back at every restart, and be unreadable."""
    board(0, [5, 10, 15])
    board(start, [s for s in (5, 10, 15, 20) if s > start])
    events = accumulated(tmp_path / "tensorboard").Scalars("loss")
    assert [e.step for e in events] == [5, 10, 15, 20]
    for e in events:
        again = start / 1000 if e.step > start else 0
        assert e.value == pytest.approx(e.step / 10 + again)


@pytest.fixture
def binned():
    """Return sums and counts of losses in bins of log-SNR, of 3 + 2 steps, most bins empty."""
    rng, bins = np.random.default_rng(0), len(EDGES) - 1
    count = rng.integers(1, 4, (5, bins)) * (np.arange(bins) % 3 == 0)
    count[1:, 0] = 0  # seen in one step only
    return np.stack([count * rng.uniform(1, 2, (5, bins)), count], 1).astype(np.float32)


def test_losses_by_log_snr_are_one_mean_per_bin_that_was_seen(tmp_path, binned):
    """Rare noise levels would count too much, as in a mean of means, or empty bins have a value."""
    log = Log(tmp_path, 0, 8, [Tensorboard])
    for part in (binned[:3], binned[3:]):
        log.add({"loss": jnp.arange(float(len(part))), "loss_at_logsnr": jnp.asarray(part)})
    written = log.write(5)
    log.add({"loss": jnp.ones(1), "loss_at_logsnr": jnp.asarray(binned[:1])})
    log.write(6)
    log.close()
    total, count = binned.sum(0)
    expected = {
        f"loss_at_logsnr/{low}": pytest.approx(a / n, rel=1e-6)
        for low, a, n in zip(EDGES, total, count, strict=False)
        if n
    }
    assert {"loss_at_logsnr/-16", "loss_at_logsnr/-4", "loss_at_logsnr/2"} <= set(expected)
    row, last = rows(tmp_path / "metrics.jsonl")
    assert {k: v for k, v in row.items() if "/" in k} == expected
    assert row == {"step": 5, **written} and row["loss"] == pytest.approx(4 / 5)
    assert last["loss_at_logsnr/-16"] == pytest.approx(binned[0, 0, 0] / binned[0, 1, 0])
    events = accumulated(tmp_path / "tensorboard")
    assert set(events.Tags()["scalars"]) == set(row) - {"step"}
    for name, mean in expected.items():
        first = events.Scalars(name)[0]
        assert (first.step, first.value) == (5, mean)
    # The losses as a histogram: log-SNR on the x axis, mean loss on the y axis.
    first, _ = events.Histograms("loss_at_logsnr")
    value = first.histogram_value
    assert (value.min, list(value.bucket_limit)) == (EDGES[0], list(EDGES[1:]))
    heights = {f"loss_at_logsnr/{low}": h for low, h in zip(EDGES, value.bucket, strict=False) if h}
    assert heights == expected


def test_what_is_no_training_does_not_slow_the_rate(tmp_path):
    """Pictures and the held-out loss between two lines would look like slow steps."""
    log = Log(tmp_path, 0, 8)
    began = time.monotonic()
    with log.paused():
        time.sleep(0.3)
    log.add({"loss": jnp.ones(1)})
    rate = log.write(1)["images_per_s"]
    log.close()
    assert rate > 8 / (time.monotonic() - began - 0.25)
