"""How many samples of masked diffusion on letters are words, and how many bits does a word need?

    python -m diffjax.train --config=configs/words_masked.py --workdir=runs/words \\
        --config.data.name=lines:/usr/share/dict/words
    python -m experiments.discrete.words --run=runs/words --out=experiments/discrete

The bound on held-out words is the mean over DRAWS stratified sets of times. Beside it are models of
letters that know the last n - 1 of them, with counts interpolated by Witten and Bell's weights.
A sample is a word where it is a line of the file; those among them that training has not seen are
held out. Writes words.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import cli
from diffjax.data.lines import texts
from diffjax.files import write_text
from diffjax.objectives import Context, Discrete
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE, DRAWS, NUM, SHOWN, ORDERS = "words.json", 8, 2000, 24, (1, 3, 5)
EDGE = "."
"""The sign before the first and behind the last letter of a word."""


class Grams:
    """A model of letters: p(letter | last n - 1), interpolated with that of n - 1 (Witten, Bell).

    With c the count of a context and d the number of different letters behind it, the counts have
    the weight c / (c + d). Below n = 1 all signs are equally likely.
    """

    def __init__(self, words: list[str], n: int, alphabet: str):
        self.n, self.signs = n, alphabet + EDGE
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        for word in words:
            text = EDGE * (n - 1) + word + EDGE
            for i in range(n - 1, len(text)):
                for k in range(n):
                    self.counts[text[i - k : i]][text[i]] += 1

    def law(self, context: str) -> np.ndarray:
        """Return the probabilities of all signs behind a context of at most n - 1 letters."""
        below = self.law(context[1:]) if context else np.full(len(self.signs), 1 / len(self.signs))
        if not (found := self.counts.get(context)):
            return below
        count = np.array([found[sign] for sign in self.signs], float)
        return (count + len(found) * below) / (count.sum() + len(found))

    def bits(self, word: str) -> float:
        """Return -log2 of the probability of a word."""
        text = EDGE * (self.n - 1) + word + EDGE
        each = [
            self.law(text[i - self.n + 1 : i])[self.signs.index(text[i])]
            for i in range(self.n - 1, len(text))
        ]
        return float(-np.log2(each).sum())

    def draw(self, rng: np.random.Generator, most: int) -> str:
        """Draw a word; one of more than `most` letters is drawn again."""
        while True:
            text = EDGE * (self.n - 1)
            while len(text) < self.n + most:
                p = self.law(text[len(text) - self.n + 1 :])
                text += self.signs[rng.choice(len(p), p=p)]
                if text[-1] == EDGE:
                    break
            word = text[self.n - 1 : -1]
            if word and text[-1] == EDGE:
                return word


def bound(trained: Trained, x: np.ndarray) -> tuple[float, float]:
    """Return the bound on items x in bits per word, and the error of its times."""
    loss, denoise = trained.experiment.loss, trained.denoise
    assert isinstance(loss, Discrete)
    batch = {"x": jnp.asarray(x)}

    @jax.jit
    def once(key: Any) -> Any:
        whole = loss.before_split(batch, jax.random.fold_in(key, 1))
        context = Context(denoise.model, denoise.params, whole, key, evaluating=True)
        return loss(context)[0] / math.log(2) * x[0].size

    bits = np.array([once(key) for key in jax.random.split(jax.random.key(0), DRAWS)])
    return float(bits.mean()), float(bits.std(ddof=1) / math.sqrt(DRAWS))


def shares(made: list[str], train: set[str], test: set[str]) -> dict[str, Any]:
    """Return the shares of samples that are words, that are held-out words, and that differ."""
    known = [w in train or w in test for w in made]
    return {
        "words": float(np.mean(known)),
        "held_out": float(np.mean([w in test for w in made])),
        "different": len({*made}) / len(made),
    }


def study(run: Path, out: Path, num: int) -> None:
    """Measure the models of letters and the run."""
    trained = load(run)
    source = trained.experiment.source
    alphabet = dict(trained.experiment.form.units)["alphabet"]
    train, held_out = (texts(source(split).x, alphabet) for split in ("train", "test"))
    rng, rows = np.random.default_rng(0), {}
    for n in ORDERS:
        grams = Grams(train, n, alphabet)
        made = [grams.draw(rng, trained.experiment.form.shape[0]) for _ in range(num)]
        bits = float(np.mean([grams.bits(word) for word in held_out[:num]]))
        rows[f"{n} letters"] = {"bits": bits, **shares(made, {*train}, {*held_out})}
    bits, error = bound(trained, source("test").x[:num])
    made = texts(trained.sample(num, batch_size=250).x, alphabet)
    rows["masked diffusion"] = {
        "bits": bits,
        "error": error,
        **shares(made, {*train}, {*held_out}),
        "shown": made[:SHOWN],
    }
    rows["held-out words"] = shares(held_out[:num], {*train}, {*held_out})
    about = {"step": trained.step, "train": len(train), "held_out": len(held_out)}
    write_text(out / FILE, json.dumps({"rows": rows} | about | provenance(), indent=1) + "\n")
    print(*made[:SHOWN])


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    report = json.loads((folder / FILE).read_text())
    share = lambda row, name: f"{row[name]:.1%}"
    lines = [
        [
            name,
            (f"{row['bits']:.2f}" if "bits" in row else "")
            + (f" ± {row['error']:.2f}" if "error" in row else ""),
            *(share(row, k) for k in ("words", "held_out", "different")),
        ]
        for name, row in report["rows"].items()
    ]
    heads = ["", "bits per held-out word", "samples that are words", "held-out ones", "different"]
    return {"discrete-words": table(heads, lines)}


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--run", type=Path, required=True, help="a run of configs/words_masked.py")
    flags.add_argument("--out", type=Path, default=Path("experiments/discrete"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="samples of each model")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study(asked.run, asked.out, asked.num)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
