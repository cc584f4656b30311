"""The command that serves: a real process, signals, and a browser on its page."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from browser import PROGRAM, Browser
from commands import TINY

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


@pytest.fixture
def started(export):
    """Return a process that serves, and its address."""
    line = [sys.executable, "-m", "diffjax.serve", f"--workdir={export}", "--port=0", "--slots=2"]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    address = ""
    while not address:
        told = process.stderr.readline()
        assert told, "the server has ended"
        if "running on" in told:
            address = told.split("running on ")[1].split()[0]
    threading.Thread(target=process.stderr.read, daemon=True).start()
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
    process.stderr.close()


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


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")
def test_a_visitor_generates_images_on_the_page(started, tmp_path):
    """The page would show nothing, or not say what went wrong."""
    _, address = started
    with Browser(tmp_path, 390, 844) as page:
        page.call("Page.navigate", url=address)
        page.wait("document.querySelector('[name=sampler]')?.options.length > 20")
        fields = "document.getElementById('form').elements"
        page.run(f"{fields}.num.value = 3; {fields}.steps.value = 2; {fields}.label.value = '7'")
        page.run("document.getElementById('go').scrollIntoView()")
        page.tap("#go")
        page.wait("document.getElementById('message').textContent.startsWith('3 samples in')")
        shown = "[...document.querySelectorAll('figure img')].map(i => i.naturalWidth)"
        assert page.run(shown) == [8, 8, 8]
        page.run(f"{fields}.seed.value = '9999999999'")
        page.tap("#go")
        page.wait("document.getElementById('message').textContent.startsWith('seed: ')")
        page.run(f"{fields}.seed.value = ''; {fields}.steps.value = 100; {fields}.num.value = 16")
        page.tap("#go")
        page.wait("document.querySelectorAll('figure').length == 19")
        page.tap("#stop")
        page.wait("document.getElementById('message').textContent == 'stopped'")
        assert page.run("document.documentElement.scrollWidth") <= 390


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
    assert told.returncode == 2 and "adaptive steps have no rows" in told.stderr.splitlines()[-1]


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
