"""Draw the loss of a run: python experiments/cifar10_cpu/curve.py runs/cifar_small/metrics.jsonl"""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

rows = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
step, loss = (np.array([row[name] for row in rows]) for name in ("step", "loss"))
width = 10
figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
axes = figure.add_subplot()
axes.plot(step, loss, lw=0.6, alpha=0.5, label=f"mean of {step[1] - step[0]} steps")
smooth = np.convolve(loss, np.ones(width) / width, "valid")
axes.plot(step[width - 1 :], smooth, label=f"mean of {width * (step[1] - step[0])} steps")
axes.set(xlabel="step", ylabel="loss (squared error of v)", ylim=(0, min(1.0, loss.max())))
axes.set_title(f"mean loss of the last {2 * (step[1] - step[0])} steps: {loss[-2:].mean():.4f}")
axes.grid(alpha=0.3)
axes.legend()
out = Path(__file__).with_name("loss.png")
figure.savefig(out)
print(f"wrote {out}; mean loss of the last two rows: {loss[-2:].mean():.6f}")
