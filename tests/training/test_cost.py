"""The cost of a step, computed by hand and by the report, and traces of steps."""

import json

import jax
import jax.numpy as jnp
import pytest

from diffjax.likelihood import EDGES
from diffjax.runs import trained
from diffjax.training.cost import Cost, peak
from diffjax.training.trace import SOON, traced

pytestmark = pytest.mark.typed


def test_the_report_of_a_run_is_what_can_be_counted_by_hand(toy):
    """FLOPs per second and utilisation would be those of another network."""
    found = json.loads((toy / "cost.json").read_text())
    form = Cost(**found)
    assert form.devices == len(jax.devices()) and form.kind == "cpu" and form.peak is None
    leaves = jax.tree.leaves(trained.load(toy).denoise.params)
    assert form.parameters == sum(a.size for a in leaves)
    # An MLP: each weight is one multiply-add, forward and twice backward, for each of 8 items; so
    # is each bin of the loss by noise level.
    products = sum(a.size for a in leaves if a.ndim == 2) + len(EDGES) - 1
    assert form.flops == 3 * 2 * 8 * products
    mean_and_moments = 4 * 4 * form.parameters
    assert mean_and_moments < form.state <= mean_and_moments + 48  # and counters
    assert form.batch == 8 // form.devices * 2 * 4


def test_rates_need_a_peak():
    """The utilisation of an unknown device would be invented."""
    cost = Cost(2, "cpu", 10, 4 * 10**12, 1, 1, 1, None)
    assert cost.rates(0.5) == {"tflops_per_s": 2.0}
    assert cost._replace(peak=8e12).rates(0.5) == {"tflops_per_s": 2.0, "mfu": 0.25}
    assert "unknown" in str(cost) and "8 TFLOP/s" in str(cost._replace(peak=8e12))


@pytest.mark.parametrize(
    ("kind", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA L40", None),
        ("TPU v4", 275),
        ("TPU v4 lite", None),
        ("TPU v5 lite", 197),
        ("TPU v5p", 459),
        ("cpu", None),
    ],
)
def test_peaks_are_known_by_name(kind, tflops):
    """A device would be mistaken for one whose name it contains."""
    assert peak(kind) == (tflops and tflops * 1e12)


def test_a_trace_is_of_the_steps_asked_for(tmp_path, monkeypatch):
    """The trace would be that of the compilation, or continue until memory is full."""
    events = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: events.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: events.append("stop"))

    def calls(steps, count=10):
        events.clear()
        with traced(lambda i: events.append(i) or jnp.ones(1), tmp_path, 100, 5, steps) as run:
            for i in range(count):
                run(i)
        return events

    assert calls(None) == [*range(10)]
    assert calls((112, 121)) == [0, 1, "start", 2, 3, 4, "stop", *range(5, 10)]
    assert calls(SOON) == [0, 1, 2, "start", 3, 4, 5, "stop", 6, 7, 8, 9]
    assert calls((145, 10**6)) == [*range(9), "start", 9, "stop"]  # exited before
    assert calls((0, 100)) == [*range(10)]
