"""The server over HTTP: a real one on a port of this machine, in a thread of its own."""

import base64
import http.client
import io
import json
import random
import socket
import struct
import threading
import time
from zlib import crc32

import jax
import numpy as np
import pytest
from codecs_of_tests import SHAPE
from commands import one_device
from PIL import Image
from redrawn import redrawn
from served import NETWORK, pixels, served

from diffjax import builder, config
from diffjax.data.form import Form
from diffjax.runs.editing import masked
from diffjax.runs.trained import Trained
from diffjax.serve import previews
from diffjax.serve.limits import Limits
from diffjax.serve.service import Service, image


@pytest.fixture(scope="module", autouse=True)
def one():
    with one_device():
        yield


@pytest.fixture(scope="module")
def trained():
    """Return a network of labelled 8x8 digits whose output is not 0."""
    e = builder.experiment(config.override(config.load("digits_vp"), [NETWORK]))
    return redrawn(e)


@pytest.fixture(scope="module")
def client(trained):
    with served(trained, body=10_000) as client:
        yield client


def test_samples_are_those_of_the_job(trained, client):
    """A demo would show other images than the command."""
    told = client.samples(seed=5, num=4, steps=6, label=7, sampler="heun", guidance=2.0)
    job = trained.job(seed=5, index=[0, 1, 2, 3], label=7, steps=6, sampler="heun", weight=2.0)
    assert np.array_equal([pixels(a) for a in told], job.samples(4).x[..., 0])
    assert [(a["seed"], a["number"], a["label"], a["rows"], a["passes"]) for a in told] == [
        (5, k, 7, 11, 22) for k in range(4)
    ]
    text = Image.open(io.BytesIO(base64.b64decode(told[2]["png"]))).text
    assert text["seed"] == "5" and text["number"] == "2" and text["software"].startswith("diffjax")
    (later,) = client.samples(seed=5, index=2, steps=6, label=7, sampler="heun", guidance=2.0)
    assert np.array_equal(pixels(later), pixels(told[2]))
    default = trained.job(seed=3, index=[0, 1]).samples(2).x[..., 0]
    assert np.array_equal([pixels(a) for a in client.samples(seed=3, num=2)], default)


def test_samples_start_from_an_uploaded_image(trained, client):
    """An upload would be cut, or read in another range."""
    x = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    (told,) = client.samples(seed=1, image=encoded(x), strength=0.5, steps=6, label=2)
    job = trained.job(seed=1, start=x[None, ..., None], strength=0.5, steps=6, label=2)
    assert np.array_equal(pixels(told), job.samples(1).x[0, ..., 0])


