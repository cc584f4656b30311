"""Data sets prepared by TFDS: read without TensorFlow, or refused with the command to run."""

import importlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffjax.config import ConfigError
from diffjax.data import load, tfds

tfds_source = importlib.import_module("diffjax.data.tfds")  # the package has a function of its name
CIFAR = Path(__file__).parents[3] / "shared/data/tfds"


@pytest.fixture
def tiny(tiny_tfds):
    """`tfds` on the tiny data set: split, other settings."""

    def make(split: str = "train", **settings):
        return tfds(split, **{"dataset": "tiny", "data_dir": str(tiny_tfds)} | settings)

    return make


@pytest.fixture
def copied(tiny_tfds, tmp_path) -> Path:
    """Copy the tiny data set so that a test may damage it; return the folder and its files."""
    return Path(shutil.copytree(tiny_tfds, tmp_path / "copy")) / "tiny" / "1.0.0"


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_and_labels_are_those_that_were_written(tiny, tiny_items, split):
    x, label = tiny_items[split]
    data = tiny(split)
    assert (data.shape, data.dtype, data.classes) == ((8, 8, 3), np.uint8, 3)
    np.testing.assert_array_equal(load(data).x, x)
    np.testing.assert_array_equal(load(data).label, label)


def test_a_slice_of_a_split_is_just_that(tiny, tiny_items):
    """Items would be lost or added where a slice spans both files of a split."""
    x, label = tiny_items["train"]
    data = load(tiny(train="train[10:30]"))
    np.testing.assert_array_equal(data.x, x[10:30])
    np.testing.assert_array_equal(data.label, label[10:30])


def test_any_split_may_serve_as_train_and_as_test(tiny, tiny_items):
    data = load(tiny("test", test="train[75%:]"))
    np.testing.assert_array_equal(data.x, tiny_items["train"][0][30:])
    assert len(tiny("train", train="train+test")) == 52


@pytest.mark.parametrize("dataset", ["tiny", "tiny:1.0.0"])
def test_a_version_may_be_named(tiny, dataset):
    assert len(tiny(dataset=dataset)) == 40


def test_size_resizes_and_one_channel_is_grey(tiny, tiny_items):
    first = Image.fromarray(tiny_items["train"][0][0])
    assert load(tiny(size=4)).x.shape == (40, 4, 4, 3)
    grey = load(tiny(channels=1)).x
    assert grey.shape == (40, 8, 8, 1)
    np.testing.assert_array_equal(grey[0, ..., 0], np.asarray(first.convert("L")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"train": "trian"},
            r"train='trian': no such split of tiny.*'train'\?.*known: test, train",
        ),
        ({"train": "valid[:3]"}, r"train='valid\[:3\]': no such split.*known: test, train"),
        ({"train": "train[:9]+tset"}, r"\+tset': no such split.*'test'\?.*known: test, train"),
        ({"train": "train[a]"}, r"train='train\[a\]' of .*tiny"),
        ({"train": "train[50:60]"}, r"train='train\[50:60\]' of .*40 examples"),
        ({"train": "train[5:5]"}, r"train='train\[5:5\]' of .*tiny"),
        ({"image": "imgae"}, r"image='imgae': no such feature.*'image'\?.*known: image, label"),
        ({"label": "lable"}, r"label='lable': no such feature.*'label'\?.*known: image, label"),
        ({"image": "label"}, r"image='label'"),
        ({"label": "image"}, r"names|label='image'"),
        ({"channels": 2}, "channels=2"),
        ({"size": -1}, "size=-1"),
        ({"unreadable": -1}, "unreadable=-1"),
    ],
)
def test_settings_that_the_data_set_does_not_know_are_refused(tiny, settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)


def test_a_data_set_that_is_not_there_is_refused_with_those_that_are(tiny, tiny_tfds):
    """The message would lack the command that prepares the data set."""
    with pytest.raises(ValueError, match=r"dataset='tinny': not prepared") as caught:
        tiny(dataset="tinny")
    message = str(caught.value)
    assert f"in {tiny_tfds} (config.data.data_dir or TFDS_DATA_DIR)" in message
    assert "did you mean 'tiny'?); known: tiny" in message
    command = f"tfds build tinny --file_format=array_record --data_dir={tiny_tfds}"
    assert message.endswith(command)


def test_cifar10_that_is_not_there_is_refused_with_the_command_that_downloads_it(tiny, tiny_tfds):
    with pytest.raises(ValueError, match=f"tools.fetch cifar10 --out={tiny_tfds} downloads it"):
        tiny(dataset="cifar10")


@pytest.mark.parametrize("dataset", ["tiny:2.0.0", "tiny/large", "huggingface:tiny", "a b/../c"])
def test_another_version_or_config_is_not_there_either(tiny, dataset):
    with pytest.raises(ValueError, match=f"dataset='{dataset}': not prepared.*known: tiny"):
        tiny(dataset=dataset)


def test_a_data_set_must_be_named(tiny):
    with pytest.raises(ValueError, match=r"known: tiny\. The form is name=tfds:NAME"):
        tiny(dataset="")


def test_a_folder_that_is_not_there_holds_no_data_sets(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"not prepared in .*nowhere.*known: none.*tfds build"):
        tiny(data_dir=str(tmp_path / "nowhere"))


