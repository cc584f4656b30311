"""Compile two small configs for targets, and write what they need to `fits.json`, for the tests.

    python tests/aot/make_fits.py tpu:v5e:2x4 gpu:h100:8     # these; the other targets stay
    python tests/aot/make_fits.py                            # all whose compiler is installed
    python tests/aot/make_fits.py --table                    # the table of docs/devices.md

Each compiler has a virtual environment of its own.
"""

import json
import sys
from pathlib import Path

from diffjax import builder, config
from diffjax.aot import targets
from diffjax.aot.analysis import Analysis, amount
from diffjax.tools.fit import analysed
from experiments.markdown import table

HERE = Path(__file__).parent
FILE, DOCUMENT = HERE / "fits.json", HERE.parents[1] / "docs" / "devices.md"
DIT = "network={'name': 'dit', 'width': 256, 'depth': 4, 'heads': 4, 'dtype': 'bfloat16'}"
CASES = {
    "mlp": ("moons_vp", ("network.width=256", "network.depth=2")),
    "dit": ("digits_vp", (DIT, "train.sharding=fsdp", "train.steps_per_dispatch=1")),
}
"""An MLP in data parallelism, and a DiT whose state is split (FSDP)."""
TARGETS = (
    *("tpu:v4:2x2x2", "tpu:v5e:2x4", "tpu:v5p:2x2x2", "tpu:v6e:2x4"),
    *("gpu:a100:8", "gpu:h100:8", "gpu:h200:8", "gpu:b200:8"),
)


def case(name: str, target: str) -> Analysis:
    """Compile a case for a target."""
    file, changes = CASES[name]
    built = builder.experiment(config.override(config.load(file), changes))
    return analysed(built, targets.target(target))


def rows(fits: dict) -> str:
    """Return the table of all targets."""
    heads = ("target", "network", "state", "temporary", "sent per step", "collectives", "estimate")
    lines = []
    for target, cases in fits.items():
        for name, found in cases.items():
            kinds = (f"{sum_['times']:g} {kind}" for kind, sum_ in found["by_kind"].items())
            e = found["estimate"]
            time = f"{e['seconds'] * 1e6:.0f} us, {e['bound']}"
            sizes = [amount(found["sizes"][size]) for size in ("state", "temporary")]
            lines.append(
                [f"`{target}`", name, *sizes, amount(found["sent"]), ", ".join(kinds), time]
            )
    return table(heads, lines)


def main(names: list[str]) -> None:
    fits = json.loads(FILE.read_text()) if FILE.exists() else {}
    if names == ["--table"]:
        from experiments.markdown import filled

        DOCUMENT.write_text(filled(DOCUMENT.read_text(), {"fits": rows(fits)}))
        return
    targets.prepare()
    there = [t for t in TARGETS if not targets.missing(targets.target(t).platform)]
    for target in names or there:
        found = {name: case(name, target).as_json() for name in CASES}
        fits[target] = {
            name: {k: v for k, v in numbers.items() if k not in ("seconds", "by_place")}
            for name, numbers in found.items()
        }
        order = {name: fits[name] for name in TARGETS if name in fits}
        FILE.write_text(json.dumps(order, indent=1) + "\n")
        seconds = [f"{name} {numbers['seconds']:.0f} s" for name, numbers in found.items()]
        print(f"{target}: {', '.join(seconds)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
