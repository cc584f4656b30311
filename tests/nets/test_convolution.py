"""The convolution against `lax.conv_general_dilated`, from which it must differ in speed only."""

import functools
import itertools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from diffjax.arrays import BATCH
from diffjax.nets.batches import batch_split
from diffjax.nets.kernels import winograd
from diffjax.nets.kernels.convolution import convolution, upsampled
from diffjax.nets.resample import upsample

pytestmark = pytest.mark.optimized

ASYMMETRIC = ((2, -1), (0, 3), (1, 1))
CANONICAL = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"


def reference(x, kernel, *args, **settings):
    axes = "DHW"[-(x.ndim - 2) :]
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return lax.conv_general_dilated(x, kernel, *args, dimension_numbers=layout, **settings)


def whole(shape, seed=0, dtype=jnp.float32):
    """Return small integers, whose sums of products are exact in any order."""
    return jnp.asarray(np.random.default_rng(seed).integers(-2, 3, shape), dtype)


def everything(conv, x, kernel):
    """Return the value, both gradients, jvp and Hessian-vector product of a quadratic loss."""
    loss = lambda x, kernel: (conv(x, kernel) ** 2).sum()
    grad = jax.grad(loss, (0, 1))
    tangents = whole(x.shape, 2, x.dtype), whole(kernel.shape, 3, x.dtype)
    return (
        conv(x, kernel),
        jax.jvp(conv, (x, kernel), tangents)[1],
        jax.jvp(grad, (x, kernel), tangents),
    )


PADDINGS = {"same": "SAME", "valid": "VALID", "given": ASYMMETRIC}
SIZES = ((7,), (6,), (5, 6), (6, 5, 5))
# Each size, stride and padding of the product runs at least once in the default tier.
SHORT = {
    ((7,), 2, "same"),
    ((6,), 2, "valid"),
    ((5, 6), 1, "same"),
    ((5, 6), 2, "given"),
    ((6, 5, 5), 2, "valid"),
}


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        pytest.param(
            size,
            stride,
            PADDINGS[name],
            id=f"{size}-{stride}-{name}",
            marks=() if (size, stride, name) in SHORT else pytest.mark.thorough,
        )
        for size, stride, name in itertools.product(SIZES, (1, 2), PADDINGS)
    ],
)
def test_values_and_derivatives_are_those_of_lax(size, stride, padding):
    """A network would train on wrong gradients. Sizes that a stride does not divide come first."""
    n = len(size)
    pads = padding if isinstance(padding, str) else padding[:n]
    x, kernel = whole((2, *size, 2)), whole((*(3, 2, 3)[:n], 2, 3), 1)

    @jax.jit
    def both(x, kernel):
        pairs = []
        # lax refuses padding by name where the input is dilated
        for wide, deep in itertools.product((1,) if isinstance(padding, str) else (1, 2), (1, 2)):
            args = ((stride,) * n, pads, (wide,) * n, (deep,) * n)
            conv = [lambda x, k, f=f, args=args: f(x, k, *args) for f in (convolution, reference)]
            pairs.append([everything(c, x, kernel) for c in conv])
        return pairs

    for ours, theirs in both(x, kernel):
        chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
        chex.assert_trees_all_close(ours, theirs, rtol=1e-6, atol=1e-2)


def test_padding_by_name_of_a_dilated_input_is_refused_as_by_lax():
    """A dilated input would be padded as if it were not dilated."""
    for f in (reference, convolution):
        with pytest.raises(ValueError, match="padding"):
            f(whole((1, 5, 2)), whole((3, 2, 3)), (1,), "SAME", (2,))


GEOMETRY = ((2, 1), ((1, 0), (0, 2)))


def test_dilations_are_one_by_default():
    x, kernel = whole((2, 5, 6, 2)), whole((3, 2, 2, 3), 1)
    chex.assert_trees_all_close(
        convolution(x, kernel, *GEOMETRY), reference(x, kernel, *GEOMETRY), atol=1e-4
    )


