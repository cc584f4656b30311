"""The cost of `import diffjax`, and the names that it offers."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from documents import blocks, documents, text
from IPython.core.inputtransformer2 import TransformerManager

import diffjax

PROBE = """
import json, sys, time
began = time.process_time()
import diffjax
spent = time.process_time() - began
heavy = {"jax", "flax", "optax", "orbax", "grain", "numpy", "matplotlib", "sklearn"}
print(json.dumps([spent, sorted(heavy & set(sys.modules)), diffjax.__version__]))
diffjax.samplers.ddim
assert "jax" in sys.modules
"""


def test_importing_the_package_loads_nothing_else():
    """`--help`, completion and version queries would wait for jax."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    spent, heavy, version = json.loads(done.stdout)
    assert heavy == []
    assert spent < 0.5
    assert version == diffjax.__version__


@pytest.mark.parametrize("module", ["train", "sample", "evaluate", "serve"])
def test_a_command_reads_its_flags_before_it_loads_jax(module):
    """Every typing error would cost seconds."""
    code = f"import sys, diffjax.{module}; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_loads_no_solver():
    """Every launch and resume would spend a second on an unused import."""
    code = (
        "import sys, diffjax.training.loop; "
        "assert not {'diffrax', 'scipy.optimize', 'scipy.integrate'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "name", [n for n in dir(diffjax) if n not in ("__version__", "cascade", "fit", "load")]
)
def test_every_listed_module_is_there_as_an_attribute(name):
    assert getattr(diffjax, name) is importlib.import_module(f"diffjax.{name}")


@pytest.mark.parametrize(
    ("name", "module"), [("cascade", "cascade"), ("fit", "launch"), ("load", "trained")]
)
def test_networks_are_trained_and_loaded_from_the_package(name, module):
    """Notebooks would have to know in which module the functions are."""
    place = importlib.import_module(f"diffjax.runs.{module}")
    assert getattr(diffjax, name) is getattr(place, name)


def test_functions_are_reached_through_the_package():
    from diffjax.samplers.first_order import ddim

    assert diffjax.samplers.ddim is ddim


def test_an_unknown_attribute_is_refused_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'sampler'.*'samplers'"):
        _ = diffjax.sampler
    assert not hasattr(diffjax, "train_loop")


ROOT = Path(__file__).parent.parent
EXPERIMENTS = ROOT / "experiments"
SCRIPTS = sorted(EXPERIMENTS.rglob("*.py"))
NOTEBOOKS = sorted(EXPERIMENTS.rglob("*.ipynb"))
PAGES = [d for d in documents() if any(b.language == "python" for b in blocks(text(d)))]


def imported(source: str) -> None:
    """Raise where the source imports names from diffjax that do not exist."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diffjax"):
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(EXPERIMENTS)))
def test_what_scripts_of_experiments_import_is_there(script):
    """A renamed function would break a study that nobody runs every day."""
    imported(script.read_text())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_notebooks_import_is_there(path):
    """A renamed function would be noticed only minutes later, when the notebooks run."""
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert cells
    for cell in cells:
        imported(TransformerManager().transform_cell("".join(cell["source"])))  # %pip, !command


@pytest.mark.parametrize("document", PAGES, ids=str)
def test_what_examples_in_documents_import_is_there(document):
    """Blocks of most pages run in `make thorough` only, too late for a renamed function."""
    for block in blocks(text(document)):
        if block.language == "python":
            imported(block.text)
