"""Random configs with entries of all catalogues, most with one bad field: built or refused."""

import random
import warnings

import pytest

from diffjax import builder, config
from diffjax.config import ConfigError
from diffjax.draws import DRAWS
from diffjax.grids import GRIDS
from diffjax.guidance import RAMPS, RULES, THRESHOLDS
from diffjax.objectives.errors import ERRORS
from diffjax.parameterization import NOISE_LABELS, PARAMETERIZATIONS
from diffjax.samplers import SAMPLERS
from diffjax.samplers.correctors import CORRECTORS
from diffjax.schedules import SCHEDULES
from diffjax.sde import SDES
from diffjax.training.ema import EMAS
from diffjax.training.optimizer import OPTIMIZERS, RATES
from diffjax.weights import WEIGHTS

pytestmark = pytest.mark.thorough

INF = float("inf")
BAD = (
    *(None, "", "x", "nan", "a.b", "a:b", b"x", 3 + 1j, True),
    *(0, -1, 1.5, 10**20, -(10**20), 1e-300, float("nan"), INF, -INF),
    *((), (1,), (0, -1), ("x",), [], {}, {1: 2}, {"a": {}}, {"name": "x"}, {"name": None}),
)
PLACES = {
    "sde.schedule.name": SCHEDULES,
    "sde.name": SDES,
    "parameterization.name": PARAMETERIZATIONS,
    "parameterization.c_noise": NOISE_LABELS,
    "loss.weight.name": WEIGHTS,
    "loss.draw.name": DRAWS,
    "loss.error.name": ERRORS,
    "sampling.sampler.name": SAMPLERS,
    "sampling.grid.name": GRIDS,
    "sampling.corrector.name": CORRECTORS,
    "sampling.guidance.rule": RULES,
    "sampling.guidance.ramp": RAMPS,
    "sampling.guidance.threshold": THRESHOLDS,
    "optimizer.name": OPTIMIZERS,
    "optimizer.schedule.name": RATES,
    "ema.name": EMAS,
}
NETWORKS = (
    {"name": "mlp", "width": 8, "depth": 1},
    {"name": "dit", "width": 8, "depth": 1, "heads": 2},
    {"name": "unet", "channels": 4, "multipliers": (1, 2), "blocks": 1, "heads": 1},
)


def put(fields: dict, path: tuple[str, ...], value: object) -> None:
    """Set a field; create sections where the path leads through something that has none."""
    for name in path[:-1]:
        if not isinstance(fields.get(name), dict):
            fields[name] = {}
        fields = fields[name]
    fields[path[-1]] = value


def paths(fields: dict, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the paths of all fields and sections."""
    below = (paths(v, (*above, k)) for k, v in fields.items() if isinstance(v, dict))
    return [*((*above, k) for k in fields), *(path for some in below for path in some)]


def drawn(draw: random.Random) -> dict:
    """Return a config of random entries, which need not go together."""
    points = draw.random() < 0.6
    made = config.load("moons_vp" if points else "digits_vp")
    made["network"] = dict(NETWORKS[0] if points else draw.choice(NETWORKS[1:]))
    for place in draw.sample(sorted(PLACES), draw.randint(1, 3)):
        *section, leaf = place.split(".")
        above = made
        for name in section[:-1]:
            above = above[name]
        if leaf == "name" and len(section) > 1:  # its settings are those of the entry before
            above[section[-1]] = {}
        put(made, (*section, leaf), draw.choice(sorted(PLACES[place])))
    return made


def case(seed: int) -> tuple[dict, str]:
    """Return a config and its bad field, "" where there is none."""
    draw = random.Random(seed)
    made = drawn(draw)
    if seed % 4 == 0:
        return made, ""
    if draw.random() < 0.7:  # a field that was left to its default
        made = builder.completed(made)
    path = draw.choice(paths(made))
    path = (*path[:-1], path[-1] + "x" * (draw.random() < 0.1))
    value = draw.choice(BAD)
    put(made, path, value)
    return made, f"{'.'.join(path)}={value!r}"


@pytest.mark.parametrize("first", range(0, 200, 25))
def test_a_config_is_built_or_refused_with_the_place(first):
    """A traceback, a warning of NumPy, or a refusal that does not name the field."""
    built = 0
    for seed in range(first, first + 25):
        made, bad = case(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                builder.experiment(made)
            except ConfigError as error:
                line = str(error)
                assert "config." in line and "\n" not in line, (seed, bad, line)
            except Exception as error:
                raise AssertionError(f"{seed}: {bad}: {made}") from error
            else:
                built += 1
    assert built