@pytest.mark.parametrize(
    "axes",
    [
        (2, None),
        (None, 1),
        (1, 3),
        *(pytest.param(a, marks=pytest.mark.thorough) for a in ((0, None), (None, 0), (0, 0))),
    ],
)
def test_vmap_and_gradients_under_it_are_those_of_lax(axes):
    """Per-sample gradients and ensembles of kernels would mix their examples."""
    x, kernel = whole((2, 5, 6, 2)), whole((3, 2, 2, 3), 1)
    stack = lambda a, axis: a if axis is None else jnp.stack([a, 2 * a + 1, -a], axis)
    x, kernel = stack(x, axes[0]), stack(kernel, axes[1])

    @functools.partial(jax.jit, static_argnums=0)
    def run(conv, x, kernel):
        mapped = jax.vmap(lambda x, k: conv(x, k, *GEOMETRY), axes)
        square = lambda x, k: (conv(x, k, *GEOMETRY) ** 2).sum()
        of_all = jax.grad(lambda x, k: (mapped(x, k) ** 2).sum(), (0, 1))
        return (
            mapped(x, kernel),
            jax.vmap(jax.grad(square, (0, 1)), axes)(x, kernel),
            of_all(x, kernel),
        )

    chex.assert_trees_all_close(
        run(convolution, x, kernel), run(reference, x, kernel), rtol=1e-6, atol=1e-2
    )


def test_bfloat16_stays_bfloat16():
    """Gradients would lose half of the memory that mixed precision saves."""
    x, kernel = whole((2, 4, 4, 2), 0, jnp.bfloat16), whole((3, 3, 2, 3), 1, jnp.bfloat16)
    made = jax.jit(lambda x, k: everything(lambda *a: convolution(*a, (1, 1), "SAME"), x, k))
    shapes = jax.eval_shape(made, x, kernel)
    assert all(a.dtype == jnp.bfloat16 for a in jax.tree.leaves(shapes))
    exact = reference(x.astype(jnp.float32), kernel.astype(jnp.float32), (1, 1), "SAME")
    chex.assert_trees_all_close(made(x, kernel)[0].astype(jnp.float32), exact, rtol=1e-2)


def test_grouped_features_are_those_of_lax():
    x, kernel = whole((2, 5, 5, 4)), whole((3, 3, 2, 6), 1)

    @jax.jit
    def both(x, kernel):
        grouped = [
            lambda x, k, f=f: f(x, k, (2, 2), "SAME", feature_group_count=2)
            for f in (convolution, reference)
        ]
        return [everything(conv, x, kernel) for conv in grouped]

    chex.assert_trees_all_close(*both(x, kernel), rtol=1e-6, atol=1e-2)


def looped(conv, scan=True):
    """A loss with three consecutive convolutions, the second of them strided."""

    def loss(kernel, x):
        def body(x, k):
            half = conv(x, k, (2, 2), "SAME")
            return conv(x, k, (1, 1), "SAME") + half.repeat(2, 1).repeat(2, 2), None

        if scan:
            x, _ = lax.scan(body, x, kernel)
        else:
            for k in kernel:
                x, _ = body(x, k)
        return (x**2).sum()

    return loss


IMAGES, KERNELS = (2, 4, 4, 2), (3, 3, 3, 2, 2)


def test_gradients_in_a_loop_are_those_outside():
    x, kernel = whole(IMAGES), whole(KERNELS, 1)
    inside, outside = (
        jax.jit(jax.grad(looped(convolution, scan), (0, 1))) for scan in (True, False)
    )
    chex.assert_trees_all_close(inside(kernel, x), outside(kernel, x), rtol=1e-5)


def layouts(function, *args) -> set[str]:
    """Return the layouts of all convolutions in the program that XLA receives."""
    text = jax.jit(function).lower(*args).as_text()
    found = re.findall(r"stablehlo\.convolution.*dim_numbers = (.*?), window", text)
    assert len(found) == text.count("stablehlo.convolution") > 0
    return set(found)


def test_all_derivatives_in_a_loop_are_in_the_fast_layout():
    """The gradient in a loop would be 60 times slower on CPU, as in any other layout."""
    if jax.default_backend() != "cpu":
        pytest.skip("the layout is for CPU only")
    x, kernel = whole(IMAGES), whole(KERNELS, 1)
    grad = lambda conv: jax.grad(looped(conv), (0, 1))
    twice = lambda conv: lambda k, x: jax.jvp(grad(conv), (k, x), (k, x))
    examples = lambda conv: jax.vmap(grad(conv), (None, 0))
    for derivative, args in (
        (grad, (kernel, x)),
        (twice, (kernel, x)),
        (examples, (kernel, x[:, None])),
    ):
        assert layouts(derivative(convolution), *args) == {CANONICAL}
        assert layouts(derivative(reference), *args) - {CANONICAL}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("grow", [False, True], ids=["plain", "upsampled"])
