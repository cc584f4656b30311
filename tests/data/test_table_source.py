"""Rows of tables: scaling of the columns and back, files and pictures."""

import csv
import json
import re

import numpy as np
import pytest
from commands import ended, one_device

import diffjax
from diffjax.data import Memory, load, table
from diffjax.data.form import from_json
from diffjax.data.kinds import figures
from diffjax.data.kinds.table import decoded


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
        ("a,b\n1,2\n3,\n", {}, "line 3: b is empty; leave out the row or the column"),
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
