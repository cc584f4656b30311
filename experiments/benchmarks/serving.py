"""Load on a server over HTTP: the engine, as one group and in small ones, and batches of requests.

    python -m experiments.benchmarks.serving --out=experiments/benchmarks  # ten minutes

A small DiT without training samples 8x8 digits in 20 rows. Three servers answer the same requests
for one sample each, which arrive at random: `batches` computes those that wait, at most eight, when
the batch before has ended, by one program for all rows; the engine has eight slots, in one group
or in groups of four. A load is a share of the throughput of full batches without a server. The last
percentiles of few requests are noisy, so the queues of 4,000 requests are computed too, with the
throughput that was measured and no other cost.

The process uses one core, and its clock is the time of that core, from which idle time is skipped.
So other processes on a machine do not disturb the result, and the load of the clients counts.
Writes serving.json into --out; `tables` makes the tables of the README from it.
"""

import argparse
import functools
import http.client
import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from experiments.markdown import table

SIZE, STEPS, LOADS = 8, 20, (0.3, 0.5, 0.7, 0.9)
NETWORK = "network={'name': 'dit', 'width': 128, 'depth': 4, 'heads': 4, 'patch': 1}"
SERVERS = {
    "batches of 8": {"slots": SIZE},
    "engine, 8 slots": {"slots": SIZE},
    "engine, 8 slots in groups of 4": {"slots": SIZE, "group": SIZE // 2},
}


class Clock:
    """Seconds of the process, and of the idle time that was skipped."""

    skipped = 0.0

    def now(self) -> float:
        return time.process_time() + self.skipped

    def until(self, end: float, idle: Any) -> None:
        """Wait until a time; what is left of it is skipped as soon as `idle()` is true."""
        while (left := end - self.now()) > 0:
            if idle():
                self.skipped += left
                return
            time.sleep(min(max(left, 1e-3), 0.02))  # the core's time is no faster than the clock's


def batched() -> type:
    """Return an engine that computes whole requests in batches, by one program for all rows."""
    import jax.numpy as jnp

    from diffjax.arrays import taken
    from diffjax.generation import Engine, engine
    from diffjax.generation.program import generate

    class Batches(Engine):
        def _compute(self) -> None:
            while True:
                with self._changed:
                    while not (self._waiting or self._closed):
                        self._changed.wait()
                    if not self._waiting:
                        break
                    tickets = [
                        self._waiting.popleft() for _ in range(min(SIZE, len(self._waiting)))
                    ]
                    for ticket in tickets:
                        ticket.entered = engine.time.monotonic()
                self._batch(tickets)
            self._delivered.put(None)

        def _batch(self, tickets: list[Any]) -> None:
            own = [tickets[k % len(tickets)] for k in range(SIZE)]  # one program for all batches
            keys, numbers, conds, *_ = zip(*(ticket.arguments for ticket in own), strict=True)
            rows = {name: np.stack([cond[name] for cond in conds]) for name in conds[0]}
            job = tickets[0].job
            index, cond = jnp.asarray(numbers), taken(rows, SIZE)
            shape = job.form.shape
            found = generate(job.denoise, job.plan, jnp.stack(keys), index, cond, shape=shape)
            for ticket, x in zip(tickets, np.asarray(found.x), strict=False):
                self._count("done")
                ticket.end(ticket.item(x))

    return Batches


@contextmanager
def serving(trained: Any, name: str) -> Iterator[Any]:
    """Yield the port of a server, and its engine."""
    import uvicorn

    from diffjax.serve import app, limits, service

    bounds = limits.Limits(waiting=10_000)
    kept = service.Engine
    if name.startswith("batches"):
        service.Engine = batched()  # pyright: ignore[reportAttributeAccessIssue]
    begin = functools.partial(service.Service, trained, limits=bounds, guided=False)
    whole = app.application(lambda: begin(**SERVERS[name]), bounds)
    server = uvicorn.Server(uvicorn.Config(whole, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    state = whole.state.shared
    while not (server.started and state.service):
        if state.failure:
            raise RuntimeError(state.failure)
        time.sleep(0.1)
    yield server.servers[0].sockets[0].getsockname()[1], state.service.engine
    server.should_exit = True
    thread.join()
    service.Engine = kept


def ask(port: int, seed: int) -> None:
    """Ask for one sample, and wait for it."""
    body = json.dumps({"seed": seed, "steps": STEPS, "label": seed % 10})
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        connection.request("POST", "/v1/samples", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()


def loaded(port: int, engine: Any, clock: Clock, arrivals: np.ndarray) -> dict[str, list[float]]:
    """Return P50 and P99 of the wait for a slot and of the whole request, in seconds."""
    entered, ended, open_ = {}, {}, set()
    submit = engine.submit

    def watched(job: Any, *args: Any, **more: Any) -> Any:
        tickets = submit(job, *args, **more)
        entered.update({ticket.job.seed: ticket for ticket in tickets})
        return tickets

    def one(k: int) -> None:
        ask(port, k)
        ended[k] = clock.now()
        open_.discard(k)

    engine.submit = watched
    began, asked = clock.now(), []
    with ThreadPoolExecutor(256) as pool:
        for k, arrival in enumerate(arrivals + began):
            clock.until(arrival, lambda: not open_)
            open_.add(k)
            asked.append(pool.submit(one, k))
        for future in asked:
            future.result()
    engine.submit = submit
    count = range(len(arrivals))
    waits = [entered[k].entered - began - arrivals[k] for k in count]
    whole = [ended[k] - began - arrivals[k] for k in count]
    return quantiles(waits, whole)


def queued(arrivals: np.ndarray, slots: int, group: int, row: float) -> dict[str, list[float]]:
    """Return what `loaded` returns, of slots in groups without other costs than rows.

    row: the seconds of a row of a group. Requests enter the fullest group between two rows.
    """
    count, coming, time_now = len(arrivals), 0, 0.0
    left = np.zeros((slots // group, group), int)
    holder = np.zeros_like(left)
    entered, ended, waiting = np.zeros(count), np.zeros(count), deque()
    while coming < count or waiting or left.any():
        if not (waiting or left.any()):
            time_now = max(time_now, arrivals[coming])
        while coming < count and arrivals[coming] <= time_now:
            waiting.append(coming)
            coming += 1
        for each in np.argsort(-(left > 0).sum(1), kind="stable"):
            for place in np.flatnonzero(left[each] == 0)[: len(waiting)]:
                k = waiting.popleft()
                entered[k], left[each, place], holder[each, place] = time_now, STEPS, k
        busy = left.any(1)
        time_now += row * busy.sum()
        ended[holder[left == 1]] = time_now
        left = np.maximum(left - 1, 0)
    return quantiles(entered - arrivals, ended - arrivals)


def queued_batches(arrivals: np.ndarray, seconds: float) -> dict[str, list[float]]:
    """Return what `loaded` returns, of batches of `seconds` each."""
    begun, coming, time_now = np.zeros(len(arrivals)), 0, 0.0
    while coming < len(arrivals):
        time_now = max(time_now, arrivals[coming])
        stop = min(int(np.searchsorted(arrivals, time_now, "right")), coming + SIZE)
        begun[coming:stop] = time_now
        coming, time_now = stop, time_now + seconds
    return quantiles(begun - arrivals, begun + seconds - arrivals)


def quantiles(waits: Any, whole: Any) -> dict[str, list[float]]:
    """Return P50 and P99 of waits and of whole requests."""
    of = lambda values: np.percentile(values, [50, 99]).round(4).tolist()
    return {"wait": of(waits), "latency": of(whole)}


def throughput(port: int, clock: Clock, num: int) -> float:
    """Return the samples per second where 3 x 8 clients ask again at once."""
    with ThreadPoolExecutor(3 * SIZE) as pool:
        list(pool.map(functools.partial(ask, port), range(2 * SIZE)))
        began = clock.now()
        list(pool.map(functools.partial(ask, port), range(num)))
        return num / (clock.now() - began)


def bare(trained: Any, clock: Clock) -> float:
    """Return the samples per second of full batches without a server, a median of five."""
    from diffjax.generation import Generation

    job = trained.job(steps=STEPS, label=0)
    cond = {k: np.resize(v, (SIZE, *v.shape[1:])) for k, v in job.cond.items()}
    more = {"seed": 0, "num": SIZE, "shape": job.form.shape, "cond": cond, "batch_size": SIZE}
    batch, rates = Generation(job.denoise, job.plan, **more), []
    for _ in range(6):
        began = clock.now()
        list(batch)
        rates.append(SIZE / (clock.now() - began))
    return float(np.median(rates[1:]))


def measured(requests: int, network: str = NETWORK) -> dict[str, Any]:
    """Return the results of all servers."""
    from diffjax import builder, config
    from diffjax.generation import engine
    from diffjax.runs.trained import Trained

    clock = Clock()
    engine.time = SimpleNamespace(monotonic=clock.now)  # pyright: ignore
    e = builder.experiment(config.override(config.load("digits_vp"), [network]))
    trained = Trained(e.denoiser(e.parameters()), e)
    capacity = bare(trained, clock)
    print(f"full batches: {capacity:.1f} samples/s of the core", flush=True)
    gaps = np.random.default_rng(0).exponential(1, requests)
    found: dict[str, Any] = {"capacity": round(capacity, 2), "requests": requests, "servers": {}}
    for name in SERVERS:
        with serving(trained, name) as (port, of):
            rate = throughput(port, clock, requests // 2)
            print(f"{name}: {rate:.1f} samples/s", flush=True)
            rows = {}
            for load in LOADS:
                arrivals = np.cumsum(gaps / (load * capacity))
                rows[str(load)] = loaded(port, of, clock, arrivals)
                print(f"  load {load}: {rows[str(load)]}", flush=True)
            found["servers"][name] = {"throughput": round(rate, 2), "loads": rows}
    return found | {"queues": queues(found)}


def queues(found: dict[str, Any], count: int = 4000) -> dict[str, Any]:
    """Return P50 and P99 of long queues, by load and server, from the measured throughput."""
    gaps, by_load = np.random.default_rng(1).exponential(1, count), {}
    for load in LOADS:
        arrivals, rows = np.cumsum(gaps / (load * found["capacity"])), {}
        for name, of in SERVERS.items():
            rate = found["servers"][name]["throughput"]
            group = of.get("group", of["slots"])
            engine = functools.partial(queued, arrivals, of["slots"], group)
            batches = name.startswith("batches")
            rows[name] = (
                queued_batches(arrivals, SIZE / rate) if batches else engine(group / (STEPS * rate))
            )
        by_load[str(load)] = rows
    return by_load


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README, by name."""
    found = json.loads((folder / "serving.json").read_text())
    servers, cells = found["servers"], lambda pair: f"{pair[0]:.3f}, {pair[1]:.3f}"
    first = next(iter(servers))
    rates = [
        [name, f"{each['throughput']:.1f}", f"{each['throughput'] / found['capacity']:.2f}"]
        for name, each in servers.items()
    ]
    made = {"serving-throughput": table(["server", "samples/s", "of full batches"], rates)}
    heads = ["load", "server", "wait, P50 and P99, s", "ratio of P99", "latency, P50 and P99, s"]
    measured = {
        load: {name: each["loads"][load] for name, each in servers.items()}
        for load in found["queues"]
    }
    for title, by_load in {"serving": measured, "serving-queues": found["queues"]}.items():
        rows = []
        for load, each in by_load.items():
            for name, of in each.items():
                than = of["wait"][1] / each[first]["wait"][1]
                rows.append([load, name, cells(of["wait"]), f"{than:.2f}", cells(of["latency"])])
        made[title] = table(heads, rows)
    return made


def main() -> None:
    """Measure, print the tables, and write the file."""
    flags = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    flags.add_argument("--requests", type=int, default=300, help="of each server and load")
    flags.add_argument("--network", default=NETWORK, help="an override of the config")
    flags.add_argument("--out", type=Path, help="a folder for serving.json")
    asked = flags.parse_args()
    found = measured(asked.requests, asked.network)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "serving.json").write_text(json.dumps(found, indent=1) + "\n")
        print("\n\n".join(tables(asked.out).values()))


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX makes its threads
    main()