def test_the_form_is_that_of_the_platform_a_program_is_lowered_for(platform, grow):
    """A program that a CPU machine exports for a GPU or TPU would have the form for CPUs."""
    x, kernel = jnp.ones((32, 16, 16, 32)), jnp.ones((3, 3, 32, 32))
    ours = upsampled if grow else lambda x, k: convolution(x, k, (1, 1), "SAME")
    plain = lambda x, k: reference(upsample(x) if grow else x, k, (1, 1), "SAME")

    def operations(conv, platform):
        grad = jax.value_and_grad(lambda x, kernel: conv(x, kernel).sum(), (0, 1))
        text = jax.jit(grad).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        return [text.count(f"stablehlo.{name}") for name in ("convolution", "dot_general")]

    assert operations(ours, platform) == operations(plain, platform) == [3, 0]
    assert operations(ours, "cpu")[1] > 0


def test_a_batch_split_over_devices_stays_split():
    """Each device would compute the convolutions of the whole batch."""
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])
    whole_, split = (NamedSharding(mesh, PartitionSpec(*p)) for p in ((), ("data",)))
    x, kernel = whole((4, 4, 4, 2)), whole(KERNELS, 1)
    grad = jax.grad(looped(convolution), (0, 1))
    sharded = jax.jit(grad, in_shardings=(whole_, split)).lower(kernel, x).compile()
    text = sharded.as_text()
    assert "all-reduce" in text and "all-gather" not in text and "all-to-all" not in text
    got = sharded(*jax.device_put((kernel, x), (whole_, split)))
    assert got[1].sharding.is_equivalent_to(split, x.ndim)
    chex.assert_trees_all_close(jax.device_get(got), jax.jit(grad)(kernel, x), rtol=1e-5)


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (4, 9)], ids=str)
def test_winograd_is_the_convolution(size):
    """Networks would compute something else on CPU once their products are many."""
    x, kernel = whole((2, *size, 3)), whole((3, 3, 3, 4), 1)
    by_name = [lax.padtype_to_pads(size, (3, 3), (1, 1), name) for name in ("SAME", "VALID")]

    @jax.jit
    def both(x, kernel):
        return [
            (winograd.convolve(x, kernel, pads), reference(x, kernel, (1, 1), pads))
            for pads in (*by_name, ASYMMETRIC[:2])
        ]

    for ours, theirs in both(x, kernel):
        np.testing.assert_array_equal(ours, theirs)


def test_where_products_are_many_winograd_makes_them():
    """Winograd would not be used, or be compiled for tiny networks, in gradients too."""
    x, kernel = jnp.zeros((1, 16, 16, 64)), jnp.zeros((3, 3, 64, 64))
    lowered = lambda n: (
        jax.jit(jax.grad(lambda x: (convolution(x, kernel, (1, 1), "SAME") ** 2).sum()))
        .lower(jnp.zeros((n, *x.shape[1:])))
        .as_text()
    )
    plain, large = ("stablehlo.convolution" in lowered(n) for n in (1, 32))
    assert plain and not large


def exactly(x, kernel):
    """Compute the convolution to the same size, tap by tap, in float64."""
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = x.shape[1:3]
    taps = itertools.product(range(3), range(3))
    return sum(wide[:, i : i + rows, j : j + columns] @ kernel[i, j] for i, j in taps)


