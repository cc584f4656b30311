"""The command that serves: a real process, signals, and a browser on its page."""

import base64
import contextlib
import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from browser import PROGRAM, Browser
from commands import TINY
from PIL import Image

from diffjax import builder, config
from diffjax.runs.trained import Trained

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Return an export of an untrained network of digits."""
    e = builder.experiment(config.override(config.load("digits_vp"), TINY))
    folder = tmp_path_factory.mktemp("served") / "export"
    Trained(e.denoiser(e.parameters()), e).save(folder)
    return folder


@contextlib.contextmanager
def process_of(export):
    """Yield a process that serves, and its address."""
    line = [sys.executable, "-m", "diffjax.serve", f"--workdir={export}", "--port=0", "--slots=2"]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    address = ""
    while not address:
        told = process.stderr.readline()
        assert told, "the server has ended"
        if "running on" in told:
            address = told.split("running on ")[1].split()[0]
    reading = threading.Thread(target=process.stderr.read, daemon=True)
    reading.start()
    while True:
        try:
            urllib.request.urlopen(f"{address}/readyz", timeout=60).close()
            break
        except urllib.error.HTTPError as error:
            later, code = error.headers["Retry-After"], error.code
            error.close()
        assert (code, later) == (503, "5")
        time.sleep(0.1)
    yield process, address
    process.kill()
    process.wait()
    reading.join()
    process.stderr.close()


@pytest.fixture
def started(export):
    with process_of(export) as found:
        yield found


def post(address, **body):
    ask = urllib.request.Request(
        f"{address}/v1/samples", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(ask, timeout=120) as answer:
        return json.load(answer)["samples"]


def test_sigterm_ends_what_is_running_and_takes_nothing_new(started):
    """A restart would lose the requests of users."""
    process, address = started
    found = []
    thread = threading.Thread(target=lambda: found.extend(post(address, steps=900, num=2)))
    thread.start()
    while b"diffjax_running 2.0" not in urllib.request.urlopen(f"{address}/metrics").read():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    with pytest.raises(OSError, match=r"refused|reset"):
        post(address, steps=1)
    thread.join(120)
    assert len(found) == 2 and process.wait(60) == -signal.SIGTERM


FIELDS = "document.getElementById('form').elements"
MESSAGE = "document.getElementById('message').textContent"
IMAGES = "[...document.querySelectorAll('figure img')]"


def generate(page, num, **values):
    """Press the button and wait for the samples."""
    values = {"num": num, **values}
    page.run("; ".join(f"{FIELDS}.{name}.value = '{value}'" for name, value in values.items()))
    page.run("document.getElementById('message').textContent = ''")
    page.run("document.getElementById('go').scrollIntoView()")
    page.tap("#go")
    page.wait(f"{MESSAGE}.startsWith('{num} samples in')")


def opened(page, address):
    page.call("Page.navigate", url=address)
    page.wait("document.querySelector('[name=sampler]')?.options.length > 20")


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")
def test_a_visitor_generates_images_on_the_page(started, tmp_path):
    """The page would show nothing, lose what it made, or not say what went wrong."""
    process, address = started
    with Browser(tmp_path, 390, 844) as page:
        opened(page, address)
        generate(page, 3, steps=3, label=7)
        assert page.run(f"{IMAGES}.map(i => i.naturalWidth)") == [8, 8, 8]
        page.run(f"{FIELDS}.num.dispatchEvent(new Event('input'))")
        assert re.fullmatch(r"3 steps, \d+(\.\d)? s", page.run("at('steps-value').textContent"))
        page.run("document.querySelectorAll('#samples figure button')[1].click()")
        assert page.run("document.getElementById('large').open")
        page.tap("#reuse")
        again = f"[{FIELDS}.num.value, {FIELDS}.index.value, {FIELDS}.label.value]"
        assert page.run(again) == ["1", "1", "7"]
        generate(page, 1)
        assert page.run(f"(([a, b, c]) => a.src == c.src && a.src != b.src)({IMAGES})")
        for element in ("#samples figure input", "#delete"):
            page.run(f"document.querySelector('{element}').scrollIntoView({{block: 'center'}})")
            page.tap(element)
        page.wait("document.querySelectorAll('figure').length == 3")
        before = page.run(f"{IMAGES}.map(i => i.src).sort()")
        opened(page, address)
        page.wait("document.querySelectorAll('figure').length == 3")
        assert page.run(f"{IMAGES}.map(i => i.src).sort()") == before
        page.run(f"{FIELDS}.seed.value = '9999999999'")
        page.tap("#go")
        page.wait(f"{MESSAGE}.startsWith('seed: ')")
        page.run(f"{FIELDS}.seed.value = ''; {FIELDS}.steps.value = 100; {FIELDS}.num.value = 16")
        page.tap("#go")
        page.wait("document.querySelectorAll('figure').length == 19")
        page.tap("#stop")
        page.wait(f"{MESSAGE} == 'stopped' && document.querySelectorAll('figure').length >= 3")
        assert page.run("document.documentElement.scrollWidth") <= 390
        page.tap("#go")
        page.wait("document.querySelectorAll('progress').length > 10")
        process.kill()
        page.wait(f"{MESSAGE}.startsWith('the connection to the server was lost')")


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")
def test_a_visitor_paints_over_what_may_change(started, tmp_path):
    """The page would change what the visitor wants to keep, or refuse a photo."""
    x = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(x).save(tmp_path / "photo.webp", lossless=True)
    with Browser(tmp_path, 390, 844) as page:
        opened(page, started[1])
        root = page.call("DOM.getDocument")["root"]["nodeId"]
        node = page.call("DOM.querySelector", nodeId=root, selector="[name=image]")["nodeId"]
        page.call("DOM.setFileInputFiles", files=[str(tmp_path / "photo.webp")], nodeId=node)
        page.wait("!document.getElementById('editor').hidden")
        page.run("document.getElementById('mask').scrollIntoView({block: 'center'})")
        page.run(f"{FIELDS}.brush.value = 30")
        page.tap("#mask")
        page.wait("painted")
        generate(page, 1, steps=4, strength=1, seed=1)
        found = page.run(f"{IMAGES}[0].src").partition("base64,")[2]
        changed = np.asarray(Image.open(io.BytesIO(base64.b64decode(found)))) != x
        assert changed[3:5, 3:5].any() and not changed[[0, 1, 6, 7]].any()
        assert not changed[:, [0, 1, 6, 7]].any()
        page.run("document.querySelector('#samples figure button').click()")
        page.tap("#edit")
        page.wait("!painted && !document.getElementById('editor').hidden")


def test_what_cannot_be_served_is_one_line(export, tmp_path):
    """A user would meet a traceback, or a port that answers nothing."""
    (tmp_path / "empty").write_text("\n")
    e = builder.experiment(
        config.override(config.load("digits_vp"), [*TINY, "sampling.sampler.name=adaptive"])
    )
    Trained(e.denoiser(e.parameters()), e).save(tmp_path / "adaptive")
    used = socket.create_server(("127.0.0.1", 0))
    cases = [
        ([f"--workdir={tmp_path / 'none'}"], "none"),
        ([f"--workdir={export}", f"--port={used.getsockname()[1]}"], "Address already in use"),
        ([f"--workdir={export}", f"--keys={tmp_path / 'empty'}"], "holds no key"),
        ([f"--workdir={export}", "--slots=0"], "--slots"),
    ]
    for flags, message in cases:
        line = [sys.executable, "-m", "diffjax.serve", *flags]
        told = subprocess.run(line, capture_output=True, text=True, timeout=300)
        assert told.returncode == 2 and message in told.stderr
        assert len(told.stderr.strip().splitlines()) == 1
    used.close()
    line = [sys.executable, "-m", "diffjax.serve", f"--workdir={tmp_path / 'adaptive'}", "--port=0"]
    told = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert told.returncode == 2 and "adaptive steps differ" in told.stderr.splitlines()[-1]


def test_signals_end_a_server_that_compiles_or_is_busy(export, started):
    """A user would wait for the compiler after ctrl-C, or for a thousand samples."""
    process, address = started
    threading.Thread(target=lambda: lost(address), daemon=True).start()
    while b"diffjax_running 2.0" not in urllib.request.urlopen(f"{address}/metrics").read():
        time.sleep(0.02)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    assert process.wait(10) == -signal.SIGTERM
    line = [sys.executable, "-m", "diffjax.serve", f"--workdir={export}", "--port=0"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as compiling:
        while "running on" not in compiling.stderr.readline():
            assert compiling.poll() is None
        compiling.send_signal(signal.SIGINT)
        told = compiling.communicate(timeout=30)[1]
    assert compiling.returncode == 130 and told.strip().endswith("interrupted")


def lost(address):
    with contextlib.suppress(OSError):
        post(address, steps=1000, num=64)


def test_a_killed_server_leaves_a_clear_error_and_the_same_images_after_a_restart(export):
    """Clients would wait for ever, or get other images from the next process."""
    asked = {"seed": 5, "num": 3, "steps": 4, "label": 2}
    told, cut = [], []
    with process_of(export) as (process, address):
        before = post(address, **asked)
        threads = [
            threading.Thread(target=lambda path=path: cut.append(broken(address, path, told)))
            for path in ("/v1/samples", "/v1/samples/events")
        ]
        for thread in threads:
            thread.start()
        while b"diffjax_running 2.0" not in urllib.request.urlopen(f"{address}/metrics").read():
            time.sleep(0.02)
        while b"event: row" not in b"".join(told):
            time.sleep(0.02)
        process.kill()
        for thread in threads:
            thread.join(30)
        assert process.wait(10) == -signal.SIGKILL
        with pytest.raises(OSError, match="refused"):
            post(address, **asked)
    errors = http.client.RemoteDisconnected, http.client.IncompleteRead, ConnectionResetError
    assert len(cut) == 2 and all(isinstance(error, errors) for error in cut), cut
    assert b"event: row" in b"".join(told) and b"event: end" not in b"".join(told)
    with process_of(export) as (_, address):
        assert post(address, **asked) == before


def broken(address, path, told):
    """Return how a long request ends, and collect what comes before."""
    body = json.dumps({"steps": 1000}).encode()
    ask = urllib.request.Request(address + path, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(ask, timeout=60) as answer:
            while part := answer.read1(65536):  # readline() would take a lost connection for an end
                told.append(part)
    except OSError as error:
        return error.reason if isinstance(error, urllib.error.URLError) else error
    except http.client.HTTPException as error:
        return error
    return None
