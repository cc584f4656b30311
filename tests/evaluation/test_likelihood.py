"""Bits per dimension of a set are stored batch by batch, reproducible, and independent by image."""

import dataclasses

import jax
import numpy as np
import pytest

import diffjax
from diffjax import builder
from diffjax.devices.mesh import layout
from diffjax.evaluation import Subject, bpd, images, vlb
from diffjax.evaluation.likelihood import summary
from diffjax.likelihood import DEQUANTIZERS, TRACES, Ode

pytestmark = pytest.mark.typed

QUICK = {"ode": Ode(steps=8), "trace": TRACES["exact"]}
ABOUT = {"data": "it", "split": "test", "trained": 4, "ema": ""}


def of_text(text: str):
    """Return the metric that a `--metrics` entry names."""
    return builder.construct_metrics(text, "--metrics")[1][text.partition(":")[0]]


def test_settings_of_a_text_are_those_of_its_objects():
    """A solver, an estimator or a number would silently keep its default."""
    metric = of_text("bpd:num=3,trace=gaussian,probes=4,steps=8,most=7,dequantize=uniform")
    arguments = dict(metric.arguments)
    assert arguments["ode"] == Ode(steps=8, most=7) and arguments["num"] == 3
    assert arguments["trace"].arguments == (("probes", 4),)
    assert arguments["trace"].function is TRACES["gaussian"]
    assert arguments["dequantize"] is DEQUANTIZERS["uniform"]
    assert "dequantize=, trace=rademacher, probes=1, solver=dopri5" in builder.listing()


def points(toy, folder, **changes):
    trained = diffjax.load(toy)
    e, source = trained.experiment, trained.experiment.source("test")
    own = {"workdir": folder, "batch_size": 16} | changes
    return Subject(trained.denoise, e.form, e.reading, e.config, source, ABOUT, **own)


def test_a_killed_evaluation_resumes_with_equal_results(toy, tmp_path, monkeypatch):
    """Hours of work would be lost, or the result depend on the number of interruptions."""
    whole = bpd(points(toy, tmp_path / "whole"), num=40, **QUICK)
    write, done = images.write_arrays, []

    def killed(path, arrays):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(path)
        write(path, arrays)

    stopped = points(toy, tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(images, "write_arrays", killed)
        with pytest.raises(KeyboardInterrupt):
            bpd(stopped, num=40, **QUICK)
    times = [path.stat().st_mtime_ns for path in done]
    again = bpd(stopped, num=40, **QUICK)
    assert [path.stat().st_mtime_ns for path in done] == times  # not computed again
    a, b = (next((tmp_path / n).rglob("result.json")) for n in ("whole", "stopped"))
    assert a.read_bytes() == b.read_bytes() and again == whole
    assert a.with_name("values.npz").read_bytes() == b.with_name("values.npz").read_bytes()

    first = np.load(a.with_name("values.npz"))
    bpd(stopped, num=20, **QUICK)  # interrupts in the second batch
    with np.load(b.with_name("values.npz")) as stored:
        np.testing.assert_array_equal(stored["bits"], first["bits"][:20])
    other = bpd(
        points(toy, tmp_path / "stopped", seed=1), num=8, ode=Ode(steps=8), trace=TRACES["gaussian"]
    )
    assert other["values"] != whole["values"]  # a result of another protocol

    monkeypatch.setattr(images, "layout", lambda: layout(jax.devices()[:1]))
    alone = bpd(points(toy, tmp_path / "alone", batch_size=5), num=20, **QUICK)
    with np.load(tmp_path / "alone" / alone["values"]) as stored:
        np.testing.assert_allclose(stored["bits"], first["bits"][:20], rtol=1e-4, atol=1e-4)


def test_images_have_bits_and_standard_errors(small):
    """A table would lack one of its numbers, a standard error, or the protocol."""
    found = bpd(small, num=6, repeats=3, ode=Ode(steps=8))
    with np.load(small.workdir / found["values"]) as stored:
        bits = stored["bits"]
        assert bits.shape == (6, 3) and np.isfinite(bits).all()
        tighter = stored["importance_weighted"]
    assert (tighter < bits.mean(1)).all() and (tighter > bits.min(1)).all()
    mean, error = bits.mean(), bits.mean(1).std(ddof=1) / 6**0.5
    np.testing.assert_allclose([found["bits"], found["standard_error"]], [mean, error])
    assert found["passes"] == 32
    protocol = {"dequantize": "truncated_normal", "solver": "rk4", "steps": 8, "repeats": 3}
    protocol |= {"t_min": 1e-3, "trace": "rademacher", "given": "label", "split": "test"}
    assert protocol.items() <= found["protocol"].items()
    bound = vlb(small, num=6, repeats=2, samples=8)
    terms = [bound[k] for k in ("prior", "diffusion", "decoder")]
    np.testing.assert_allclose(bound["bits"], sum(terms), rtol=1e-6)
    np.testing.assert_allclose(sum(bound["at_logsnr"].values()), bound["diffusion"], rtol=1e-5)
    assert len(bound["at_logsnr"]) > 5


def test_errors_are_those_of_means():
    """A difference between two networks would be claimed where there is none."""
    rng = np.random.default_rng(0)
    bits = 3 + 0.5 * rng.normal(size=(4000, 1)) + 0.1 * rng.normal(size=(4000, 4))
    found = summary(bits)
    each = (0.25 + 0.01 / 4) ** 0.5
    np.testing.assert_allclose(found["standard_error"], each / 4000**0.5, rtol=0.1)
    np.testing.assert_allclose(found["noise"], 0.1 / 4**0.5 / 4000**0.5, rtol=0.1)


@pytest.mark.parametrize(
    ("measure", "part"),
    [
        (lambda s: of_text("bpd:dequantize=none")(s), "dequantize='none': .*, truncated_normal"),
        (lambda s: of_text("bpd:dequantize=unifrom"), "--metrics.dequantize='unifrom': unknown"),
        (lambda s: of_text("bpd:trace=x"), "--metrics.trace='x': unknown; known: exact, gaussian"),
        (lambda s: of_text("bpd:trace=probing,probes=3")(s), "power of two"),
        (lambda s: of_text("bpd:trace=exact,probes=3"), "--metrics.probes: no such field"),
        (lambda s: of_text("bpd:rtol=2.0"), "--metrics: rtol=2.0: needs 0 < rtol < 1"),
        (lambda s: of_text("bpd:stepz=3"), "--metrics.stepz: no such field .*'steps'"),
        (lambda s: bpd(s, repeats=0), "repeats=0: needs repeats >= 1"),
        (lambda s: vlb(s, samples=0), "samples=0: needs samples >= 1"),
        (lambda s: dataclasses.replace(s, source=diffjax.data.moons("test")), "items of shape"),
    ],
)
def test_what_cannot_be_measured_is_refused(small, measure, part):
    with pytest.raises(ValueError, match=part):
        measure(small)