def test_another_file_format_is_refused_with_what_to_do(tiny, copied):
    """TFRecord, the default of TFDS, would be read; without an index that is too slow."""
    info = copied / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(ValueError, match=r"as tfrecord.*tfds build tiny --file_format=arr"):
        tiny(data_dir=str(copied.parents[1]))


@pytest.mark.parametrize("shard", [0, 1])
def test_a_damaged_file_is_named(tiny, copied, shard):
    """The message would not name the damaged file where a batch spans several files."""
    name = f"tiny-train.array_record-0000{shard}-of-00002"
    content = bytearray((copied / name).read_bytes())
    written = [i for i, byte in enumerate(content) if byte and 500 < i < 60_000]
    middle = written[len(written) // 2]
    for i in range(middle, middle + 16):
        content[i] ^= 0xFF
    (copied / name).write_bytes(content)
    data = tiny(data_dir=str(copied.parents[1]))
    with pytest.raises(ConfigError, match=f"{name}.*damaged.*prepare the data set again"):
        data[np.arange(40)]


@pytest.mark.parametrize("content", [None, b"", b"too short"])
def test_a_file_that_is_cut_or_lost_is_named(tiny, copied, content):
    file = copied / "tiny-train.array_record-00000-of-00002"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{file.name}.*prepare the data set again"):
        tiny(data_dir=str(copied.parents[1]))[np.arange(3)]


def test_tensorflow_is_not_needed(tiny_tfds):
    """TensorFlow would be needed, which is large and lacks wheels for some Pythons."""
    code = f"""
import sys
import numpy as np
from diffjax.data import tfds
assert len(tfds("train", dataset="tiny", data_dir={str(tiny_tfds)!r})[np.arange(40)]["x"]) == 40
assert "tensorflow" not in sys.modules
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="module")
def cifar():
    if not (CIFAR / "cifar10").is_dir():
        pytest.skip(f"needs CIFAR-10, prepared in {CIFAR}")
    return lambda split: tfds(split, dataset="cifar10", data_dir=str(CIFAR))


@pytest.mark.parametrize(("split", "size"), [("train", 50_000), ("test", 10_000)])
def test_cifar10_is_as_known(cifar, split, size):
    data = cifar(split)
    assert (len(data), data.shape, data.classes) == (size, (32, 32, 3), 10)
    some = load(data, np.random.default_rng(0).permutation(size)[:2000])
    share = np.bincount(some.label, minlength=10) / 2000
    assert 0.07 < share.min() <= share.max() < 0.13
    assert len({x.tobytes() for x in some.x}) > 1990


def test_cifar10_is_what_the_files_hold(cifar):
    """Images would differ from those that Pillow decodes from the bytes of a record."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource
    from tensorflow_datasets.core.features import FeaturesDict

    folder = next((CIFAR / "cifar10").iterdir())
    features = FeaturesDict.from_config(str(folder))
    records = ArrayRecordDataSource([str(p) for p in sorted(folder.glob("*-test*"))])
    index = np.array([0, 17, 9999])
    items = cifar("test")[index]
    for record, x, label in zip(
        records.__getitems__(index.tolist()), items["x"], items["label"], strict=True
    ):
        start = min(k for k in (record.find(b"\xff\xd8\xff"), record.find(b"\x89PNG")) if k >= 0)
        image = Image.open(io.BytesIO(record[start:])).convert("RGB")
        np.testing.assert_array_equal(np.asarray(image), x)
        assert features.deserialize_example_np(record)["label"] == label


def test_only_a_class_of_each_image_is_read_as_its_label(capsys):
    """Several labels, numbers or texts would end in a traceback, even if unused."""
    import tensorflow_datasets as known

    one = known.features.ClassLabel(num_classes=3)
    others = {"Scalar": known.features.Scalar(np.int64), "Text": known.features.Text()}
    others["Tensor"] = known.features.Tensor(shape=(2,), dtype=np.int64)
    others["Sequence of ClassLabel"] = known.features.Sequence(one)
    others["FeaturesDict"] = known.features.FeaturesDict({"a": one})
    assert tfds_source._class_label({"label": one, "kind": one}, "kind", "train") == "kind"
    assert tfds_source._class_label({"label": one}, "", "train") == ""
    for kind, feature in others.items():
        assert tfds_source._class_label({"label": feature}, "label", "train") == ""
        assert f"label='label': is {kind}; needs ClassLabel" in capsys.readouterr().err
        with pytest.raises(ValueError, match=f"label='of': is {kind}; needs ClassLabel"):
            tfds_source._class_label({"of": feature}, "of", "train")


def test_features_that_are_not_asked_for_are_not_decoded(tiny, copied, tiny_items, capsys):
    """A label of another kind would be read although no label is requested."""
    file = copied / "features.json"
    declared = json.loads(file.read_text())
    text = {"text": {}, "pythonClassName": "tensorflow_datasets.core.features.text_feature.Text"}
    declared["featuresDict"]["features"]["label"] = text  # and the records hold numbers
    file.write_text(json.dumps(declared))
    for settings in ({"label": ""}, {}):
        data = tiny(data_dir=str(copied.parents[1]), **settings)
        assert data.classes == 0
        np.testing.assert_array_equal(load(data).x, tiny_items["train"][0])
    assert "label='label': is Text; needs ClassLabel" in capsys.readouterr().err
