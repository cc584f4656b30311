"""Catalogue names, broadcasting, missing conditions, random streams and host float64."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import arrays

pytestmark = pytest.mark.typed


class SubVP:
    pass


class ClassifierFree:
    pass


def dpmpp_2m():
    pass


def test_catalogue_names_are_snake_case():
    """Configs would no longer find `dpmpp_2m` or `sub_vp`."""
    names = arrays.catalogue(SubVP, ClassifierFree, dpmpp_2m)
    assert names == {"sub_vp": SubVP, "classifier_free": ClassifierFree, "dpmpp_2m": dpmpp_2m}


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4, 1)])
def test_expand_scales_each_sample_by_its_own_scalar(shape):
    """Per-sample alpha and sigma would multiply the wrong axis."""
    a, x = jnp.array([1.0, 2.0, 3.0]), jnp.ones(shape)
    np.testing.assert_array_equal((arrays.expand(a, x) * x).reshape(3, -1)[:, 0], a)
    assert arrays.expand(a, x).ndim == x.ndim
    assert arrays.dims(x) == tuple(range(1, len(shape)))


def test_streams_depend_on_seed_and_name():
    """Data order and sampling noise would use the same numbers, or two seeds be the same run."""
    keys = [arrays.stream(seed, name) for seed in (0, 1) for name in ("data", "sample")]
    bits = {tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in keys}
    assert len(bits) == 4
    chex.assert_trees_all_equal(
        jax.random.key_data(arrays.stream(0, "data")), jax.random.key_data(keys[0])
    )


def test_keys_and_noise_of_a_sample_do_not_depend_on_the_batch():
    """Sample k would change with the batch size."""
    key = arrays.stream(0, "sample")
    whole = arrays.normal(arrays.keys_at(key, jnp.arange(5)), (2, 3))
    part = arrays.normal(arrays.keys_at(key, jnp.array([4, 1])), (2, 3))
    np.testing.assert_array_equal(part, whole[jnp.array([4, 1])])
    own = jax.random.normal(jax.random.fold_in(key, 4), (2, 3))
    np.testing.assert_array_equal(part[0], own)
    assert len(np.unique(np.asarray(whole))) == whole.size


def test_null_marks_integers_and_floats_as_missing():
    """A network would read a real class or a real value where there is none."""
    cond = {"label": jnp.array([0, 2]), "size": jnp.ones((2, 3))}
    gone = arrays.null(cond)
    np.testing.assert_array_equal(gone["label"], [-1, -1])
    assert jnp.isnan(gone["size"]).all()
    chex.assert_trees_all_equal_shapes_and_dtypes(gone, cond)


def test_drop_takes_all_conditions_of_a_sample_at_the_given_rate():
    """The unconditional branch would be trained too rarely, or on half-missing conditions."""
    n, rate = 20_000, 0.3
    cond = {"label": jnp.arange(n) % 10, "size": jnp.ones((n, 2))}
    out = arrays.drop(cond, jax.random.key(0), rate)
    gone = np.asarray(out["label"] == -1)
    np.testing.assert_array_equal(np.isnan(out["size"]), np.stack([gone, gone], 1))
    np.testing.assert_array_equal(np.asarray(out["label"])[~gone], (np.arange(n) % 10)[~gone])
    assert abs(gone.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / n)


def test_drop_by_name_draws_each_condition_on_its_own():
    """Guidance by one of two conditions would lack its reference."""
    n, rates = 20_000, {"size": 0.3, "label": 0.6}
    cond = {"label": jnp.arange(n) % 10, "size": jnp.ones((n, 2)), "kept": jnp.ones(n)}
    out = arrays.drop(cond, jax.random.key(0), rates)
    assert list(out) == list(cond)
    chex.assert_trees_all_equal(out["kept"], cond["kept"])
    label, size = np.asarray(out["label"] == -1), np.isnan(out["size"]).all(1)
    np.testing.assert_array_equal(np.asarray(out["label"])[~label], (np.arange(n) % 10)[~label])
    both = rates["label"] * rates["size"]
    for gone, rate in ((label, 0.6), (size, 0.3), (label & size, both)):
        assert abs(gone.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / n)
    alone = arrays.drop({"label": cond["label"]}, jax.random.key(0), {"label": 0.6})
    chex.assert_trees_all_equal(alone["label"], out["label"])
    with pytest.raises(
        ValueError, match=r"dropout of \['text'\]: no such condition; known: \['kept', "
    ):
        arrays.drop(cond, jax.random.key(0), {"text": 0.1})


def test_joint_drop_draws_what_it_always_drew():
    """A resumed run would drop other labels than the uninterrupted one."""
    out = arrays.drop({"label": jnp.arange(12)}, jax.random.key(3), 0.5)
    gone = jax.random.bernoulli(jax.random.key(3), 0.5, (12,))
    np.testing.assert_array_equal(out["label"] == -1, gone)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_drop_at_its_ends(rate):
    """Rate 0 would lose labels, or rate 1 keep some."""
    cond = {"label": jnp.arange(50)}
    out = arrays.drop(cond, jax.random.key(0), rate)
    chex.assert_trees_all_equal(out, arrays.null(cond) if rate else cond)
    assert arrays.drop({}, jax.random.key(0), rate) == {}


def test_float64_computes_on_the_host_inside_a_traced_function_too():
    """Tables made inside `jit` would be float32, or the trace would leak into them."""
    third = arrays.float64(lambda x: jnp.asarray(x) / 3)
    value = third(np.array([1.0]))
    assert isinstance(value, np.ndarray) and value.dtype == np.float64
    assert value[0] == 1 / 3
    seen = []

    @jax.jit
    def traced(x):
        seen.append(third(np.array([1.0])))
        return x + seen[0][0]

    traced(jnp.zeros(()))
    assert seen[0].dtype == np.float64 and seen[0][0] == 1 / 3
    assert jnp.zeros(()).dtype == jnp.float32
