"""Rows of tables: scaling of the columns and back, files and pictures."""

import csv
import json
import re
import sys
from statistics import NormalDist

import numpy as np
import pytest
from commands import ended, one_device

import diffjax
from diffjax.data import Memory, diamonds, load, table
from diffjax.data.form import from_json
from diffjax.data.kinds import figures
from diffjax.data.kinds.table import KNOTS, decoded, encoded, quantile


def rows_of(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_columns_are_standardised_by_training_rows_and_come_back(tiny_table, tmp_path):
    """Held-out rows would influence training, or files show standardised numbers."""
    train, test = (table(s, str(tiny_table), 0.3, label="sort") for s in ("train", "test"))
    assert train.form == test.form and train.form.kind == "table" and train.form.shape == (5,)
    assert list(dict(train.form.units)["columns"]) == ["carat", "cut", "price"]
    np.testing.assert_allclose(train.x[:, [0, 4]].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(train.x[:, [0, 4]].std(0), 1, rtol=1e-6)
    assert set(np.unique(train.x[:, 1:4])) == {-1, 1} and (train.x[:, 1:4].sum(1) == -1).all()
    form = from_json(json.loads(json.dumps(test.form.as_json())))  # as a run stores it
    original = {(f"{float(r['carat']):.4f}", r["cut"], f"{float(r['price']):.4f}", int(r["sort"]))
                for r in rows_of(tiny_table)}  # fmt: skip
    seen = set()
    for source in (train, test):
        columns = decoded(form.denormalise(source.x), dict(form.units))
        for carat, cut, price, sort in zip(*columns.values(), source.labels(), strict=True):
            seen.add((f"{carat:.4f}", str(cut), f"{price:.4f}", int(sort)))
    assert seen == original and len(train) + len(test) == 40
    (files,) = form.items.files
    files.write(tmp_path / "a.csv", test.x, dict(form.units), {})
    assert [*rows_of(tmp_path / "a.csv")[0]] == ["carat", "cut", "price"]
    again = files.read(tmp_path / "a.csv", form.shape, dict(form.units))
    np.testing.assert_allclose(again, test.x, atol=1e-5)
    (tmp_path / "b.csv").write_text((tmp_path / "a.csv").read_text().replace("cut", "colour"))
    with pytest.raises(
        ValueError,
        match=r"b.csv: has .* carat, colour, price; needs .* carat, cut",
    ):
        files.read(tmp_path / "b.csv", form.shape, dict(form.units))


def test_chosen_columns_and_categories_of_numbers(tiny_table):
    chosen = {"columns": ("price", "sort"), "categories": ("sort",)}
    source = table("train", str(tiny_table), **chosen)
    assert source.form.shape == (3,) and source.label is None
    assert dict(source.form.units)["columns"]["sort"] == {"levels": ["0", "1"]}
    assert load(source).form.units == source.form.units


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("a,b\n1,2\n3\n", {}, "line 3 has 1 cells; needs 2"),
        ("a,b\n1,2\n3,\n", {}, "line 3: b is empty; leave out the row"),
        ("a,b\n1,\n3,\n", {"missing": "drop"}, "every row has an empty cell"),
        ("a,b\n1,2\n", {"missing": "mean"}, "missing='mean': unknown; known: refuse, drop"),
        ("a,b\n1,2\n", {"scale": "log"}, "scale='log': unknown; known: standard, quantile"),
        ("a,b\n,2\n3,inf\n4,5\n", {"missing": "drop"}, "line 3: b=inf: needs a finite number"),
        ("a,b\n1,2\n3,inf\n", {}, "line 3: b=inf: needs a finite number"),
        ("a,b\n1,2\n1,3\n", {}, "a: is 1 in every row; columns="),
        ("a,b\nx,2\nx,3\n", {}, "a: has 1 levels, such as 'x'; needs numbers, or 2 to 100"),
        ("a\n1\n2\n", {}, "a single number per row; needs at least two"),
        ("a,a\n1,2\n", {}, "needs a first line with a different name"),
        ("a,b\n", {}, "needs a first line with a different name"),
        ("", {}, "needs a first line with a different name"),
        ("a,b\n1,2\n2,3\n", {"columns": ("c", "a")}, "columns='c': no such column; known: a, b"),
        ("a,b\n1,2\n2,3\n", {"label": "bb"}, "label='bb': no such column (did you mean 'b'?)"),
    ],
)
def test_a_table_that_cannot_be_learnt_is_refused_by_its_line(tmp_path, text, settings, message):
    """Rows would vanish, or shift by a cell, without notice."""
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        table("train", str(path), 0.0, **settings)
    if "unknown; known" not in message:
        assert str(path) in str(refused.value)


def test_a_picture_names_its_columns(tiny_table, monkeypatch):
    """The rows of a table would be curves without names."""
    source, names = table("train", str(tiny_table), label="sort"), []
    kept = figures.drawn

    def look(figure):
        names.extend(t for axes in figure.axes for t in (axes.get_xlabel(), axes.get_ylabel()))
        return kept(figure)

    monkeypatch.setattr(figures, "drawn", look)
    picture = source.form.picture(source.x, source.label)
    assert {*names} == {"", "carat", "count", "cut", "price"} and picture.std() > 10
    source = Memory(source.x[:, :2], kind="table")
    assert source.form.picture(source.x).std() > 10 and {"x0", "x1"} <= {*names}


