"""Targets by name: what they are, and what is refused."""

import itertools
from types import SimpleNamespace

import pytest
from jax.experimental import topologies

from diffjax.aot import targets
from diffjax.aot.roofline import estimate
from diffjax.aot.search import PRECISION, largest
from diffjax.aot.targets import GPUS, NAMES, TPUS, target
from diffjax.config import ConfigError
from diffjax.devices.chips import Chip, chip


def test_all_targets_have_a_name_a_data_sheet_and_a_memory():
    """An estimate would be missing, or that of another device."""
    names = [f"tpu:{k}:{t}" for k, (all_, _) in TPUS.items() for t in all_]
    names += [f"gpu:{k}:{n}" for k in GPUS for n in (1, 8, 16)]
    for text in names:
        asked = target(text)
        rates = chip(asked.name)
        assert str(asked) == text and asked.memory
        assert rates and rates.bandwidth and rates.link and rates.tf32
    assert set(NAMES) == {*TPUS, *GPUS}
    assert target("tpu:v4:2x2x4").size == 16
    for kind, facts in GPUS.items():  # the driver's bandwidth beside that of the data sheet
        rates = chip(facts[0])
        assert rates and rates.bandwidth == pytest.approx(facts[2] * 1e9, rel=0.01)
        assert f'"{facts[0]}"' in targets.description(kind)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tpv:v5e:4x4", "unknown platform 'tpv'; known: tpu, gpu, cpu"),
        ("tpu:v5e", "unknown topology ''; known: 1x1, 2x2"),
        ("tpu:v5e:3x3", "unknown topology '3x3'; known: 1x1, 2x2"),
        ("tpu:v7:2x2", "unknown kind 'v7'; known: v4, v5e, v5p, v6e"),
        ("gpu:h100:3", "needs a number of devices; allowed: 1, 2, 4 or a multiple of 8"),
        ("gpu:h100:8:8", "needs a number of devices"),
        ("gpu:v100:8", "unknown kind 'v100'; known: a100, h100, h200, b200"),
        ("cpu:0", "needs a number of devices; allowed: 1 to 64"),
        ("cpu", "needs a number of devices"),
        ("cpu:-1", "needs a number of devices"),
    ],
)
def test_a_target_that_does_not_exist_is_refused_in_one_line(text, message):
    with pytest.raises(ConfigError) as error:
        target(text)
    assert message in str(error.value) and str(error.value).startswith(f"--target={text}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "wheel"), [("tpu:v5e:2x2", "jax[tpu]"), ("gpu:h100:8", "nvcc")])
def test_a_missing_compiler_is_named_with_the_command_that_installs_it(monkeypatch, text, wheel):
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(targets.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="is not installed: pip install") as error:
        target(text).devices()
    assert wheel in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("tpu:v5e:4x4", "v5e:4x4", {}),
        ("tpu:v5e:1x1", "v5e:1x1", {"chips_per_host_bounds": (1, 1, 1)}),
        ("tpu:v4:2x2x1", "v4:2x2x1", {"chip_config_name": "megacore"}),
        ("gpu:h100:4", "", {"topology": "1x1x4"}),
        ("gpu:b200:16", "", {"topology": "1x2x8"}),
    ],
)
def test_compilers_are_asked_for_the_devices_of_a_target(monkeypatch, text, name, settings):
    """A program would be compiled for half of the chips, or for cores in place of chips."""
    asked = []

    def describe(name, platform, **settings):
        asked.append((name, platform, settings))
        return SimpleNamespace(devices=["device"])

    monkeypatch.setattr(topologies, "get_topology_desc", describe)
    monkeypatch.setattr(targets, "missing", lambda platform: "")
    assert target(text).devices() == ["device"]
    ((known, platform, options),) = asked
    assert known == name and platform == {"tpu": "tpu", "gpu": "cuda"}[text[:3]]
    assert {k: v for k, v in options.items() if k != "target_config"} == settings


def test_more_cpu_devices_than_there_are_are_refused():
    with pytest.raises(ConfigError, match="set JAX_NUM_CPU_DEVICES=64"):
        target("cpu:64").devices()


CHIP = Chip(flops=4e12, tf32=1e12, bandwidth=1e11, link=1e10, network=2e9)
WORK = {"flops": 8e12, "model_flops": 6e12, "moved": 1e11, "sent": 1e10, "items": 10}


@pytest.mark.parametrize(
    ("changes", "bound", "seconds", "mfu"),
    [
        ({"sixteen": False}, "compute", 4.0, 6 / (4 * 2 * 4)),
        ({}, "compute", 1.0, 6 / (1 * 2 * 4)),
        ({"moved": 3e11}, "memory", 3.0, 6 / (3 * 2 * 4)),
        ({"sent": 5e10}, "interconnect", 5.0, 6 / (5 * 2 * 4)),
        ({"host": 1}, "interconnect", 5.0, 6 / (5 * 2 * 4)),
    ],
)
def test_the_slowest_of_three_rates_bounds_the_time(changes, bound, seconds, mfu):
    """A run that waits for the network would be promised the speed of its products."""
    e = estimate(CHIP, **{"devices": 2, "host": 2, "sixteen": True, **WORK, **changes})
    assert e and (e.bound, e.seconds, e.items_per_s) == (bound, seconds, 10 / seconds)
    assert e.mfu == pytest.approx(mfu)
    assert estimate(None, devices=2, host=2, sixteen=True, **WORK) is None
    assert estimate(Chip(1e12), devices=2, host=2, sixteen=True, **WORK) is None


def test_the_largest_batch_fits_and_a_larger_one_does_not():
    """A run would be started with a batch that does not fit, or with half of what does."""
    cases = ([0.0, 0.01], [False, True], [1, 8, 64], [1, 64, 4096], [10, 1_010, 20_000, 99_999])
    for square, refuses, unit, start, memory in itertools.product(*cases):
        size = lambda n, square=square: int(1000 + 7 * n + square * n**2)
        tries = []

        def used(n, size=size, tries=tries, refuses=refuses, memory=memory):
            tries.append(n)
            return None if refuses and size(n) > memory else size(n)

        best = largest(used, memory, unit, start)
        assert best % unit == 0 and size(best + max(unit, PRECISION * best)) > memory
        assert best == 0 or size(best) <= memory
        assert len(set(tries)) == len(tries) < 25
