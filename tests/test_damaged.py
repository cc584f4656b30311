"""Damaged files of every kind: refused in one line, or read as if they were whole.

Each variant has bits turned, bytes replaced, a part cut off, put in or emptied. `tests/published`
and `tests/io` have those of checkpoints of others, `tests/training` those of our own.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffjax import builder, data, report
from diffjax.config import ConfigError
from diffjax.evaluation import reference
from diffjax.evaluation.moments import moments
from diffjax.files import read_arrays
from diffjax.generation.job import stored
from diffjax.io import reading
from diffjax.report import answers, evaluated
from diffjax.training import checksums
from diffjax.training.workdir import began_from, read_config, read_form

RNG = np.random.default_rng(0)
X = RNG.normal(size=(9, 4)).astype(np.float32)


def damaged(whole: bytes, draw: random.Random) -> bytes:
    """Return the content of a file with one to three faults."""
    content = bytearray(whole)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(content) + 1)
        end = min(len(content), place + draw.randint(1, 40))
        fault = draw.choice(("bit", "byte", "cut", "insert", "zeros", "gap"))
        if fault == "bit" and place < len(content):
            content[place] ^= 1 << draw.randrange(8)
        elif fault == "byte" and place < len(content):
            content[place] = draw.choice(b'{}[]":,0129e-naz\x00\xff')
        elif fault == "cut":
            del content[place:]
        elif fault == "insert":
            content[place:place] = draw.randbytes(draw.randint(1, 9))
        elif fault == "zeros":
            content[place:end] = bytes(end - place)
        elif fault == "gap":
            del content[place:end]
    return bytes(content)


@dataclass(frozen=True)
class Case:
    """A kind of file. write: makes one in a folder, and returns it. read: what is taken from it.

    sealed: whether the format has checksums, by which nothing else than what was written is read.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], object]
    sealed: bool = False
    count: int = 500


def at(name: str, write: Callable[[Path], object]) -> Callable[[Path], Path]:
    def put(folder: Path) -> Path:
        write(folder / name)
        return folder / name

    return put


def listed(arrays) -> dict:
    return {name: np.asarray(a).tolist() for name, a in sorted(arrays.items())}


def weights(path: Path) -> None:
    checksums.save(path, {"a/kernel": X, "b": np.ones(2, np.float16)}, {"step": "3", "ema": "x"})


def read_weights(path: Path) -> object:
    tensors, about = checksums.load(path)
    return listed(tensors), about.get("step"), about.get("ema")


