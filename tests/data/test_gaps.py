"""Imputation of data with gaps: what the network is given, what counts, and the fixed point."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ended, one_device

import diffjax
from diffjax import builder
from diffjax.analytic import LaneDenoiser
from diffjax.config import ConfigError
from diffjax.data import Batches, Memory, Reading, array, table
from diffjax.data.form import ABSENT, KNOWN, Form, from_json
from diffjax.data.hidden import Concealed, Hidden
from diffjax.data.pipeline import masked
from diffjax.denoiser import Model
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.ensembles import crps
from diffjax.nets import Network
from diffjax.objectives import Context, Denoising
from diffjax.parameterization import X0, t
from diffjax.schedules import Cosine
from diffjax.sde import VP

SDE = VP(Cosine())
N, D = 4096, 4
MEAN = np.array([0.5, -0.3, 0.0, 0.2])
COV = 0.8 ** abs(np.subtract.outer(np.arange(D), np.arange(D)))


@pytest.fixture(scope="module")
def gappy():
    """Gaussian rows (N, D), of whose values each is missing with probability 0.3."""
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal(MEAN, COV, N)
    return np.where(rng.random((N, D)) < 0.3, np.nan, x).astype(np.float32)


@dataclass(frozen=True)
class Exact:
    """The exact E[x0 | x_t, known, absent] as a network, times a scale.

    Known values have the time 0, and absent ones the time 1, at which x_t is noise alone.
    """

    told: bool = True

    def __call__(self, params, x, c_noise, cond, *, key=None):
        known, gap = cond[KNOWN], cond[ABSENT] == 1
        there = ~jnp.isnan(known)
        time = jnp.where(there, 0.0, c_noise[:, None])
        time = jnp.where(gap, 1.0, time) if self.told else time
        exact = LaneDenoiser(SDE, jnp.asarray(MEAN), jnp.asarray(COV))
        return params["scale"] * exact(jnp.where(there, known, x), time).x0


def loss_of(x: np.ndarray, apply: Exact, at: float):
    """Return the loss at one time as a function of the scale of the network's output."""
    source = Concealed(Memory(x, kind="vector", gaps=True), Hidden())
    reading = Reading(hidden=Hidden(), kind="vector")
    items = jax.tree.map(jnp.asarray, source.draw(np.arange(N), np.arange(N), seed=0))
    batch = {"x": items["x"], "cond": {k: items[k] for k in (KNOWN, ABSENT)}}
    batch = reading.on_device(jax.random.key(0), batch) | {"u": jnp.full(N, at)}
    network: Any = Network(lambda *shapes: {}, apply)  # pyright: ignore[reportArgumentType]
    model = Model(SDE, X0(c_noise=t, scale_input=False), network)

    def loss(scale):
        context = Context(model, {"network": {"scale": scale}}, batch, jax.random.key(1))
        return Denoising()(context)[0]

    return loss, batch


def test_the_exact_denoiser_of_a_gaussian_with_missing_values_is_a_fixed_point(gappy):
    """Imputed values would be drawn to 0, as if a gap were a value of 0.

    At time t a hidden value has the variance given what is known and the noisy hidden values,
    without the gaps: the loss is its mean. The derivative by a scale of the output is 0.
    """
    at = 0.6
    loss, batch = loss_of(gappy, Exact(), at)
    value, slope = jax.jit(jax.value_and_grad(loss))(1.0)
    alpha, sigma = (float(f(jnp.asarray(at))) for f in (SDE.alpha, SDE.sigma))
    expected = []
    for counts, known in zip(
        np.asarray(batch["mask"]), np.asarray(batch["cond"][KNOWN]), strict=True
    ):
        hidden, there = np.flatnonzero(counts), np.flatnonzero(~np.isnan(known))
        if not len(hidden):
            expected.append(0.0)
            continue
        gain = COV[np.ix_(hidden, there)] @ np.linalg.inv(COV[np.ix_(there, there)])
        cov = COV[np.ix_(hidden, hidden)] - gain @ COV[np.ix_(there, hidden)]
        noisy = alpha**2 * cov + sigma**2 * np.eye(len(hidden))
        left = cov - alpha**2 * cov @ np.linalg.solve(noisy, cov)
        expected.append(np.trace(left) / len(hidden))
    assert abs(float(value) / np.mean(expected) - 1) < 4 * 2**0.5 / N**0.5
    assert abs(float(slope)) < 0.03
    untold, _ = loss_of(gappy, Exact(told=False), at)
    assert float(untold(1.0)) > 1.05 * float(value)  # 1.07 times


