"""Configs as plain data: a mistake here turns a user's override into another experiment."""

import dataclasses
import inspect

import pytest

from diffjax.config import (
    STAY,
    ConfigError,
    checked,
    entries,
    literal,
    load,
    lookup,
    nearest,
    override,
    parse,
)
from diffjax.data import Reading
from diffjax.nets import NETWORKS
from diffjax.sde import SDES
from diffjax.training.optimizer import optimizer

FILE = """
import ml_collections
def get_config():
    return ml_collections.ConfigDict(dict(seed=7, network=dict(name="unet", multipliers=(1, 2))))
"""
BASE = {
    "seed": 0,
    "network": {"name": "unet", "channels": 32, "multipliers": (1, 2), "dropout": 0.0},
    "optimizer": {"name": "adamw", "clip": 1.0},
}


def line(error) -> str:
    """Return the message of a ConfigError, which has to be one line."""
    text = str(error.value)
    assert text and "\n" not in text
    return text


def test_load_reads_a_file_by_its_path(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    assert load(str(path)) == {"seed": 7, "network": {"name": "unet", "multipliers": (1, 2)}}


def test_load_gives_plain_dicts(tmp_path):
    """A remaining ConfigDict would lock its fields, and not be JSON."""
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    assert type(load(str(path))) is dict
    assert type(load(str(path))["network"]) is dict


@pytest.mark.parametrize("path", ["digits_vp", "configs/digits_vp.py", "digits_vp.py"])
def test_load_finds_the_built_in_configs_from_any_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(path)["data"] == {"name": "digits", "labels": True}


def test_a_file_at_the_path_goes_before_a_built_in_one(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits_vp.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    assert load("configs/digits_vp.py")["seed"] == 7


def test_a_missing_file_suggests_the_nearest_built_in_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        load("configs/digit_vp.py")
    assert "--config=configs/digit_vp.py: no such file" in line(error)
    assert "did you mean 'digits_vp'?" in line(error)
    with pytest.raises(ConfigError, match=r"did you mean .molecules."):
        load("molecule")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def get_config(:\n", "SyntaxError"),
        ("import no_such_module_anywhere\n", "ModuleNotFoundError"),
        ("x = 1\n", "AttributeError"),
        ("def get_config():\n    return dict(seed=0)\n", "AttributeError"),
        ("def get_config():\n    raise ValueError('told so')\n", "ValueError: told so"),
    ],
)
def test_a_broken_file_is_named_with_the_reason(tmp_path, text, reason):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(str(path))
    assert line(error).startswith(f"--config={path}: ")
    assert reason in line(error)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("network.channels=8", 8),
        ("network.dropout=0.5", 0.5),
        ("network.dropout=1e-3", 1e-3),
        ("network.multipliers=(1,)", (1,)),
        ("network.multipliers=()", ()),
        ("network.multipliers=[1, 2]", [1, 2]),
        ("network.name=mlp", "mlp"),
        ("network.name=5", "5"),
        ("network.name=a=b", "a=b"),
        ("network.name=", ""),
        ("network.new=3", 3),
        ("network.new=text", "text"),
        ("network.new=true", True),
        ("network.new=None", None),
        ("network.new='3'", "3"),
        ("seed=-1", -1),
        ("optimizer.clip=inf", "inf"),
    ],
)
def test_override_sets_the_value_and_its_type(assignment, value):
    *parents, leaf = assignment.partition("=")[0].split(".")
    node = override(BASE, [assignment])
    for name in parents:
        node = node[name]
    assert node[leaf] == value
    assert type(node[leaf]) is type(value)


def test_override_leaves_the_base_and_all_other_fields_alone():
    before = str(BASE)
    made = override(BASE, ["network.channels=8", "seed=1"])
    assert str(BASE) == before
    assert made == {**BASE, "seed": 1, "network": {**BASE["network"], "channels": 8}}


def test_the_last_of_two_overrides_of_a_field_counts():
    assert override(BASE, ["seed=1", "seed=2"])["seed"] == 2


