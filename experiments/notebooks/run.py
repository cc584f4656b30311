"""Run notebooks from their first cell to the last, each in a kernel and a folder of its own.

    python experiments/notebooks/run.py                    # all of them
    python experiments/notebooks/run.py 1_tour --write     # one, and store what came out
    python experiments/notebooks/run.py --jobs=2           # all of them, two at the same time

Prints the seconds of each as it ends. Nothing is written here without --write, and nothing is
installed. Ends with 1 and the notebook, the cell and the error where a cell fails, or where a
notebook takes longer than --limit. What is stored has no stderr (progress, warnings of the machine)
and no times.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LONGEST = ("5_evaluation", "6_own_data", "4_devices", "7_published", "2_images")
"""Notebooks that take longest: where several run at the same time, they start first, as here."""
METADATA = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": []},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
}
"""What a notebook says of itself; Colab offers the accelerator that is named."""


class Failed(Exception):
    """A notebook that does not run; the message names it, the cell and the error."""


def run(path: Path, limit: float) -> nbformat.NotebookNode:
    """The notebook with its outputs. Raises Failed."""
    book = nbformat.read(path, as_version=4)
    env = os.environ | {"PYTHONPATH": str(ROOT)}  # the diffjax of this checkout
    with tempfile.TemporaryDirectory() as folder:
        client = Client(book, limit, resources={"metadata": {"path": folder}})
        try:
            asyncio.run(client.async_execute(env=env))  # a loop of each thread, closed at its end
        except (CellExecutionError, CellTimeoutError, RuntimeError) as error:
            raise Failed(f"{path.stem}, cell {client.at + 1}: {told(error, limit)}") from None
    return book


class Client(NotebookClient):
    """Knows the cell it is at. Each may take what the notebook has left, from its first cell on."""

    def __init__(self, book: nbformat.NotebookNode, limit: float, **settings: Any):
        quiet = ["--IPKernelApp.log_level=ERROR"]
        own = {"kernel_name": "python3", "extra_arguments": quiet, "coalesce_streams": True}
        super().__init__(book, **own, **settings)
        self.at, self._limit, self._end = 0, limit, 0.0
        self.timeout_func = lambda cell: max(1, int(self._end - time.monotonic()))

    async def async_execute_cell(self, cell: Any, cell_index: int, **settings: Any) -> Any:
        self.at, self._end = cell_index, self._end or time.monotonic() + self._limit
        return await super().async_execute_cell(cell, cell_index, **settings)


def told(error: Exception, limit: float) -> str:
    """Why it ended."""
    if isinstance(error, CellTimeoutError):
        return f"the notebook takes more than {limit:g} s"
    return str(error).strip()  # of a cell with its traceback; or how the kernel died


def stored(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what differs from machine to machine and from run to run."""
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            keep = lambda output: output.get("name") != "stderr"
            cell.outputs = [output for output in cell.outputs if keep(output)]
    book.metadata = METADATA
    return book


class Ended(NamedTuple):
    """A run of a notebook: the notebook with its outputs, or why there is none, and its seconds."""

    path: Path
    outcome: nbformat.NotebookNode | Failed
    seconds: float


def attempt(path: Path, limit: float) -> Ended:
    began = time.monotonic()
    try:
        outcome = run(path, limit)
    except Failed as failed:
        outcome = failed
    return Ended(path, outcome, time.monotonic() - began)


def several(paths: Sequence[Path], jobs: int, limit: float) -> Iterator[Ended]:
    """Run `jobs` notebooks at a time, each in a kernel of its own; yields each as it ends."""
    if jobs > 1:
        place = {name: i for i, name in enumerate(LONGEST)}
        paths = sorted(paths, key=lambda path: place.get(path.stem, len(place)))
    with ThreadPoolExecutor(jobs) as pool:
        runs = [pool.submit(attempt, path, limit) for path in paths]
        try:
            yield from (ended.result() for ended in as_completed(runs))
        except KeyboardInterrupt:
            os._exit(130)  # a kernel ends with the process that started it


def main() -> int:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("names", nargs="*", metavar="NAME", help="as 1_tour; all of them by default")
    flags.add_argument("--write", action="store_true", help="store what came out")
    flags.add_argument("--limit", type=float, default=180.0, help="seconds of a notebook (180)")
    flags.add_argument("--jobs", type=int, default=1, help="notebooks at the same time (1)")
    given = flags.parse_args()
    if given.jobs < 1:
        flags.error(f"--jobs={given.jobs}: needs at least 1")
    paths = [HERE / f"{Path(name).stem}.ipynb" for name in given.names]
    paths = paths or sorted(HERE.glob("*.ipynb"))
    if missing := [path.stem for path in paths if not path.exists()]:
        known = ", ".join(sorted(path.stem for path in HERE.glob("*.ipynb")))
        flags.error(f"{missing[0]}: no such notebook; known: {known}")
    failures = 0
    for path, outcome, seconds in several(paths, given.jobs, given.limit):
        if isinstance(outcome, Failed):
            print(f"FAILED {outcome}", file=sys.stderr, flush=True)
            failures += 1
            continue
        print(f"{path.stem}: {seconds:.0f} s", flush=True)
        if given.write:
            nbformat.write(stored(outcome), path)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