def test_gaps_and_known_values_do_not_count_and_nothing_is_read_from_a_gap(gappy):
    """The loss would depend on what stands in a gap, or reward copying what is known."""
    x = jnp.asarray(gappy[:64])
    known = jnp.where(jnp.arange(D)[None] < 2, x, jnp.nan)
    gap = jnp.isnan(x)
    batch = masked({"x": x, "cond": {KNOWN: known, ABSENT: jnp.full_like(x, jnp.nan)}})
    np.testing.assert_array_equal(batch["mask"], (jnp.arange(D)[None] >= 2) & ~gap)
    np.testing.assert_array_equal(batch["x"], jnp.where(gap, 0, x))
    np.testing.assert_array_equal(batch["kept"][ABSENT] == 1, gap)
    assert jnp.isnan(batch["kept"][ABSENT][~gap]).all() and [*batch["cond"]] == [KNOWN]


def test_the_form_states_gaps_and_samples_keep_what_is_known(gappy, tmp_path):
    np.save(tmp_path / "x.npy", gappy)
    source = array("train", str(tmp_path / "x.npy"), kind="vector", gaps=True)
    assert source.form.gaps and from_json(source.form.as_json()).gaps
    form = Hidden().form(source.form)
    assert form.names == [KNOWN, ABSENT]
    known = np.array([[1.0, np.nan, np.nan, 2.0]], np.float32)
    samples = np.arange(4, dtype=np.float32)[None]
    assert form.completed(samples, {KNOWN: known}).tolist() == [[1.0, 1.0, 2.0, 2.0]]
    items = Concealed(source, Hidden())[np.arange(5)]
    assert np.isnan(items[ABSENT]).all() and np.isnan(items["x"]).any()
    assert np.isnan(items[KNOWN][np.isnan(items["x"])]).all()
    batch = Batches(Concealed(source, Hidden()), 8, 0, Reading(hidden=Hidden(), kind="vector"))[0]
    assert {*batch} == {"x", KNOWN, ABSENT}


CSV = "size,kind,price\n1,a,\n2,,3\n,b,4\n4,a,6\n5,b,7\n"


def test_empty_cells_of_a_table_are_gaps_and_columns_are_hidden_whole(tmp_path):
    """A level of a category would be told by the others, or a mean would contain the gaps."""
    (tmp_path / "t.csv").write_text(CSV)
    source = table("train", str(tmp_path / "t.csv"), holdout=0.0, missing="keep")
    columns = dict(source.form.units)["columns"]
    assert columns["size"]["mean"] == 3.0 and columns["kind"] == {"levels": ["a", "b"]}
    gone = [[0, 0, 0, 1], [0, 1, 1, 0], [1, 0, 0, 0], [0] * 4, [0] * 4]
    np.testing.assert_array_equal(np.isnan(source.x), np.array(gone, bool))
    assert source.form.gaps
    hidden = Concealed(source, Hidden((0.4, 0.6)))
    drawn = [hidden.draw(np.arange(3, 5), np.arange(2), seed)[KNOWN] for seed in range(8)]
    gone = np.isnan(np.concatenate(drawn))
    np.testing.assert_array_equal(gone[:, 1], gone[:, 2])
    assert {*gone[:, [0, 1, 3]].sum(1).tolist()} == {1, 2}
    files = source.form.items.files[0]
    read = files.read(tmp_path / "t.csv", (4,), dict(source.form.units))
    np.testing.assert_allclose(read, source.x, rtol=1e-6)