def test_winograd_keeps_the_digits():
    """Rounded sums of inputs and taps would lose more than a few times the error of lax."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 8, 8, 64)), rng.normal(size=(3, 3, 64, 64)) / 24
    exact = exactly(x, kernel)
    forms = (
        lambda x, kernel: winograd.convolve(x, kernel, ((1, 1), (1, 1))),
        lambda x, kernel: reference(x, kernel, (1, 1), "SAME"),
    )
    off = lambda made: np.sqrt(((np.asarray(made) - exact) ** 2).mean())
    single = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    ours, theirs = (off(jax.jit(f)(*single)) for f in forms)
    assert ours < 4 * theirs
    assert ours < 1e-6


def test_winograd_leaves_a_split_batch_where_it_is():
    """A reshape that mixes samples and places would gather the batch on every device."""
    mesh = jax.make_mesh((4,), ("data",), (AxisType.Auto,), devices=jax.devices()[:4])
    split, everywhere = (NamedSharding(mesh, PartitionSpec(*a)) for a in (("data",), ()))
    given = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((32, 16, 16, 64), (3, 3, 64, 64))]
    conv = lambda x, kernel: convolution(x, kernel, (1, 1), "SAME")
    compiled = jax.jit(conv, in_shardings=(split, everywhere), out_shardings=split).lower(*given)
    text = compiled.compile().as_text()
    assert "convolution(" not in text
    assert not re.search("all-gather|all-to-all|collective-permute", text)


def test_the_gradient_of_a_split_kernel_after_upsampling_gathers_no_batch(monkeypatch):
    """The compiler would split the repeated x like the kernel, and gather its cotangent (GPUs)."""
    monkeypatch.setattr("diffjax.nets.kernels.convolution._many", lambda *_: True)
    mesh = jax.make_mesh((1, 4), BATCH, (AxisType.Auto,) * 2, devices=jax.devices()[:4])
    at = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))
    split, rows = at(None, None, "data"), at(BATCH)
    given = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((3, 3, 8, 8), (64, 8, 8, 8))]
    loss = lambda kernel, x: (batch_split(upsampled(jnp.sin(x), kernel)) ** 2).sum()
    with jax.set_mesh(mesh):
        grad = jax.jit(jax.grad(loss), in_shardings=(split, rows), out_shardings=split)
        text = grad.lower(*given).compile().as_text()
    gathered = re.findall(r"= \(?\w+\[([\d,]+)\][^=]*? all-gather(?:-start)?\(", text)
    sizes = [np.prod([*map(int, shape.split(","))]) for shape in gathered]
    assert sizes and max(sizes) == 3 * 3 * 8 * 8  # the kernel's
    assert "all-to-all" not in text


def repeated(x, kernel):
    return reference(upsample(x), kernel, (1,) * (x.ndim - 2), "SAME")


@pytest.mark.parametrize(
    "size", [(5,), (4, 3), pytest.param((2, 3, 4), marks=pytest.mark.thorough)], ids=str
)
def test_after_upsampling_values_and_derivatives_are_those_of_lax(size, monkeypatch):
    """Networks would upsample wrongly on CPU, or train on wrong gradients there."""
    monkeypatch.setattr("diffjax.nets.kernels.convolution._many", lambda *_: True)
    x, kernel = whole((2, *size, 3)), whole((*(3,) * len(size), 3, 4), 1)
    assert "upsampled_convolution" in str(jax.make_jaxpr(upsampled)(x, kernel))
    mapped = lambda f, x, kernel: jax.vmap(f, (None, 0))(x, jnp.stack([kernel, 2 * kernel]))
    both = lambda *given: [
        (everything(f, *given), mapped(f, *given)) for f in (upsampled, repeated)
    ]
    (ours, ours_mapped), (theirs, theirs_mapped) = jax.jit(both)(x, kernel)
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6, atol=1e-2)
    np.testing.assert_array_equal(ours_mapped, theirs_mapped)


def test_after_upsampling_a_quarter_of_the_products_is_made():
    """The sums would be added without saving three quarters of the products."""
    x, kernel = jnp.zeros((8, 16, 16, 64)), jnp.zeros((3, 3, 64, 64))
    cost = lambda f: jax.jit(f).lower(x, kernel).compile().cost_analysis()["flops"]
    plain = 2 * 9 * 64 * 64 * 8 * 32 * 32
    assert 1 / 4 < cost(upsampled) / plain < 1 / 3
    assert cost(repeated) > 0.9 * plain
    assert "upsampled_convolution" not in str(jax.make_jaxpr(upsampled)(x[:1, :4, :4], kernel))


def test_after_upsampling_the_digits_are_kept():
    """Rounded sums of inputs and taps would lose digits here too."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 8, 8, 64)), rng.normal(size=(3, 3, 64, 64)) / 24
    exact = exactly(x.repeat(2, 1).repeat(2, 2), kernel)
    off = lambda made: np.sqrt(((np.asarray(made) - exact) ** 2).mean())
    single = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    ours, theirs = (off(jax.jit(f)(*single)) for f in (winograd.convolve_equals, repeated))
    assert ours < 4 * theirs
    assert ours < 1e-6
