"""Programs that real compilers printed: their loops, collectives and memory traffic."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from diffjax.aot import hlo
from diffjax.aot.collectives import collectives, members, place, totals
from diffjax.aot.traffic import traffic

# See make_compiled.py.
LAYERS, WIDTH, BATCH, DEVICES = 3, 256, 64, 4
WEIGHTS = LAYERS * WIDTH**2
TARGETS = ("cpu_4", "tpu_v5e_2x2", "gpu_h100_4")
READ = {"cpu_4": 4, "tpu_v5e_2x2": 2, "gpu_h100_4": 4}
"""Bytes of a weight as it is gathered; the TPU rounds it to bfloat16 first."""


def program(name):
    return hlo.parse((Path(__file__).parent / "compiled" / f"{name}.txt").read_text())


def optimized(function, *args):
    """Compile a function for one CPU, and parse the program."""
    return hlo.parse(jax.jit(function).lower(*args).compile().as_text())


@pytest.mark.parametrize("target", TARGETS)
def test_each_layer_is_gathered_twice_and_its_gradient_reduced_once(target):
    """The communication of a pod would be that of one layer, or count parts of a fusion twice."""
    items = collectives(program(target), DEVICES)
    sums = totals(items, lambda item: item.kind)
    reduce = "all-reduce" if target == "cpu_4" else "reduce-scatter"
    assert set(sums) == {"all-gather", reduce}
    gathers, reduces = sums["all-gather"], sums[reduce]
    assert (gathers.count, gathers.times) == (2, 2 * LAYERS)
    assert (reduces.count, reduces.times) == (1, LAYERS)
    ring = (DEVICES - 1) / DEVICES
    assert gathers.sent == 2 * WEIGHTS * READ[target] * ring
    assert reduces.sent == WEIGHTS * 4 * ring * (2 if reduce == "all-reduce" else 1)
    assert all(item.group == DEVICES and item.loop for item in items)
    assert {item.place for item in items} == {
        "forward gradient, in a loop",
        "backward gradient, in a loop",
    }
    assert [i.place for i in items if i.kind == reduce] == ["backward gradient, in a loop"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_traffic_lies_between_that_of_the_weights_and_of_all_steps(target):
    """A loop over layers would count as one layer, or a slice of the stack as the whole."""
    moved = traffic(program(target))
    assert moved > 3 * 4 * WEIGHTS / DEVICES  # read a part of the weights and their gradient, write
    assert moved < 5 * 4 * WEIGHTS * LAYERS


@pytest.mark.parametrize("target", TARGETS)
def test_loops_run_as_often_as_there_are_layers(target):
    parsed = program(target)
    loops = [i for v in parsed.computations.values() for i in v if i.opcode == "while"]
    assert [parsed.length(loop) for loop in loops] == [LAYERS] * 2
    assert max(parsed.times.values()) == LAYERS


def test_the_traffic_of_a_product_is_that_of_its_matrices():
    """The memory bound of the estimate would be that of another program."""
    a, b = jnp.ones((32, 64)), jnp.ones((64, 128))
    assert traffic(optimized(jnp.matmul, a, b)) == 4 * (32 * 64 + 64 * 128 + 32 * 128)


def test_a_loop_reads_its_slice_of_a_stack():
    """A network whose layers are stacked would seem to read all layers in each of them."""
    stack = jnp.ones((16, 64, 64))
    loop = lambda x, w: jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]
    moved = traffic(optimized(loop, jnp.ones((8, 64)), stack))
    whole = 4 * stack.size
    assert whole < moved < 4 * whole  # all layers at once would be 16 times the whole


@pytest.mark.parametrize(
    ("attributes", "count"),
    [
        ("replica_groups={{0,1,2,3}}, to_apply=%add", 4),
        ("replica_groups={}, dimensions={0}", 8),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", 4),
        ("replica_groups=mesh['a'=4,'b'=2] {'a'}, dimensions={1}", 4),
        ("replica_groups=mesh['a'=4,'b'=2] {'a','b'}", 8),
        ("replica_groups=mesh['a'=8] {'a':(1)2}", 2),
        ("source_target_pairs={{0,1},{1,0}}", 8),
    ],
)
def test_groups_of_devices_are_read_in_each_notation(attributes, count):
    assert members(attributes, 8) == count


@pytest.mark.parametrize(
    ("op_name", "shown"),
    [
        ("jit(run)/while/body/add", "outside"),
        ("", "outside"),
        ("jit(run)/transpose(jvp(MLP))/a/b/c/d/e/f/mul", "backward MLP/a/b/c/..."),
        ("jit(run)/jvp(DiT)/DiT._loop/blocks/while/body/qkv/dot", "forward DiT/blocks/qkv"),
        ("jit(run)/jvp(DiT)/dot_general:DiT._embedded/label/gather", "forward DiT/label"),
    ],
)
def test_places_are_short(op_name, shown):
    assert place(op_name) == shown


def test_a_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        hlo.parse("HloModule empty\n")


RING = """HloModule ring

%condition (p: (bf16[8,4], u32[])) -> pred[] {
  %p = (bf16[8,4]{1,0}, u32[]) parameter(0)
  %bound = u32[] constant(8)
  %index = u32[] get-tuple-element(%p), index=1
  ROOT %less = pred[] compare(%index, %bound), direction=LT
}

%piece (w: bf16[8,4]) -> bf16[8,16] {
  %w = bf16[8,4]{1,0} parameter(0)
  ROOT %gathered = bf16[8,16]{1,0} all-gather(%w), channel_id=7, replica_groups={{0,1,2,3}}
}

%body (p: (bf16[8,4], u32[])) -> (bf16[8,4], u32[]) {
  %p = (bf16[8,4]{1,0}, u32[]) parameter(0)
  %part = bf16[8,4]{1,0} get-tuple-element(%p), index=0
  %old = u32[] get-tuple-element(%p), index=1
  %two = u32[] constant(2)
  %new = u32[] add(%old, %two)
  %next = bf16[8,4]{1,0} collective-permute(%part), channel_id=1, source_target_pairs={{0,1}}
  %under_way = bf16[8,16]{1,0} fusion(%part), kind=kLoop, calls=%piece
  ROOT %out = (bf16[8,4]{1,0}, u32[]) tuple(%next, %new)
}

ENTRY %main (w: bf16[8,4]) -> (bf16[8,4], u32[]) {
  %w = bf16[8,4]{1,0} parameter(0)
  %zero = u32[] constant(0)
  %begun = bf16[8,16]{1,0} all-gather(%w), channel_id=7, replica_groups={{0,1,2,3}}
  %first = (bf16[8,4]{1,0}, u32[]) tuple(%w, %zero)
  ROOT %loop = (bf16[8,4]{1,0}, u32[]) while(%first), condition=%condition, body=%body
}
"""
"""A gathered product as XLA splits it on TPU: its ring handles two parts in one iteration, while a
gather that began before the loop is under way."""


def test_a_ring_that_handles_two_parts_at_once_runs_half_as_often():
    """A transformer on a pod would seem to send its weights twice as often as it does."""
    sums = totals(collectives(hlo.parse(RING), 4), lambda item: item.kind)
    assert sums["collective-permute"].times == 4
    assert (sums["all-gather"].count, sums["all-gather"].times) == (1, 1)
