"""What the README says must run as it stands."""

import re
from pathlib import Path

import jax
import pytest

README = Path(__file__).parent.parent / "README.md"


def test_library_example_runs(capsys):
    """A reader would copy the example and see it fail."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert blocks
    for block in blocks:
        scope: dict = {}
        exec(compile(block, str(README), "exec"), scope)
    assert isinstance(scope["x"], jax.Array)
    assert scope["x"].mean() == pytest.approx(0.7, abs=0.05)
    assert "rows, y = eps" in capsys.readouterr().out


def test_files_that_the_documents_link_to_exist():
    """A link would lead nowhere."""
    for document in (README, *(README.parent / "experiments").rglob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