def test_scores_of_imputed_values_leave_out_the_gaps(gappy):
    """A score would be NaN, or compare with a value that no one knows."""
    source = Concealed(Memory(gappy[:200], kind="vector", gaps=True), Hidden((0.5, 0.5)))
    reading = Reading(hidden=Hidden((0.5, 0.5)), kind="vector")
    real = Real(lambda split: source, reading, 200, Path())
    asked = np.arange(40) % 20
    truth = np.nan_to_num(gappy[asked], nan=1e3)
    found = crps(real, Samples(truth, None, asked), resamples=0)
    assert found["score"] == 0 and 0.3 < found["climatology"] < 1
    with pytest.raises(ValueError, match=r"metrics: values of the vectors are missing; allowed"):
        _ = real.features


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"gaps": True},
            r"data.hidden=.*: values of the vectors are missing; allowed: data.hidden",
        ),
        ({"hidden": {}}, "values up to nan; needs finite vectors"),
    ],
)
def test_gaps_are_refused_where_nothing_imputes_them(gappy, tmp_path, settings, message):
    np.save(tmp_path / "x.npy", gappy)
    spec = {"name": f"array:{tmp_path / 'x.npy'}", "kind": "vector"} | settings
    source, reading = builder.construct_data(spec, "config.data")
    with pytest.raises(ConfigError, match=message):
        builder.refuse("config.data")(lambda: reading.check(source("train")))()


def test_gaps_need_floats_of_one_length_and_labels_have_none(tmp_path):
    with pytest.raises(ValueError, match="gaps: images of uint8; needs float32"):
        Form("image", (8, 8, 1), dtype="uint8", gaps=True)
    (tmp_path / "t.csv").write_text(CSV)
    with pytest.raises(ValueError, match="line 3: kind is empty"):
        table("train", str(tmp_path / "t.csv"), missing="keep", label="kind")


@pytest.mark.thorough
def test_a_run_on_rows_with_gaps_imputes_and_keeps_what_is_known(tmp_path, monkeypatch, capsys):
    """Known cells would come back as the network's guess, or gaps would make the loss NaN."""
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal(MEAN, COV, 200)
    cells = np.where(rng.random(x.shape) < 0.3, "", x.round(3).astype(str))
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,d", *map(",".join, cells)]) + "\n")
    run, short = tmp_path / "run", ["log_every", "sample_every", "checkpoint_every", "steps"]
    changes = [f"train.{name}=2" for name in short] + ["network.width=8", "train.samples=9"]
    named = {"name": f"table:{tmp_path / 't.csv'}", "missing": "keep", "hidden": {}}
    known = np.array([[1.5, np.nan, -0.5, np.nan]], np.float32)
    with one_device():
        changes += [f"data={named | {'labels': False}}", "train.writers=()", "sampling.steps=2"]
        diffjax.fit("moons_vp", run, *changes)
        trained = diffjax.load(run)
        samples = trained.sample(3, cond={KNOWN: known}, guidance=1.0)
        assert "loss" in (run / "metrics.jsonl").read_text() and np.isfinite(samples.x).all()
        np.testing.assert_array_equal(samples.x[:, [0, 2]], np.tile(known[:, [0, 2]], (3, 1)))
        assert np.ptp(samples.x[:, 1]) > 0
        place, out = tmp_path / "known.csv", tmp_path / "imputed.csv"
        place.write_text("a,b,c,d\n1.5,,-0.5,\n,,0.25,\n")
        flags = (f"--workdir={run}", "--num=2", f"--cond=known={place}")
        assert ended(monkeypatch, "sample", *flags, f"--out={out}") == 0
        header, *rows = [line.split(",") for line in out.read_text().splitlines()]
        assert header == ["a", "b", "c", "d"] and all(all(row) for row in rows)
        found = [float(rows[0][0]), float(rows[0][2]), float(rows[1][2])]
        np.testing.assert_allclose(found, [1.5, -0.5, 0.25], atol=1e-6)
        place.write_text("a,b,c\n1.5,,-0.5\n")
        assert ended(monkeypatch, "sample", *flags, f"--out={out}") == 2
        assert "known.csv: has the columns a, b, c; needs the columns" in capsys.readouterr().err
        flags = (f"--workdir={run}", "--metrics=frechet", "--num=9")
        assert ended(monkeypatch, "evaluate", *flags) == 2
        assert "frechet: values of table items are missing; allowed" in capsys.readouterr().err
