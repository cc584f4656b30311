"""Notebooks: how they are run, and what is stored in them.

They run in `make notebooks`, and not here.
"""

import base64
import importlib.util
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "notebooks"
BOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST = 400_000
"""Bytes of a notebook."""
INSTALL = '''from importlib.util import find_spec

if find_spec("diffjax") is None:  # in Colab; where diffjax is installed, this cell does nothing
    import os
    import sys
    from importlib.metadata import version
    from shutil import which

    tpu = os.path.exists("/dev/accel0") or "TPU_ACCELERATOR_TYPE" in os.environ
    extra = "[tpu]" if tpu else "[cuda]" if which("nvidia-smi") else ""
    %pip install -q "diffjax{extra} @ git+https://github.com/diffjax/diffjax"
    loaded = {m: sys.modules[m] for m in ("numpy", "PIL", "matplotlib", "jax") if m in sys.modules}
    known = {m: version("pillow" if m == "PIL" else m) for m in loaded}
    if any(module.__version__ != known[m] for m, module in loaded.items()):
        print("newer versions were installed: Runtime > Restart session, then go on from here")
    !{sys.executable} -c "import jax; print(jax.devices())"'''

every = pytest.mark.parametrize("path", BOOKS, ids=lambda p: p.stem)


@pytest.fixture(scope="module")
def runner():
    """Load experiments/notebooks/run.py as a module."""
    spec = importlib.util.spec_from_file_location("run_notebooks", FOLDER / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def write(path: Path, *cells: str) -> Path:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbformat.write(book, path)
    return path


MEETS = """
import sys, time
from pathlib import Path
Path(r"{here}").touch()
while not Path(r"{other}").exists():
    time.sleep(0.05)
print('seen')
print('noise', file=sys.stderr)
"""


def test_two_run_at_the_same_time_and_one_that_fails_is_named(
    runner, tmp_path, monkeypatch, capsys
):
    """Notebooks would run one after the other, or in one kernel, or the error be lost.

    Each of the two waits for the other. Stored outputs have no stderr, which depends on the
    machine.
    """
    meets = lambda a, b: MEETS.format(here=tmp_path / a, other=tmp_path / b)
    good = write(tmp_path / "good.ipynb", meets("x", "y"))
    write(tmp_path / "bad.ipynb", meets("y", "x"), "a = 1", "a / 0")
    monkeypatch.setattr(runner, "HERE", tmp_path)
    monkeypatch.setattr("sys.argv", ["run.py", "--jobs=2", "--write", "--limit=300"])
    assert runner.main() == 1
    shown = capsys.readouterr()
    assert re.fullmatch(r"good: \d+ s\n", shown.out)
    assert re.match(r"(?s)FAILED bad, cell 3: .*ZeroDivisionError", shown.err)
    (cell,) = code(nbformat.read(good, as_version=4))
    assert [output["name"] for output in cell.outputs] == ["stdout"]
    assert "execution" not in cell.metadata and cell.execution_count == 1


def test_the_longest_start_first_and_the_others_in_their_order(runner, monkeypatch):
    """The longest would start last, and one core wait for it."""
    began: list[str] = []
    monkeypatch.setattr(runner, "run", lambda path, limit: began.append(path.stem) or path)
    monkeypatch.setattr(runner, "ThreadPoolExecutor", lambda jobs: ThreadPoolExecutor(1))
    for jobs, first in ((1, [path.stem for path in BOOKS]), (2, list(runner.LONGEST))):
        began.clear()
        assert {ended.path for ended in runner.several(BOOKS, jobs, 9.0)} == set(BOOKS)
        others = [path.stem for path in BOOKS if path.stem not in first]
        assert began == first + others


def test_what_cannot_be_run_is_refused(runner, monkeypatch, capsys):
    """A typing error would run nothing, and pass."""
    for flag, message in (("--jobs=0", "--jobs=0: needs at least 1"), ("9_none", "known: 1_tour")):
        monkeypatch.setattr("sys.argv", ["run.py", flag])
        with pytest.raises(SystemExit):
            runner.main()
        assert message in capsys.readouterr().err


def test_a_notebook_that_takes_too_long_is_stopped(runner, tmp_path):
    """A notebook that waits for ever would block the machine."""
    path = write(tmp_path / "slow.ipynb", "import time", "time.sleep(60)")
    with pytest.raises(runner.Failed, match="slow, cell 2: the notebook takes more than 5 s"):
        runner.run(path, 5.0)


def test_the_readme_lists_every_notebook():
    """A notebook would be hard to find, or a link lead nowhere."""
    listed = re.findall(r"\| \[(\w+)\]\((\w+)\.ipynb\)", (FOLDER / "README.md").read_text())
    assert [a for a, _ in listed] == [b for _, b in listed] == [path.stem for path in BOOKS]


@every
def test_the_first_cell_is_the_install_line(path):
    """In Colab the second cell would fail, or elsewhere something be installed."""
    book = nbformat.read(path, as_version=4)
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith("# ")
    assert code(book)[0].source == INSTALL and code(book)[0].outputs == []
    assert INSTALL in (FOLDER / "README.md").read_text()


@every
def test_colab_opens_it_with_an_accelerator(path, runner):
    """A click would open another notebook, or a machine without a GPU."""
    book = nbformat.read(path, as_version=4)
    address = re.search(r"\[!\[Open in Colab\]\((\S+)\)\]\((\S+)\)", book.cells[0].source)
    assert address and address[1] == "https://colab.research.google.com/assets/colab-badge.svg"
    place = f"colab.research.google.com/github/diffjax/diffjax/blob/main/{path.relative_to(ROOT)}"
    assert address[2] == f"https://{place}"
    assert book.metadata == runner.METADATA


EXTRAS = {"/dev/accel0": "[tpu]", "nvidia-smi": "[cuda]", "": ""}


@pytest.mark.parametrize("device", EXTRAS)
def test_the_extra_is_that_of_the_machine(device, monkeypatch, capsys):
    """A GPU would stay idle, or packages of two versions be mixed."""
    lines, ran = [], []
    for line in INSTALL.splitlines():
        bare = line.lstrip()
        is_magic = bare.startswith(("%pip ", "!"))  # braces in it are Python, as in f-strings
        lines.append(line.replace(bare, f'ran.append(f"""{bare} """)') if is_magic else line)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("os.path.exists", lambda path: path == device)
    monkeypatch.setattr("shutil.which", lambda name: name if name == device else None)
    monkeypatch.delenv("TPU_ACCELERATOR_TYPE", raising=False)
    exec("\n".join(lines), {"ran": ran})
    install, check = ran
    assert f'"diffjax{EXTRAS[device]} @ git+' in install and "jax.devices()" in check
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(np, "__version__", "1.0")
    exec("\n".join(lines), {"ran": ran})
    assert "Restart session" in capsys.readouterr().out


def test_own_data_trains_by_the_call_that_the_commands_make():
    """A reader would copy a loop that does not resume, log or check."""
    text = "\n".join(c.source for c in code(nbformat.read(FOLDER / "6_own_data.ipynb", 4)))
    assert "diffjax.fit(" in text and "data.conditions" in text and "scan(" not in text


@every
def test_outputs_are_stored_and_small(path):
    """A reader on GitHub would see no results, or the repository would swell."""
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    counts = [cell.execution_count for cell in code(book)]
    assert counts == [*range(1, len(counts) + 1)], "run it with --write"
    assert path.stat().st_size < MOST
    pictures = [
        out.data["image/png"] for out in outputs(book) if "image/png" in out.get("data", {})
    ]
    assert pictures
    for text in pictures:
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L"))
        assert image.shape[1] <= 1600 and image.std() > 5, "a blank picture, or a wide one"


def outputs(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in code(book) for output in cell.outputs]


@every
def test_outputs_are_of_no_machine(path):
    """Paths, warnings and object addresses of the author's machine would be stored."""
    for output in outputs(nbformat.read(path, as_version=4)):
        assert output.get("name") != "stderr", output
        texts = [output.get("text", ""), *output.get("traceback", ())]
        texts += [str(v) for k, v in output.get("data", {}).items() if k.startswith("text/")]
        for text in texts:
            assert not re.search(r"/(home|root|tmp|work|usr)/| at 0x|[Ww]arning", text), text
            assert "\x1b" not in text
