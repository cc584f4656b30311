"""Two small configs compiled for TPUs and GPUs, wherever their compilers are installed."""

import json

import make_fits
import pytest

from diffjax.aot import targets
from experiments.markdown import filled

FITS = json.loads(make_fits.FILE.read_text())


@pytest.mark.thorough
@pytest.mark.parametrize("case", make_fits.CASES)
@pytest.mark.parametrize("target", make_fits.TARGETS)
def test_the_step_needs_what_the_table_says(target, case):
    """A change of a network would communicate more, or not fit where it did."""
    if line := targets.missing(targets.target(target).platform):
        pytest.skip(line)
    if target not in FITS:
        pytest.skip(f"fits.json has no {target}: python tests/aot/make_fits.py {target}")
    found, listed = make_fits.case(case, target).as_json(), FITS[target][case]
    assert found["sizes"]["state"] == pytest.approx(listed["sizes"]["state"], rel=0.05)
    assert found["sizes"]["peak"] == pytest.approx(listed["sizes"]["peak"], rel=0.05)
    most = {kind: total["times"] for kind, total in listed["by_kind"].items()}
    assert {k: v["times"] for k, v in found["by_kind"].items() if v["times"] > most.get(k, 0)} == {}
    assert found["sent"] <= 1.05 * listed["sent"]


@pytest.mark.parametrize("target", FITS)
def test_no_target_sends_much_more_than_its_algorithm_asks_for(target):
    """A pod would spend its time on communication that nobody wants."""
    for case, found in FITS[target].items():
        devices, ring = found["devices"], (found["devices"] - 1) / found["devices"]
        split = devices if case == "dit" else 1
        params = found["sizes"]["state"] * split / 4  # bytes in float32, beside three copies
        # Data: one all-reduce in float32. FSDP: two gathers, and one reduction, in bfloat16.
        ideal = ring * params * (2 if case == "mlp" else 3 / 2)
        # On v4 and v5p XLA reduces the gradients of blocks by all-reduce, not by reduce-scatter.
        most = 1.4 if found["target"].startswith(("tpu:v4", "tpu:v5p")) else 1.2
        assert 0.9 * ideal < found["sent"] < most * ideal
        assert found["estimate"]["seconds"] > 0 and found["left"] > 0


def test_the_document_shows_the_table():
    """The page would contradict fits.json: run python tests/aot/make_fits.py --table."""
    text = make_fits.DOCUMENT.read_text()
    assert filled(text, {"fits": make_fits.rows(FITS)}) == text
