"""The studies: their criteria, the numbers that documents quote, and `make results`."""

import json
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import builder, draws, weights
from diffjax.analytic import Mixture, gaussian
from diffjax.config import load, override
from diffjax.data.form import Form
from diffjax.denoiser import Denoiser, Model
from diffjax.objectives import Denoising
from diffjax.parameterization import Edm, Velocity
from diffjax.runs.trained import Trained
from diffjax.schedules import Edm as EdmSchedule
from diffjax.schedules import Logit
from diffjax.sde import VE, Flow
from diffjax.specs import Spec
from experiments import markdown, plane, recipes, results, tables
from experiments.few_step.cifar import CIFAR
from experiments.few_step.digits import DIGITS
from experiments.few_step.ways import Run
from experiments.guidance.study import Classes
from experiments.latent import clock

pytestmark = pytest.mark.thorough

DOCUMENTS = {str(path.relative_to(results.ROOT)): path for path in tables.documents()}
U = np.linspace(0.02, 0.98, 7)


@pytest.fixture(scope="module")
def committed():
    return tables.committed()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_numbers_in_documents_are_those_of_output_files(name, committed):
    """A table would contradict the study's files: run python -m experiments.results --tables."""
    text = DOCUMENTS[name].read_text()
    assert markdown.filled(text, committed) == text


def test_every_study_has_tables_that_a_document_shows(committed):
    """A study would be measured and not reported."""
    shown = {m["name"] for p in DOCUMENTS.values() for m in markdown.PLACE.finditer(p.read_text())}
    assert shown == set(committed)
    assert set(results.STUDIES) == set(tables.STUDIES)


def test_tables_between_comments_are_filled():
    """The test above would pass although nothing is filled in."""
    text = "a\n<!-- table: one -->\nold\n<!-- end -->\nb\n<!-- table: two -->\n<!-- end -->\n"
    made = markdown.filled(text, {"one": "| 1 |\n", "two": "| 2 |\n"})
    new = (
        "a\n<!-- table: one -->\n| 1 |\n<!-- end -->\nb\n<!-- table: two -->\n| 2 |\n<!-- end -->\n"
    )
    assert made == new == markdown.filled(made, {"one": "| 1 |", "two": "| 2 |"})
    with pytest.raises(KeyError, match="two"):
        markdown.filled(text, {"one": ""})


@pytest.mark.parametrize(
    ("sde", "parameterization", "loss"),
    [
        (Flow(Logit(), t_max=0.999), Velocity(sigma_data=0.6), Denoising(weights.min_snr)),
        (VE(EdmSchedule()), Edm(sigma_data=0.6), Denoising(weights.edm, draws.LogNormal())),
    ],
    ids=["flow", "edm"],
)
def test_a_recipe_in_tables_is_the_recipe(sde, parameterization, loss):
    """Input, target, weight or density of the log-SNR would differ from those of the recipe."""
    made = recipes.recipe(sde, parameterization, loss, 0.6)
    edges = jnp.array([plane.PROCESS.t_min, 1.0])
    first, last = jax.jit(lambda t: sde.inverse(plane.PROCESS.logsnr(t)))(edges)
    cut = replace(sde, t_min=float(first), t_max=float(last))

    @jax.jit  # one program instead of one for each operation
    def both(u):
        tabled, drawn = made.model(recipes.NONE), made.loss()
        s = drawn.draw(plane.PROCESS, u, ())[0]
        t = sde.inverse(plane.PROCESS.logsnr(s))
        sides = (tabled.parameterization, plane.PROCESS, s), (parameterization, sde, t)
        inputs = [p.c_in(process, at) * process.alpha(at) for p, process, at in sides]
        targets = [p.target(process, at) for p, process, at in sides]
        weight = loss.weight(Model(sde, parameterization, recipes.NONE), t)
        ratio = drawn.weight(tabled, s) / weight
        return (t, loss.draw.quantile(cut, u, ())), inputs, targets, ratio

    times, inputs, targets, ratio = both(jnp.asarray(U, jnp.float32))
    np.testing.assert_allclose(*times, rtol=2e-3)
    np.testing.assert_allclose(*inputs, rtol=1e-4)
    np.testing.assert_allclose(*targets, rtol=2e-4)
    np.testing.assert_allclose(ratio, ratio[0], rtol=2e-3)


def test_divergences_of_two_normal_laws_are_their_closed_forms():
    """Nats in the tables would measure something else.

    For the denoiser of N(m, v) on data N(0, v) the divergence is m^2 / 2 (v + the noise of t_min)
    per dimension, for the ODE and for the paths of the reverse SDE.
    """
    var, away = jnp.array([0.3, 0.5]), jnp.array([0.4, -0.2])
    data, other = gaussian(jnp.zeros(2), var), gaussian(away, var).denoiser(plane.PROCESS)
    noise = float(jnp.exp(-plane.PROCESS.logsnr(jnp.asarray(plane.PROCESS.t_min))))
    exact = float((away**2 / (var + noise)).sum() / 2)
    errors = plane.eps_errors(other, data, 0, 64)
    assert plane.path_nats(errors) == pytest.approx(exact, rel=2e-2)
    found, error = plane.ode_nats(other, data, 0, 256, 24)
    assert float(found) == pytest.approx(exact, abs=4 * float(error))
    assert 0 < float(error) < 0.1


def test_the_sliced_distance_of_moved_points_is_how_far():
    """Sliced distances would be in another unit: E over directions of (d u)^2 is |d|^2 / 2."""
    x = np.random.default_rng(0).normal(size=(100, 2))
    assert plane.sliced(x, x + np.array([0.3, 0.4])) == pytest.approx(0.5 / math.sqrt(2))
    assert plane.sliced(x, x[::-1]) == 0


