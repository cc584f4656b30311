"""What does a step of training an adapter cost, over a step of all weights?

    python -m experiments.adapters.steps --out=experiments/adapters

Train steps of one U-Net of digits (`digits_lora`) that train all weights, LoRA of ranks 1 and 16,
and DoRA are compiled, and run in turn in one process, so that other work on the machine disturbs
all of them alike. Reports the median CPU time of a step and its quartiles over the rounds, and the
memory that XLA plans. Writes steps.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffjax import builder, cli
from diffjax.config import load, override
from diffjax.files import write_text
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE, ALL = "steps.json", "all weights"
TRAINED = {
    ALL: (),
    "LoRA, rank 1": ("adapter.rank=1",),
    "LoRA, rank 16": ("adapter.rank=16",),
    "DoRA, rank 8": ("adapter.name=dora",),
}


def prepared(name: str, batch: int) -> tuple[Any, Any, Any, Any]:
    """Return a compiled step with its state and a batch, and the memory that it plans."""
    config = override(load("digits_lora"), (*TRAINED[name], f"train.batch_size={batch}"))
    if name == ALL:
        del config["adapter"]
    e = builder.experiment(config)
    state, items = jax.jit(e.initialise)(), e.batch(e.batches()[0])
    compiled = jax.jit(e.step()).lower(state, items).compile()
    return compiled, state, items, compiled.memory_analysis()


def measured(batch: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Return the CPU milliseconds of a step and MB of memory, by what is trained."""
    ready = {name: prepared(name, batch) for name in TRAINED}
    times: dict[str, list[float]] = {name: [] for name in TRAINED}
    for turn in range(rounds + 1):
        for name, (step, state, items, _) in ready.items():
            began = time.process_time()
            jax.block_until_ready(step(state, items))
            if turn:  # the first round warms up
                times[name].append(1e3 * (time.process_time() - began))
    rows = {}
    for name, (_, state, _, memory) in ready.items():
        held = state.held.get("frozen", {})
        size = lambda tree: sum(a.size for a in jax.tree.leaves(tree))
        rows[name] = {
            "trained": size(state.params["network"]),
            "held": size(held),
            "milliseconds": np.quantile(times[name], [0.25, 0.5, 0.75]).round(2).tolist(),
            "state": round(memory.argument_size_in_bytes / 1e6, 2),
            "temporary": round(memory.temp_size_in_bytes / 1e6, 2),
        }
    return rows


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    if not (folder / FILE).exists():
        return {}
    rows = json.loads((folder / FILE).read_text())["rows"]
    whole = rows[ALL]["milliseconds"][1]
    lines = []
    for name, row in rows.items():
        low, middle, high = row["milliseconds"]
        step = f"{middle:.0f} ({low:.0f} to {high:.0f})"
        memory = f"{row['state']:.1f}", f"{row['temporary']:.0f}"
        lines.append([name, f"{row['trained']:,}", step, f"{middle / whole:.2f}", *memory])
    heads = ["trained", "parameters", "CPU ms of a step", "over all weights"]
    return {"adapters-steps": table([*heads, "MB of state", "MB of temporaries"], lines)}


def main() -> int:
    """Measure, write the file, print the table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--out", type=Path, default=Path("experiments/adapters"))
    flags.add_argument("--batch", type=cli.positive, default=128)
    flags.add_argument("--rounds", type=cli.positive, default=15)
    asked = flags.parse_args()
    cli.set_up_jax()
    rows = measured(asked.batch, asked.rounds)
    about = {"batch": asked.batch, "rounds": asked.rounds, **provenance()}
    write_text(asked.out / FILE, json.dumps({**about, "rows": rows}, indent=1) + "\n")
    print(tables(asked.out)["adapters-steps"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
