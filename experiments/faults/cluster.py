"""A Ray cluster of two workers, one of which is killed: nothing is lost, and nothing comes twice.

    python -m experiments.faults.cluster --out=experiments/faults/cluster.json

Two nodes of Ray on this machine sample an untrained network of 8x8 digits, first a data set of
numbers by `Sampler`, then requests over HTTP by `service`. In both parts a worker is killed with
SIGKILL while it computes. The script compares all samples with those of an engine in this process,
and exits with 1 where one is missing, twice or different.
"""

import argparse
import base64
import io
import json
import os
import signal
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import ray
from PIL import Image
from ray import serve
from ray.cluster_utils import Cluster

from diffjax import builder, config
from diffjax.generation import Engine
from diffjax.runs.trained import Trained
from diffjax.serve.ray import Sampler, service

NETWORK = "network={'name': 'dit', 'width': 16, 'depth': 2, 'heads': 2}"
SLOTS, STEPS, NUM, BATCH, REQUESTS, PORT = 4, 40, 96, 8, 60, 8899


class Watched(Sampler):
    """A `Sampler` that notes which process computes which numbers."""

    def __init__(self, notes: str, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.notes = Path(notes)

    def __call__(self, batch: Any) -> Any:
        (self.notes / f"{os.getpid()}_{batch['id'][0]}").touch()
        return super().__call__(batch)


def export(folder: Path) -> Trained:
    """Write a network with random parameters, and return it."""
    e = builder.experiment(config.override(config.load("digits_vp"), [NETWORK]))
    rng = np.random.default_rng(0)
    draw = lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype)
    params = jax.tree.map(draw, jax.eval_shape(e.parameters))
    trained = Trained(e.denoiser(params), e)
    trained.save(folder)
    return trained


def batches(folder: Path, notes: Path) -> tuple[dict[int, np.ndarray], dict[str, int]]:
    """Return the samples of a data set by number, while one of two workers is killed."""
    notes.mkdir()

    over = threading.Event()

    def kill() -> None:
        while len(busy := Counter(p.name.split("_")[0] for p in notes.iterdir())) < 2:
            if over.wait(0.01):
                return
        os.kill(int(next(iter(busy))), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    numbers = ray.data.range(NUM, override_num_blocks=NUM // BATCH)
    arguments = {"fn_constructor_args": (str(notes), str(folder))}
    arguments |= {"fn_constructor_kwargs": {"slots": SLOTS, "steps": STEPS}}
    found = numbers.map_batches(Watched, batch_size=BATCH, concurrency=2, **arguments).take_all()
    over.set()
    killer.join()
    began, pids = Counter(), set()
    for note in notes.iterdir():
        pid, first = note.name.split("_")
        pids.add(pid)
        began[first] += 1
    rows = Counter(int(row["id"]) for row in found)
    facts = {
        "numbers": NUM,
        "missing": NUM - len(rows),
        "twice": sum(count > 1 for count in rows.values()),
        "workers": len(pids),
        "batches begun again": sum(count > 1 for count in began.values()),
    }
    return {int(row["id"]): np.asarray(row["x"]) for row in found}, facts


def ask(seed: int) -> tuple[np.ndarray, int]:
    """Ask until an answer comes; return its image, and how many attempts failed."""
    body = json.dumps({"seed": seed, "steps": STEPS, "label": 0}).encode()
    for failed in range(600):
        request = urllib.request.Request(
            f"http://127.0.0.1:{PORT}/v1/samples", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                png = json.load(answer)["samples"][0]["png"]
            return np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))), failed
        except (OSError, urllib.error.HTTPError):
            time.sleep(0.5)
    raise TimeoutError(f"seed {seed}: no answer")


def requests(folder: Path) -> tuple[dict[int, np.ndarray], dict[str, int]]:
    """Return the images of requests by seed, while one of two replicas is killed."""
    serve.start(http_options={"port": PORT})
    serve.run(service({"workdir": str(folder), "replicas": 2, "slots": SLOTS, "guided": 0}))

    def replicas() -> list[int]:
        own = psutil.Process().children(recursive=True)
        titles = {child.pid: " ".join(child.cmdline()) for child in own if child.is_running()}
        return [pid for pid, title in titles.items() if title.startswith("ray::ServeReplica")]

    before, found = replicas(), {}
    with ThreadPoolExecutor(6) as pool:
        for k, future in enumerate([pool.submit(ask, seed) for seed in range(REQUESTS)]):
            if k == REQUESTS // 4:
                os.kill(before[0], signal.SIGKILL)
            found[k] = future.result()
    facts = {
        "requests": REQUESTS,
        "replicas": len(before),
        "missing": REQUESTS - len(found),
        "requests that failed and were sent again": sum(failed > 0 for _, failed in found.values()),
    }
    return {seed: image for seed, (image, _) in found.items()}, facts


def main() -> None:
    """Run both parts, compare and print."""
    flags = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    flags.add_argument("--out", type=Path, help="a .json file")
    asked = flags.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "export"
        trained = export(folder)
        with Engine(trained.job(), slots=SLOTS) as engine:
            by_number = engine.submit(trained.job(index=[*range(NUM)], steps=STEPS))
            by_seed = engine.submit(
                trained.job(seed=[*range(REQUESTS)], steps=STEPS, label=0), REQUESTS
            )
            numbered = [ticket.result() for ticket in by_number]
            seeded = [ticket.result() for ticket in by_seed]
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
        )
        cluster.add_node(num_cpus=2)
        ray.init(cluster.address, log_to_driver=False)
        found, of_data = batches(folder, Path(place) / "notes")
        of_data["different bits"] = sum(not np.array_equal(found[k], numbered[k]) for k in found)
        print(of_data, flush=True)
        found, of_service = requests(folder)
        of_service["different bits"] = sum(
            not np.array_equal(found[k], seeded[k][..., 0]) for k in found
        )
        print(of_service, flush=True)
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()
    if asked.out:
        facts = {"data": of_data, "service": of_service, "ray": ray.__version__}
        asked.out.write_text(json.dumps(facts, indent=1) + "\n")
    lost = [part[name] for part in (of_data, of_service) for name in ("missing", "different bits")]
    raise SystemExit(any(lost) or of_data["twice"])


if __name__ == "__main__":
    main()