def numbers(shape: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return {
        "heavy": np.exp(2 * rng.normal(size=3000)),
        "ties": rng.integers(0, 5, 500).astype(float),
        "mostly equal": np.r_[np.zeros(400), rng.normal(size=100)],
        "two": np.array([1.0, 2.0, 2.0]),
    }[shape]


@pytest.mark.parametrize("shape", ["heavy", "ties", "mostly equal", "two"])
def test_normal_scores_have_an_exact_inverse_and_are_monotone(shape):
    """Numbers of a file would come back changed, or rows in another order."""
    train = numbers(shape)
    column = json.loads(json.dumps(quantile(train)))
    assert len(column["values"]) <= KNOTS
    units = {"columns": {"a": column}}
    low, high = train.min(), train.max()
    between = np.r_[train, np.linspace(low, high, 997), low - 1.5, high + 0.25]
    for spread in (0.5, np.random.default_rng(1).random(len(between))):
        scores = encoded([*map(repr, between.tolist())], column, spread)
        np.testing.assert_allclose(decoded(scores, units)["a"], between, rtol=1e-9, atol=1e-9)
    ordered = encoded([*map(repr, np.unique(between).tolist())], column)[:, 0]
    assert (np.diff(ordered) > 0).all()


@pytest.mark.parametrize("shape", ["heavy", "ties", "mostly equal"])
def test_normal_scores_of_training_rows_are_normal(shape):
    """The network would have to learn the steps of equal numbers."""
    train = numbers(shape)
    scores = encoded(
        [*map(repr, train.tolist())], quantile(train), np.random.default_rng(2).random(len(train))
    )[:, 0]
    exact = NormalDist()
    cdf = np.array([exact.cdf(z) for z in np.sort(scores)])
    distance = np.abs(cdf - (np.arange(len(train)) + 0.5) / len(train)).max()
    assert distance < 1.63 / np.sqrt(len(train))  # Kolmogorov-Smirnov at 1 %


def test_scores_are_fitted_on_training_rows_alone(tmp_path):
    """Held-out rows would shape the distribution that judges them."""
    rows = "\n".join(f"{i},{i * i % 7}" for i in range(40))
    (path := tmp_path / "a.csv").write_text(f"a,b\n{rows}\n")
    train, test = (table(s, str(path), 0.3, scale="quantile") for s in ("train", "test"))
    assert train.form == test.form
    own = decoded(train.x, dict(train.units))["a"]
    assert dict(test.units)["columns"]["a"] == quantile(own.round())
    back = np.concatenate([decoded(s.x, dict(s.units))["a"] for s in (train, test)])
    np.testing.assert_allclose(np.sort(back), np.arange(40), atol=1e-4)


def test_parquet_has_the_rows_of_csv(tmp_path):
    """A table would depend on the file in which people keep it."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"a": [1.5, None, 2.5, 4.0], "b": ["x", "y", "z", "x"], "c": [1, 2, None, 3]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("a,b,c\n1.5,x,1\n,y,2\n2.5,z,\n4.0,x,3\n")
    read = lambda name, **settings: table("train", str(tmp_path / name), 0.0, **settings)
    chosen = {"missing": "drop", "columns": ("a", "b")}
    one, other = (read(name, **chosen) for name in ("a.parquet", "a.csv"))
    assert one.form == other.form and len(one) == 3
    np.testing.assert_array_equal(one.x, other.x)
    with pytest.raises(ValueError, match=r"line 3: a is empty; .*missing=drop"):
        read("a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"b.parquet: is no Parquet file"):
        read("b.parquet")


def test_diamonds_have_seven_numbers_and_three_categories(tmp_path, monkeypatch):
    """An excerpt would have other columns; without the package the message must say what to do."""
    rng, names = np.random.default_rng(0), "carat,cut,color,clarity,depth,table,price,x,y,z"
    line = lambda i: [*(f"{v:.2f}" for v in rng.random(7)), ["Fair", "Good"][i % 2]]
    rows = [line(i) for i in range(32)]
    order = [0, 7, 7, 7, 1, 2, 3, 4, 5, 6]
    text = "\n".join(",".join(row[k] for k in order) for row in rows)
    (path := tmp_path / "diamonds.csv").write_text(f"{names}\n{text}\n")
    train, test = (diamonds(split, str(path)) for split in ("train", "test"))
    assert train.shape == (13,) and len(train) + len(test) == 32
    assert [*dict(train.form.units)["columns"]] == names.split(",")
    monkeypatch.setitem(sys.modules, "plotnine", None)
    with pytest.raises(ValueError, match=r'needs plotnine: pip install "diffjax\[diamonds\]"'):
        diamonds("train")


@pytest.mark.thorough
def test_a_run_writes_the_table_that_it_read(tiny_table, tmp_path, monkeypatch):
    """Samples would be written in units that only the run knows."""
    run, short = tmp_path / "run", ["log_every", "sample_every", "checkpoint_every", "steps"]
    changes = [f"train.{name}=2" for name in short] + ["network.width=8", "train.samples=9"]
    changes += [f"data={{'name': 'table:{tiny_table}', 'labels': True, 'label': 'sort'}}"]
    with one_device():
        diffjax.fit("moons_vp", run, *changes, "train.writers=()", "sampling.steps=2")
        flags = [f"--workdir={run}", "--num=9", f"--out={tmp_path / 'a.csv'}"]
        assert ended(monkeypatch, "sample", *flags) == 0
    written = rows_of(tmp_path / "a.csv")
    assert len(written) == 9 and {r["cut"] for r in written} <= {"low", "mid", "high"}
    assert [*written[0]] == ["carat", "cut", "price"]
    assert abs(np.mean([float(r["carat"]) for r in written]) - 5) < 5