def run_file(name: str) -> Callable[[Path], Path]:
    """A file of a run beside those that belong to it."""

    def put(folder: Path) -> Path:
        for source in ("config.json", "data.json"):
            (folder / source).write_text(json.dumps(RUN[source]))
        (folder / "launches.jsonl").write_text(
            json.dumps({"step": 0, "time": "2026-01-01T00:00:00", "resume_from": {"path": "/x"}})
        )
        rows = ({"step": k, "loss": 1 / k, "images_per_s": 9.0} for k in (1, 2, 3))
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
        (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
        mark = folder / "checkpoints" / "3" / "commit_success.txt"
        mark.parent.mkdir(parents=True)
        mark.touch()
        return folder / name

    return put


MOONS = {
    "seed": 0,
    "data": {"name": "moons", "labels": True},
    "sde": {"name": "vp", "schedule": {"name": "linear"}},
    "parameterization": {"name": "v"},
    "network": {"name": "mlp", "width": 4, "depth": 1},
    "loss": {"weight": {"name": "uniform_output"}, "condition_dropout": 0.1},
    "optimizer": {"name": "adamw", "learning_rate": 1e-3},
    "ema": {"name": "power", "std": 0.1},
    "sampling": {"sampler": {"name": "ddim"}, "steps": 2},
    "train": {"steps": 3, "batch_size": 8},
}
LABEL = {"name": "label", "mechanism": "label", "size": 2}
RUN = {"config.json": MOONS, "data.json": data.moons("train").form.as_json()}
PROTOCOL = {"sampler": {"name": "ddim"}, "steps": 2, "guidance": 1.0, "num": 8, "seed": 0}
EVALUATION = {"results": [{"protocol": PROTOCOL, "frechet": {"distance": 1.5, "floor": 1.0}}]}
KEY = {"page": "ab", "trials": [{"hit": "left", "items": [0, 1]}, {"hit": "right"}], "question": ""}
ANSWERS = {
    "page": "ab",
    "participant": "me",
    "answers": [{"trial": k, "choice": "left", "ms": 100} for k in (0, 1)],
}


def page(path: Path) -> str:
    """The report of the run that a file belongs to."""
    return report.document(report.read(path.parent), None)


def tables(path: Path) -> object:
    found, _ = evaluated.gathered([path])
    return found and evaluated.markdown(found)


def experiment(path: Path) -> object:
    form = read_form(path.parent)
    return builder.experiment(read_config(path.parent), form).config["seed"], form.shape


def key_of(path: Path) -> object:
    key = answers.read_key(path)
    people = path.with_name("answers.json")
    people.write_text(json.dumps(ANSWERS | {"page": key["page"]}))
    return answers.rates(key, [answers.read_answers(people, key)])


def person(path: Path) -> object:
    return answers.rates(KEY, [answers.read_answers(path, KEY)])


def pictures(ending: str) -> Callable[[Path], Path]:
    def put(folder: Path) -> Path:
        for name in ("0", "1"):
            file = folder / f"{name}{ending}"
            Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(file)
        return folder / f"0{ending}"

    return put


def decoded(path: Path) -> object:
    source = data.folder("train", path=str(path.parent), holdout=0.0, size=8)
    return source[np.arange(2)]["x"].tolist()


def first_batch(path: Path) -> object:
    """The samples of a job that are kept; those that cannot be read are made again."""
    return [listed(part) for part in stored(path.parent, 9)] or None


def archive(path: Path) -> None:
    np.savez(path, arr_0=X, passes=np.ones(9), seconds=np.ones(9))


CASES = {
    "statistics": Case(
        at("mu.npz", lambda path: reference.write(path, {"pool": moments(X)}, {"items": 9})),
        lambda path: repr(reference.opened(path, "pool")),
        sealed=True,
    ),
    "archive": Case(at("x.npz", archive), lambda path: listed(read_arrays(path)), sealed=True),
    "compressed": Case(
        at("x.npz", lambda path: np.savez_compressed(path, x=X)),
        lambda path: listed(read_arrays(path)),
        sealed=True,
    ),
    "array": Case(at("x.npy", lambda path: np.save(path, X)), lambda path: read_arrays(path)),
    "data": Case(
        at("d.npz", lambda path: np.savez(path, x=X, y=np.arange(9) % 3)),
        lambda path: data.array("train", path=str(path)).form.as_json(),
    ),
    "table": Case(
        at("t.csv", lambda path: np.savetxt(path, X, delimiter=",", header="a,b,c,d", comments="")),
        lambda path: data.table("train", path=str(path)).form.as_json(),
    ),
    "weights": Case(at("weights.safetensors", weights), read_weights, sealed=True, count=1500),
    "published archive": Case(
        at("w.npz", lambda path: np.savez(path, w=X)), lambda path: reading.read(path)
    ),
    "config": Case(run_file("config.json"), experiment, count=300),
    "form": Case(run_file("data.json"), experiment, count=200),
    "launches": Case(run_file("launches.jsonl"), lambda path: began_from(path.parent, Path("/x"))),
    "report: config": Case(run_file("config.json"), page, count=200),
    "report: form": Case(run_file("data.json"), page, count=200),
    "report: launches": Case(run_file("launches.jsonl"), page, count=200),
    "report: metrics": Case(run_file("metrics.jsonl"), page, count=200),
    "report: evaluation": Case(run_file("evaluation.json"), page, count=200),
    "table of results": Case(run_file("evaluation.json"), tables),
    "key": Case(at("key.json", lambda path: path.write_text(json.dumps(KEY))), key_of),
    "answers": Case(at("me.json", lambda path: path.write_text(json.dumps(ANSWERS))), person),
    "batch of samples": Case(at("00000000.npz", archive), first_batch),
    "png": Case(pictures(".png"), decoded),
    "jpg": Case(pictures(".jpg"), decoded),
    "webp": Case(pictures(".webp"), decoded),
    "gif": Case(pictures(".gif"), decoded),
}


def faults(case: Case, folder: Path, seed: int, count: int) -> list[str]:
    """Return the faults in reading damaged files: tracebacks, long messages, wrong contents."""
    path = case.write(folder)
    whole, draw, found = path.read_bytes(), random.Random(seed), []
    right = repr(case.read(path))
    for k in range(count):
        path.write_bytes(damaged(whole, draw))
        try:
            taken = case.read(path)
        except (ConfigError, ValueError) as error:
            line = str(error)
            known = type(error) in (ConfigError, ValueError) or isinstance(error, data.Unreadable)
            if "\n" in line or not line or not known:
                found.append(f"{k}: {type(error).__name__}: {line}")
        except Exception as error:
            found.append(f"{k}: {type(error).__name__}: {error}")
        else:
            if case.sealed and repr(taken) != right:
                found.append(f"{k}: another content: {taken}")
        path.write_bytes(whole)
    return found


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_refused_in_one_line_or_read_as_it_was(name, tmp_path, capsys):
    """Users would see a traceback, or continue with values that nobody wrote."""
    assert not faults(CASES[name], tmp_path, seed=0, count=CASES[name].count)