def encoded(x, form="png"):
    """Return an image as a page uploads it."""
    out = io.BytesIO()
    Image.fromarray(x).save(out, form, lossless=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def test_a_mask_that_is_scaled_leaves_no_traces_of_white():
    """Pixels that a user has not painted would change."""
    mask = np.zeros((512, 512), np.uint8)
    mask[:, 256:] = 255
    (small,), size = image("mask", encoded(mask), (8, 8, 1), Image.Resampling.BOX)
    assert size == (512, 512) and set(small[:, :4].ravel()) == {0}
    assert set(small[:, 4:].ravel()) == {255}


def test_a_mask_keeps_the_rest_of_an_upload(trained, client):
    """Inpainting would change what the user wants to keep."""
    x, mask = np.random.default_rng(0).integers(0, 256, (2, 8, 8), np.uint8)
    mask[:4], mask[4:] = 0, 255
    body = {"seed": 1, "image": encoded(x, "webp"), "steps": 6, "label": 2}
    (told,) = client.samples(**body, mask=encoded(mask))
    (soft,) = client.samples(**body, mask=encoded(mask), strength=0.5)
    assert np.array_equal(pixels(told)[:4], x[:4]) and np.array_equal(pixels(soft)[:4], x[:4])
    assert (pixels(told)[4:] != x[4:]).mean() > 0.9
    assert not np.array_equal(pixels(told), pixels(soft))
    job = trained.job(seed=1, start=x[None, ..., None], strength=1.0, steps=6, label=2)
    found = masked(job, mask[None, ..., None] / np.float32(255)).samples(1).x[0, ..., 0]
    assert np.array_equal(pixels(told), found)
    kept = client.post("/v1/samples", body | {"mask": encoded(0 * mask)})
    assert (kept.status, kept.error) == (422, "mask: keeps the whole image; needs values above 0")


def test_openai_clients_get_images(client):
    """Programs for that interface would not run."""
    body = {"prompt": "3", "n": 2, "size": "8x8", "seed": 4, "steps": 3, "model": "any"}
    told = client.post("/v1/images/generations", body).json
    ours = client.samples(seed=4, num=2, steps=3, label=3)
    as_answers = [{"png": a["b64_json"]} for a in told["data"]]
    assert np.array_equal([*map(pixels, as_answers)], [*map(pixels, ours)])
    assert abs(told["created"] - time.time()) < 60


def test_events_count_rows_show_previews_and_end_with_the_samples(client):
    """A page would show no progress."""
    events = client.events(seed=2, num=2, steps=4, every=2)
    assert events[0][0] == "begin" and events[-1] == ("end", {})
    for place in (0, 1):
        rows = [d for name, d in events if name == "row" and d["place"] == place]
        assert [(d["row"], "png" in d) for d in rows] == [
            (1, False),
            (2, True),
            (3, False),
            (4, True),
        ]
    found = {d["place"]: pixels(d) for name, d in events if name == "sample"}
    alone = client.samples(seed=2, num=2, steps=4)
    assert np.array_equal([found[0], found[1]], [*map(pixels, alone)])


def header(width, height):
    """Return the first bytes of a PNG, which state its size."""
    ends = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b"IDAT": b""}
    chunks = [
        struct.pack(">I", len(x)) + name + x + struct.pack(">I", crc32(name + x))
        for name, x in ends.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


BAD = [
    *(
        ({"image": base64.b64encode(header(n, n)).decode()}, "image: needs at most 16777216 pixels")
        for n in (5000, 60_000)
    ),
    (b"", 422),
    (b"[", 422),
    (b"NaN", 422),
    (b'"x"', 422),
    (b"{}" * 9, 422),
    (b"\xff\xfe", 422),
    ({"steps": 0}, "steps: "),
    ({"steps": 10**9}, "steps=1000000000: needs at most 1000"),
    ({"num": 65}, "num=65: needs at most 64"),
    ({"num": 1.5}, "num: "),
    ({"seed": -1}, "seed: "),
    ({"seed": 2**32}, "seed: "),
    ({"index": 2**31}, "index: "),
    ({"guidance": "1e999"}, "guidance: "),
    ({"sampler": "os:system"}, "sampler: 'os:system' is unknown; known: ab_angle"),
    ({"sampler": "adaptive"}, "sampler: 'adaptive' is unknown"),
    ({"sampler": "ancestral_learned"}, "needs a network with a second output"),
    ({"label": "cow"}, "label=cow: no such class; known: 0 to 9"),
    ({"label": [1]}, "label: "),
    ({"label": True}, "label: "),
    ({"seed": "7"}, "seed: "),
    (b'{"cond": {"label": NaN}}', 422),
    ({"label": 10}, "label=10: no such class"),
    ({"cond": {"label": "/etc/passwd"}}, "cond.label: "),
    ({"cond": {"depth": 1}}, "cond=depth: the network has no such condition; known: label"),
    ({"image": "/etc/passwd"}, "image: holds no PNG, JPEG or WebP"),
    ({"foo": 1}, "foo: Extra inputs"),
    ({"image": base64.b64encode(b"GIF89a" + bytes(30)).decode()}, "image: holds no PNG"),
    ({"mask": "AAAA"}, "mask: applies to image, which is missing"),
    ({"negative": "cat", "guidance": 2.0}, "negative: the network was trained without captions"),
    ({"strength": 0.5}, "strength=0.5: applies to image, which is missing"),
    ({"strength": 2}, "strength: "),
    ({"guidance": 5000}, "guidance: "),
    ({"every": -1}, "every: "),
]


@pytest.mark.parametrize(("body", "message"), BAD)
def test_requests_that_cannot_be_computed_are_refused_in_one_line(client, body, message):
    """A typing error would be ignored, or stop the server for all."""
    for path in ("/v1/samples", "/v1/samples/events"):
        answer = client.post(path, body)
        told = answer.json["error"]
        assert (answer.status, told["type"]) == (422, "invalid")
        assert "\n" not in told["message"]
        if isinstance(message, str):
            assert told["message"].startswith(message) or message in told["message"]


def test_sizes_names_and_addresses_are_checked(client):
    """A client would fill the memory, or write into the answer's headers."""
    answer = client.post("/v1/samples", {"image": "A" * 20_000})
    assert (answer.status, answer.json["error"]["type"]) == (413, "size")
    chunks = (b"x" * 1000 for _ in range(20))
    answer = client.call("POST", "/v1/samples", chunks, {"Content-Type": "application/json"})
    assert (answer.status, answer.json["error"]["type"]) == (413, "size")
    answer = client.post("/v1/images/generations", {"prompt": "3", "size": "512x512"})
    assert answer.error == "size=512x512: needs 8x8"
    for path, status, kind in (("/v1/nothing", 404, "address"), ("/v1/samples", 405, "method")):
        answer = client.get(path)
        assert (answer.status, answer.json["error"]["type"]) == (status, kind)
    deep = client.post("/v1/samples", b"[" * 9000)
    assert (deep.status, deep.json["error"]["type"]) == (400, "malformed")
    plain = client.call("POST", "/v1/samples", b"{}", {"Content-Type": "text/plain"})
    assert plain.error.endswith("with the header Content-Type: application/json")
    named = client.call("GET", "/healthz", headers={"X-Request-Id": "abc-1"})
    other = client.call("GET", "/healthz", headers={"X-Request-Id": "a b<script>"})
    assert named.headers["X-Request-Id"] == "abc-1"
    assert len(other.headers["X-Request-Id"]) == 32
    page = client.get("/")
    for host, status in (("evil.example", 421), ("LocalHost:80", 200)):
        assert client.call("GET", "/healthz", headers={"Host": host}).status == status
    assert "connect-src 'self'" in page.headers["Content-Security-Policy"]
    assert b"/v1/samples/events" in client.get("/openapi.json").body


def test_a_client_that_leaves_frees_its_slot(client):
    """The device would compute for nobody."""
    connection = http.client.HTTPConnection("127.0.0.1", client.port)
    body = json.dumps({"steps": 1000, "num": 6, "sampler": "heun"}).encode()
    for path in ("/v1/samples/events", "/v1/samples"):
        before = client.engine.stats.cancelled
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        client.wait(lambda: client.engine.stats.running == 3)
        connection.close()
        client.wait(lambda before=before: client.engine.stats.cancelled == before + 6)
        assert client.engine.stats.running == client.engine.stats.waiting == 0


def test_many_users_get_their_own_images(client):
    """An image would reach another user."""
    asked = [
        {"seed": k, "label": k % 10, "steps": 3 + k % 4, "guidance": 1 + k % 2} for k in range(8)
    ]
    alone = [pixels(client.samples(**one)[0]) for one in asked]
    wrong = []

    def user(number):
        rng = random.Random(number)
        for _ in range(6):
            k = rng.randrange(len(asked))
            if not np.array_equal(pixels(client.samples(**asked[k])[0]), alone[k]):
                wrong.append(k)

    threads = [threading.Thread(target=user, args=(k,)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not wrong and not any(thread.is_alive() for thread in threads)
    assert client.post("/v1/samples", {"steps": 0}).status == 422
    counts = client.get("/metrics").body.decode()
    assert f'diffjax_samples_total{{end="done"}} {client.engine.stats.done:.1f}' in counts
    assert "diffjax_wait_seconds_count" in counts and 'reason="invalid"' in counts


def test_budgets_keys_and_queues_refuse_with_the_time_to_wait(trained):
    """One client would take the whole device."""
    with served(trained, slots=1, waiting=3, passes=60, keys=frozenset({"anna", "bert"})) as client:
        assert client.post("/v1/samples", {}).status == 401
        anna = {"Authorization": "Bearer anna"}
        body = {"steps": 25, "num": 1}
        assert client.post("/v1/samples", body, **anna).status == 200
        late = client.post("/v1/samples", body, **anna)
        assert late.status == 429 and 30 <= int(late.headers["Retry-After"]) <= 41
        assert client.post("/v1/samples", body, Authorization="Bearer bert").status == 200
        large = client.post("/v1/samples", {"steps": 31}, **anna)
        assert large.status == 422 and "62 network passes, of 60 per minute" in large.error
    with served(trained, slots=1, waiting=3, seconds=2.0) as client:
        with socket.create_connection(("127.0.0.1", client.port), timeout=60) as slow:
            slow.sendall(
                b"POST /v1/samples HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
            )
            assert slow.recv(99).startswith(b"HTTP/1.1 408")  # it would hold its place for good
        full = client.post("/v1/samples", {"num": 4, "steps": 3})
        assert full.status == 503 and full.headers["Retry-After"] == "5"
    with served(trained, slots=1, waiting=1, passes=60) as client:
        assert client.post("/v1/samples", {"num": 2, "steps": 15}).status == 503
        assert client.post("/v1/samples", {"steps": 25}).status == 200  # nothing was paid for


def test_addresses_are_described_with_their_refusals(client):
    """A client that is generated from the description would not read an error."""
    described = client.get("/openapi.json").json
    answers = described["paths"]["/v1/samples"]["post"]["responses"]
    assert {"400", "401", "413", "422", "429", "500", "503"} <= {*answers}
    model = answers["422"]["content"]["application/json"]["schema"]["$ref"]
    assert model.endswith("/Failure")
    metrics = described["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert [*metrics] == ["text/plain"]


def test_a_failure_of_the_network_is_an_answer(trained, client):
    """A user would wait for ever for an image that is not finite."""
    params = jax.tree.map(lambda a: np.full_like(a, np.nan), trained.denoise.params)
    broken = Trained(trained.experiment.denoiser(params), trained.experiment)
    with served(broken, slots=1) as client:
        answer = client.post("/v1/samples", {"steps": 2})
        assert answer.status == 500 and "not finite at row 0 of 2" in answer.error
        assert client.get("/healthz").status == 200
        client.engine._fail(RuntimeError("out of memory"))
        assert client.get("/healthz").status == 500
        assert client.get("/readyz").status == 503
        assert client.post("/v1/samples", {}).status == 503


def test_other_data_than_images_have_pictures_and_values():
    """A request for points would end in an internal error."""
    e = builder.experiment(config.override(config.load("moons_vp"), ["network.width=8"]))
    with served(Trained(e.denoiser(e.parameters()), e), slots=1) as client:
        assert client.get("/v1/about").json["guidance"] == 1.0
        (told,) = client.samples(steps=2, label=1)
        assert len(told["values"]) == 2 and pixels(told).ndim >= 2
        sized = client.post("/v1/images/generations", {"prompt": "1", "size": "64x64"})
        assert (sized.status, sized.error) == (422, "size=64x64: needs auto")


def test_previews_of_latents_are_sketches_that_the_run_keeps(tmp_path, monkeypatch):
    """A preview would cost a pass of the decoder, or show other colours than the image."""
    form = Form("latent", SHAPE, units=(("codec", "haar"),))
    section = {"name": "latents:nowhere", "codec": "codecs_of_tests:codec"}
    changes = {"data": section, "network": {"name": "codecs_of_tests:linear"}}
    e = builder.experiment(config.load("digits_vp") | changes, form)
    trained = Trained(e.denoiser(e.parameters()), e)
    service = Service(trained, 2, Limits(), folder=tmp_path)
    job = trained.job(seed=3, steps=4)
    (ticket,) = service.engine.submit(job, 1, every=4)
    (shown,) = [event.x0 for event in ticket.events() if event.x0 is not None]
    whole = job.decoding.decode(trained.job(seed=3, steps=4, latents=True).samples(1).x)
    mean = whole.reshape(4, 2, 4, 2).mean((1, 3))  # the first of Haar's channels
    assert shown.shape == (4, 4, 1) and ticket.result().shape == (8, 8, 1)
    assert np.abs(shown[..., 0] - 127.5 * (np.clip(mean, -1, 1) + 1)).max() < 1.6
    service.engine.close()
    monkeypatch.setattr(previews, "sketch", None)
    again = Service(trained, 2, Limits(), folder=tmp_path)
    assert np.array_equal(again.engine.sketch.matrix, service.engine.sketch.matrix)
    again.engine.close()
    assert previews.read(tmp_path / previews.FILE, "another") is None