def test_the_time_of_a_step_leaves_out_compilation(tmp_path, monkeypatch):
    """Networks would be compared at times that hold the compilation of each launch."""
    for start, times in ((0, (30.0, 40.0, 51.0)), (150, (25.0, 36.0))):
        ticks = iter(times)
        monkeypatch.setattr(clock.time, "process_time", lambda ticks=ticks: next(ticks))
        writer = clock.Clock(tmp_path, start)
        for k in range(len(times)):
            step = start + 50 * (k + 1)
            writer.scalars(step, {"loss": 1.0})
            writer.scalars(step, {"held_out/loss": 1.0})
        writer.close()
    assert clock.seconds_per_step(tmp_path) == pytest.approx(11 / 50)


def test_the_deviation_of_toy_data_is_that_of_draws():
    """c_in would not give unit variance, or a data set not fit the frame of its plot."""
    for make in (plane.moons, plane.spiral, plane.ring, plane.parts):
        data = make()
        assert float(data.weight.sum()) == pytest.approx(1)
        assert plane.deviation(data) == pytest.approx(
            plane.exact_draws(data, 4000, 0).std(axis=0).mean(), rel=0.1
        )


def test_denoisers_of_classes_are_those_of_their_parts():
    """Guided samples would be compared with another distribution than the intended one."""
    data, of = plane.parts(), jnp.array([0, 0, 1])
    own = Mixture(data.weight[:2] / data.weight[:2].sum(), data.mean[:2], data.var[:2])
    x, t = jax.random.normal(jax.random.key(0), (5, 2)), jnp.full(5, 0.4)
    made = Classes(data, of)

    @jax.jit  # one program instead of one for each operation
    def both():
        first, none = ({"label": jnp.full(5, k)} for k in (0, -1))
        x0 = made(x, t, first).x0, own.denoiser(plane.PROCESS)(x, t).x0
        eps = made(x, t, none).eps, data.denoiser(plane.PROCESS)(x, t).eps
        logs = jax.nn.logsumexp(made.logs(x, t), axis=1), data.logp(plane.PROCESS, x, t)
        return x0, eps, logs

    x0, eps, logs = both()
    np.testing.assert_allclose(*x0, atol=1e-5)
    np.testing.assert_allclose(*eps, atol=1e-5)
    np.testing.assert_allclose(*logs, rtol=1e-5)


@pytest.mark.parametrize(
    ("subject", "teacher", "shape"),
    [(DIGITS, "digits_vp", (8, 8, 1)), (CIFAR, "cifar_vp_small", (32, 32, 3))],
    ids=["digits", "cifar"],
)
def test_methods_of_few_steps_are_runs_that_a_teacher_can_teach(subject, teacher, shape):
    """A method would fail after hours of those before it, by a setting that its config lacks."""
    form = Form("image", shape, (Spec("label", "label", 10),), "uint8")
    first = builder.experiment(load(teacher), form)
    trained = Trained(Denoiser(first.model, {}), first)
    for name, way in subject.methods.items():
        assert not way.begins or way.begins in subject.methods, name
        if isinstance(way, Run):
            settings = [text for text in way.settings() if "=" in text]
            settings += ["loss.teacher=runs/teacher"] * way.taught
            config = override(load(way.config), [*settings, "train.writers=()"])
            built = builder.experiment(config, form, load=lambda *_: trained)
            assert bool(built.loss.loads) == way.taught and not built.loss.doubt(built.model), name


def test_results_name_failures_continue_and_skip_finished_studies(tmp_path, capsys, monkeypatch):
    """One broken study would stop an hour of others, or be hidden, or finished ones run again."""
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    write = "-c \"open(r'{out}/made', 'a').write('x')\""
    studies = {
        "good": results.Study((write,), 1),
        "bad": results.Study(("-c \"print('why'); raise SystemExit(3)\"",), 1),
        "apart": results.Study((write,), 1, needs="NOT_SET_HERE"),
        "later": results.Study((write,), 1, after="bad"),
        "last": results.Study((write,), 1, copies={"made": "copy"}, after="good"),
    }
    go = lambda *names: results.main([f"--out={tmp_path}", *names], studies)
    assert go() == 1
    told = capsys.readouterr()
    assert "failed: bad, later" in told.err
    assert "exit code 3" in told.out and "left out, needs NOT_SET_HERE" in told.out
    assert "why" in (tmp_path / "bad" / "log.txt").read_text()
    assert (tmp_path / "last" / "copy").read_text() == "x"
    assert json.loads((tmp_path / "good" / "done.json").read_text())["seconds"] >= 0

    assert go() == 1
    assert "good: done before" in capsys.readouterr().out
    assert (tmp_path / "good" / "made").read_text() == "x"
    (tmp_path / "good" / "made").write_text("old")
    assert go("good") == 0
    assert (tmp_path / "good" / "made").read_text() == "x"
    with pytest.raises(SystemExit):
        go("nothing")
    assert "known: good, bad" in capsys.readouterr().err


def test_commands_of_results_are_ones_that_there_are():
    """`make results` would fail after half an hour, if a file or module was moved."""
    for study in results.STUDIES.values():
        for command in study.commands:
            first, *rest = command.split()
            path = f"{rest[0].replace('.', '/')}.py" if first == "-m" else first
            assert (results.ROOT / path).is_file(), command
    without_data = [study for study in results.STUDIES.values() if not study.needs]
    assert sum(study.minutes for study in without_data) < 100
