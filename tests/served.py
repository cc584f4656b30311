"""A real server on a port of this machine, in a thread of its own, and a client of it."""

import base64
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import numpy as np
import uvicorn
from PIL import Image

from diffjax.serve import LOOPBACK
from diffjax.serve.app import application
from diffjax.serve.limits import Limits
from diffjax.serve.service import Service

NETWORK = "network={'name': 'dit', 'width': 8, 'depth': 1, 'heads': 2}"
"""A network of labelled 8x8 digits that compiles fast."""


@contextmanager
def served(trained: Any, slots: int = 3, **limits: Any) -> Iterator["Client"]:
    """Yield a client of a server."""
    limits = Limits(hosts=LOOPBACK, **limits)
    app = application(lambda: Service(trained, slots, limits), limits)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    client = Client(server.servers[0].sockets[0].getsockname()[1], app.state.shared)
    client.wait(lambda: client.get("/readyz").status == 200)
    yield client
    server.should_exit = True
    thread.join(60)
    assert not thread.is_alive()


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]["message"]


class Client:
    def __init__(self, port, state):
        self.port, self.state = port, state

    @property
    def engine(self):
        return self.state.service.engine

    def call(self, method, path, body=None, headers=()):
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def get(self, path):
        return self.call("GET", path)

    def post(self, path, body, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        return self.call("POST", path, body, {"Content-Type": "application/json", **headers})

    def samples(self, **body):
        answer = self.post("/v1/samples", body)
        assert answer.status == 200, answer
        return answer.json["samples"]

    def events(self, **body):
        text = self.post("/v1/samples/events", body).body.decode()
        blocks = [
            dict(line.split(": ", 1) for line in b.splitlines() if ": " in line)
            for b in text.split("\n\n")
        ]
        return [(b["event"], json.loads(b["data"])) for b in blocks if "event" in b]

    @staticmethod
    def wait(true, seconds=60):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end
            time.sleep(0.02)


def pixels(answer):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["png"]))))
