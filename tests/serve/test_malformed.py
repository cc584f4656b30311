"""A thousand malformed requests to a real server: wrong bytes, headers, paths and bodies."""

import json
import random
import socket
import threading
from collections import Counter

import numpy as np
import pytest
from commands import one_device
from redrawn import redrawn
from served import NETWORK, pixels, served

from diffjax import builder, config

REQUESTS = 1000
ALLOWED = {100, 200, 400, 404, 405, 408, 413, 421, 422, 431}
"""Statuses of answers; 5xx would be a mistake of the server."""
VALUES = [None, 0, -1, 1e300, "x", [], {}, [1, 2], True, "NaN", 2**70, "\0", {"a": {"b": 1}}]
FIELDS = ["num", "seed", "label", "cond", "sampler", "steps", "guidance", "image", "every", "x"]
FIELDS += ["prompt", "negative", "mask", "strength", "n", "size", "index"]
PATHS = ["/v1/samples", "/v1/samples/events", "/v1/images/generations"]


@pytest.fixture(scope="module")
def client():
    e = builder.experiment(config.override(config.load("digits_vp"), [NETWORK]))
    with one_device(), served(redrawn(e), body=20_000) as client:
        yield client


def fields(rng):
    """Return a JSON object of wrong values, or of right names with values of another type."""
    names = rng.sample(FIELDS, rng.randrange(0, 4))
    return {"steps": 2} | {name: rng.choice(VALUES) for name in names}


def body(rng):
    """Return a body: random bytes, broken or deep JSON, or fields that do not fit."""
    whole = json.dumps(fields(rng)).encode()
    return rng.choice(
        [
            *[lambda: whole] * 4,
            lambda: rng.randbytes(rng.randrange(60)),
            lambda: whole[: rng.randrange(len(whole))],
            lambda: b"[" * rng.randrange(1, 9000),
            lambda: b'{"steps": ' + b"9" * rng.randrange(1, 6000) + b"}",
            lambda: whole.replace(b'"', b"\xff", 1),
        ]
    )()


def header(rng):
    """Return a header line that is wrong, unexpected, or for another purpose."""
    return rng.choice(
        [
            b"X-Request-Id: " + rng.randbytes(9).replace(b"\n", b"").replace(b"\r", b""),
            b"Host: evil.example",
            b"Content-Type: " + rng.choice([b"text/plain", b"multipart/form-data", b"\xff\xfe"]),
            b"Content-Length: " + rng.choice([b"-1", b"1e9", b"99999999999999999999", b"0", b"x"]),
            b"Transfer-Encoding: " + rng.choice([b"chunked", b"gzip", b"chunked, chunked"]),
            b"Authorization: " + rng.choice([b"Bearer", b"Basic \0", b"Bearer " + b"k" * 9000]),
            b"X-Forwarded-For: 1.2.3.4, ::1",
            b"A" * rng.randrange(1, 70_000) + b": b",
            b": nothing",
            b"no colon",
            b"Expect: 100-continue",
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13",
        ]
    )


def path(rng):
    """Return a path that leads elsewhere, or that of an address."""
    wrong = ["/../../etc/passwd", "/v1/samples/../../x", "/%00", "/%ff%fe", "//evil.example/", "*"]
    wrong += [
        "http://evil.example/v1/samples",
        "/v1/about?" + "a" * 5000,
        "/\u00e9",
        "/v1/samples/",
    ]
    return (
        rng.choice(PATHS) if rng.random() < 0.85 else rng.choice([*wrong, "/metrics", "/v1/about"])
    )


def message(rng):
    """Return the bytes of one malformed request."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(1, 200)) + b"\r\n\r\n"
    method = rng.choice(
        ["POST"] * 30 + ["GET", "PUT", "DELETE", "OPTIONS", "TRACE", "po st", "\x01"]
    )
    version = rng.choice(["HTTP/1.1"] * 40 + ["HTTP/1.0", "HTTP/9.9", "HTTP", ""])
    content = body(rng)
    lines = [f"{method} {path(rng)} {version}".encode(), b"Connection: close"]
    lines += [b"Host: localhost"] if rng.random() < 0.95 else []
    lines += [b"Content-Type: application/json"] if rng.random() < 0.9 else []
    lines += [f"Content-Length: {len(content)}".encode()] if rng.random() < 0.9 else []
    lines += [header(rng)] if rng.random() < 0.3 else []
    whole = b"\r\n".join(lines) + b"\r\n\r\n" + content
    return whole[: rng.randrange(len(whole))] if rng.random() < 0.05 else whole


def answer(port, data):
    """Send bytes and return the status of the answer, 0 where the server waits for more or closes.

    A client that gets nothing for half a second leaves.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(data)
            connection.settimeout(0.5)
            told = connection.recv(65536)
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            return 0
    assert not told or told.startswith(b"HTTP/1.1 "), told[:200]
    return int(told.split(b" ", 2)[1]) if told else 0


def test_a_thousand_malformed_requests_stop_nothing_and_mix_up_no_images(client, caplog):
    """One user's mistake would be the end for all, or show an image to somebody else."""
    asked = [{"seed": k, "label": k, "steps": 2 + k % 3} for k in range(5)]
    alone = [pixels(client.samples(**one)[0]) for one in asked]
    assert len({image.tobytes() for image in alone}) == len(asked)
    ended, seen, wrong = threading.Event(), [], []

    def user():
        count = 0
        while not ended.is_set() or not count:
            k = count % len(asked)
            if not np.array_equal(pixels(client.samples(**asked[k])[0]), alone[k]):
                wrong.append(k)
            count += 1

    def attacker(number):
        rng = random.Random(number)
        for _ in range(REQUESTS // 4):
            seen.append(answer(client.port, message(rng)))

    honest = threading.Thread(target=user)
    others = [threading.Thread(target=attacker, args=(k,)) for k in range(4)]
    for thread in (honest, *others):
        thread.start()
    for thread in others:
        thread.join(300)
    ended.set()
    honest.join(60)
    assert not wrong and not honest.is_alive()
    assert len(seen) == REQUESTS and set(seen) - {0} <= ALLOWED, Counter(seen)
    assert {200, 400, 404, 422} <= set(seen)
    client.wait(lambda: client.engine.stats.running == client.engine.stats.waiting == 0)
    assert client.get("/healthz").status == 200 and not client.engine.broken
    assert client.engine.stats.failed == 0
    assert not [r for r in caplog.records if r.levelname in ("ERROR", "CRITICAL")], caplog.text