@pytest.mark.parametrize(
    ("assignment", "place", "hint"),
    [
        ("netwrk.channels=8", "config.netwrk: no such field", "did you mean 'network'?"),
        ("zzz.channels=8", "config.zzz: no such field", "known: network, optimizer, seed"),
        ("network.inner.deep=8", "config.network.inner: no such field", "known: channels"),
        ("seed.x=8", "config.seed=0: is a single value", "'x'"),
        ("network.channels", "config.network.channels: has no value", "=value"),
    ],
)
def test_override_refuses_a_place_that_is_not_there(assignment, place, hint):
    with pytest.raises(ConfigError) as error:
        override(BASE, [assignment])
    assert place in line(error)
    assert hint in line(error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("(1, 2)", (1, 2)),
        ("true", True),
        ("False", False),
        ("none", None),
        ("cosine", "cosine"),
        ("1 +", "1 +"),
        ("__import__('os')", "__import__('os')"),
    ],
)
def test_literal_reads_values_and_runs_no_code(text, value):
    assert literal(text) == value
    assert type(literal(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("ddim", {"name": "ddim"}),
        ("ddim:", {"name": "ddim"}),
        ("ddim:eta=0.5", {"name": "ddim", "eta": 0.5}),
        ("churn:s=1,kind=a", {"name": "churn", "s": 1, "kind": "a"}),
    ],
)
def test_parse_reads_the_short_form(text, spec):
    assert parse(text) == spec


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ddim", ["ddim"]),
        ("ddim:eta=0.5,heun", ["ddim:eta=0.5", "heun"]),
        ("a:x=1,y=(2,3),b,c:z=p:q,w=4", ["a:x=1,y=(2,3)", "b", "c:z=p:q,w=4"]),
    ],
)
def test_entries_are_distinguished_from_their_arguments(text, found):
    """A list of samplers would be split within one of them."""
    assert entries(text) == found


def test_an_argument_without_a_value_is_refused():
    """The argument would be an unknown setting, or the name of a user's module."""
    with pytest.raises(ConfigError) as error:
        parse("ddim:eta,order=2")
    assert "'ddim:eta,order=2': 'eta' has no value" in line(error)
    with pytest.raises(ConfigError) as error:
        lookup({"ddim": int}, parse("ddim:eta")["name"], "config.sampler.name")
    assert "config.sampler.name='ddim:eta': 'eta' has no value" in line(error)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (3, int),
        (3.5, float),
        ("a", str),
        (True, bool),
        (None, int | None),
        (3, int | None),
        (object, list[int]),
        ({"a": 1}, dict),
    ],
)
def test_checked_lets_the_right_type_through_unchanged(value, hint):
    assert checked(value, hint, "config.a") is value


@pytest.mark.parametrize("hint", [float, float | None])
def test_checked_takes_an_int_for_a_float_as_a_float(hint):
    """Equal settings would give objects of different types: `clip=1` and `clip=1.0`."""
    made = checked(3, hint, "config.a")
    assert made == 3
    assert type(made) is float


@pytest.mark.parametrize("value", [[1, 2], (1, 2)])
def test_checked_makes_a_tuple_of_a_list(value):
    """A list would make the network unhashable, at the latest after JSON."""
    made = checked(value, tuple[int, ...], "config.a")
    assert made == (1, 2)
    assert type(made) is tuple


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        ("abc", int, "config.a='abc': needs int, got str"),
        (1.5, int, "config.a=1.5: needs int, got float"),
        (True, int, "config.a=True: needs int, got bool"),
        (True, float, "config.a=True: needs float, got bool"),
        ("1.5", float, "config.a='1.5': needs float, got str"),
        (1, str, "config.a=1: needs str, got int"),
        (1, bool, "config.a=1: needs bool, got int"),
        (None, int, "config.a=None: needs int, got NoneType"),
        ("x", int | None, "config.a='x': needs int or NoneType, got str"),
        (3, tuple[int, ...], "config.a=3: needs tuple"),
        ("12", tuple[int, ...], "config.a='12': needs tuple"),
        ((1, 2.5), tuple[int, ...], "config.a[1]=2.5: needs int, got float"),
    ],
)
def test_checked_refuses_the_wrong_type(value, hint, message):
    with pytest.raises(ConfigError) as error:
        checked(value, hint, "config.a")
    assert message in line(error)


