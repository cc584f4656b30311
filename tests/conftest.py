"""Settings of all tests, and small data sets that need neither tensorflow nor a connection."""

import atexit
import functools
import gc
import io
import itertools
import os
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # xdist workers inherit it from their parent
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="diffjax-test-xla-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
# Small programs too: half of the time of the compiler goes to operations outside `jit`, which other
# workers, processes and tiers compile as well.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Most programs here run once. These halve the time to compile, in processes that tests start too.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_parallel_codegen_split_count=1"
    # Later versions of XLA know no other emitters.
    + " --xla_cpu_use_fusion_emitters=false" * (metadata.version("jaxlib") < "0.11")
)
# Two threads for each of the eight devices below: see `cli.spare_threads`.
os.environ.setdefault("NPROC", "16")
# For processes that tests start; in this one the fixture below sets it for each module.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
from jax._src.interpreters import mlir
from jaxlib.mlir import ir

pytest_plugins = ["budget"]
jax.config.update("jax_num_cpu_devices", 8)  # virtual ones, for meshes in one process
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Exclude the objects of imports and collected tests from garbage collection. They live until
    the end, and tracing calls the collector often (5 % of the suite's CPU time).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def share_contexts(programs: int) -> None:
    """Lower this many programs in one MLIR context, whose dialects take 3 ms to load for each
    program otherwise (5 % of the suite's CPU time). A context keeps what was lowered in it.

    A program that is lowered within the lowering of another one would be inserted into that one,
    and has a context of its own.
    """
    load, numbers = mlir.make_ir_context, itertools.count()
    context = functools.lru_cache(maxsize=1)(lambda group: load())
    mlir.make_ir_context = lambda: (
        load() if ir.Context.current else context(next(numbers) // programs)
    )


share_contexts(200)


@pytest.fixture(autouse=True, scope="module")
def quick_to_compile(request):
    """Switch optimizations off, which halves the time to compile once more."""
    off = request.node.get_closest_marker("optimized") is None
    jax.config.update("jax_disable_most_optimizations", off)


@pytest.fixture
def x64():
    """Run the test in float64."""
    with jax.enable_x64(True):
        yield


TINY = {"train": 40, "test": 12}


@pytest.fixture(scope="session")
def tiny_items() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The items of `tiny_tfds` in its order: images (N, 8, 8, 3) and labels (N,) of each split."""
    rng = np.random.default_rng(0)
    return {
        split: (rng.integers(0, 256, (n, 8, 8, 3), np.uint8), rng.integers(0, 3, n))
        for split, n in TINY.items()
    }


@pytest.fixture(scope="session")
def tiny_tfds(tmp_path_factory, tiny_items) -> Path:
    """A folder with the data set `tiny`: ArrayRecord, two files per split."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils import gcs_utils

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=(8, 8, 3))
            features = {"image": image, "label": tfds.features.ClassLabel(num_classes=3)}
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(*items) for split, items in tiny_items.items()}

        def _generate_examples(self, x, label):
            for i, image in enumerate(x):
                encoded = io.BytesIO()
                Image.fromarray(image).save(encoded, "PNG")
                yield i, {"image": encoded.getvalue(), "label": int(label[i])}

    root = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gcs_utils, "_is_gcs_disabled", True)
        builder = Tiny(data_dir=root, file_format="array_record")
        two_files = tfds.download.DownloadConfig(num_shards=2)
        builder.download_and_prepare(download_config=two_files)
    return root


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """Folders `ape` and `bee` with 20 PNG files of 8 x 8 in each."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(1)
    for name in ("ape", "bee"):
        (root / name).mkdir()
        for i in range(20):
            image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
            image.save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def tiny_array(tmp_path_factory) -> Path:
    """60 images of 6 x 6 x 1 and their labels in 3 classes, as an .npz file."""
    file = tmp_path_factory.mktemp("array") / "tiny.npz"
    x = np.random.default_rng(2).integers(0, 256, (60, 6, 6, 1), np.uint8)
    np.savez(file, x=x, y=np.arange(60) % 3)
    return file


@pytest.fixture(scope="session")
def tiny_latents(tmp_path_factory) -> Path:
    """A folder with 60 latents of 8 x 8 x 4 in float16 and their labels in 3 classes."""
    root = tmp_path_factory.mktemp("latents")
    x = np.random.default_rng(3).normal(size=(60, 8, 8, 4))
    np.save(root / "latents.npy", x.astype(np.float16))
    np.save(root / "labels.npy", np.arange(60) % 3)
    return root


TOY = """
import ml_collections
def get_config():
    return ml_collections.ConfigDict(dict(
        seed=0,
        data=dict(name="moons", size=400),
        sde=dict(name="vp", schedule=dict(name="linear")),
        parameterization=dict(name="eps"),
        network=dict(name="mlp", width=16, depth=1),
        loss=dict(weight="uniform_output"),
        optimizer=dict(name="adamw"),
        ema=dict(name="constant", decay=0.9),
        sampling=dict(sampler=dict(name="heun"), steps=2),  # guidance left to its default
        train=dict(
            steps=4,
            batch_size=8,
            log_every=2,
            sample_every=4,
            checkpoint_every=2,
            held_out_every=2,
            held_out=50,
        ),
    ))
"""


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """The workdir of a tiny unconditional run on points, from a config file of the user's own.

    Trained in this process, so that types and shapes are checked in the loop too.
    """
    from diffjax import train

    folder = tmp_path_factory.mktemp("toy")
    (folder / "mine.py").write_text(TOY)
    with pytest.MonkeyPatch.context() as patch:
        flags = [f"--config={folder / 'mine.py'}", f"--workdir={folder / 'run'}"]
        patch.setattr(sys, "argv", ["train.py", *flags])
        assert train.run() == 0
    return folder / "run"


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The test digits and a network with one parameter, for likelihoods."""
    from diffjax import builder, config, evaluation
    from diffjax.data import digits
    from diffjax.denoiser import Denoiser, Model
    from diffjax.nets import Network
    from diffjax.parameterization import V
    from diffjax.schedules import Cosine
    from diffjax.sde import VP

    def apply(params, x, c_noise, cond, *, key=None):
        return params["c"] * x

    model = Model(VP(Cosine(), t_min=1e-3, t_max=0.99), V(), Network(lambda *a: {}, apply))
    denoise = Denoiser(model, {"network": {"c": jax.numpy.asarray(-0.2)}})
    tiny = ["network.multipliers=(1,)", "network.attention=()"]
    e = builder.experiment(config.override(config.load("digits_vp"), tiny))
    about = {"data": "digits", "split": "test", "trained": 0, "ema": ""}
    folder = tmp_path_factory.mktemp("small")
    return evaluation.Subject(denoise, e.form, e.reading, e.config, digits("test"), about, folder)