def test_nearest_lists_all_names_and_suggests_only_near_ones():
    assert nearest("chanels", ["heads", "channels"]) == (
        " (did you mean 'channels'?); known: channels, heads"
    )
    assert nearest("HEADS", ["heads"]) == " (did you mean 'heads'?); known: heads"
    assert nearest("zzz", ["heads"]) == "; known: heads"
    assert nearest("zzz", []) == "; known: none"


def test_a_named_section_is_replaced_as_a_whole():
    """Settings of the former entry would be passed to another one."""
    base = {"sde": {"schedule": {"name": "linear", "beta_min": 0.2}}, "train": {"steps": 3}}
    made = override(base, ["sde.schedule=cosine:s=0.01"])
    assert made["sde"]["schedule"] == {"name": "cosine", "s": 0.01}
    assert base["sde"]["schedule"]["name"] == "linear"
    with pytest.raises(ConfigError, match="is a section; set one of its fields: steps"):
        override(base, ["train=3"])
    assert override(base, ["train={'steps': 4}"])["train"] == {"steps": 4}
    assert override(BASE, ["network=dit:size=S"])["network"] == {"name": "dit", "size": "S"}


def test_another_name_drops_the_settings_of_the_entry_that_was_there():
    """A network would be refused for the channels of another one, or take over its dropout."""
    made = override(BASE, ["network.name=dit"])
    assert made["network"] == {"name": "dit"}
    base = BASE | {
        "data": {"name": "array:a.npz", "kind": "vector", "labels": True, "flip": True},
        "sde": {"name": "vp", "t_max": 0.9, "schedule": {"name": "cosine", "s": 0.1}},
        "optimizer": {"name": "adamw", "b1": 0.8, "learning_rate": 0.1, "clip": 2.0},
    }
    made = override(base, ["data.name=folder:b", "sde.name=ve", "optimizer.name=lion"])
    assert made["data"] == {"name": "folder:b", "labels": True, "flip": True}
    assert made["sde"] == {"name": "ve", "schedule": {"name": "cosine", "s": 0.1}}
    assert made["optimizer"] == {"name": "lion", "learning_rate": 0.1, "clip": 2.0}
    same = override(base, ["data.name=array:b.npz", "sde.name=vp"])
    assert same == base | {"data": {**base["data"], "name": "array:b.npz"}}
    inner = override(base, ["sde.schedule.name=sigmoid"])
    assert inner["sde"]["schedule"] == {"name": "sigmoid"} and base["sde"]["t_max"] == 0.9


@pytest.mark.parametrize("turn", [1, -1])
def test_no_order_of_the_flags_loses_one(turn):
    """A width given before the name of its network would silently be dropped."""
    flags = ["network.width=3", "network.name=dit", "network=mlp", "network.depth=2"][::turn]
    assert override(BASE, flags)["network"] == {"name": "dit", "width": 3, "depth": 2}


def test_what_stays_is_what_belongs_to_no_entry():
    """The table in `config` would become outdated against the objects that read these fields."""
    reading = [f.name for f in dataclasses.fields(Reading) if not f.metadata.get("declared")]
    around = [k for k in inspect.signature(optimizer).parameters if k not in ("core", "batch_size")]
    assert set(STAY["data"]) == set(reading)
    assert set(STAY["optimizer"]) == {*around, "frozen"}
    assert all("schedule" in inspect.signature(sde).parameters for sde in SDES.values())
    assert all("conditions" in inspect.signature(net).parameters for net in NETWORKS.values())
