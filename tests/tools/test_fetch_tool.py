"""Downloads from a real local server: complete, resumed or refused, and never left in part."""

import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from commands import ended

from diffjax.data import cifar10, tfds
from diffjax.data.source import load
from diffjax.io import fetch as downloads

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Files by path. breaks: after how many bytes of an answer the connection closes, and how often
    that happens. ranges: whether parts can be asked for."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.breaks, self.times, self.ranges = 0, 0, True
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, handler):
        path, _, query = handler.path.partition("?")
        wanted = handler.headers.get("Range", "")
        self.asked.append((path, wanted))
        key = handler.path if handler.path in self.files else path
        if key not in self.files:
            handler.send_error(404)
            return
        content, start = self.files[key], 0
        if wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                handler.send_error(416)
                return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        if "page" not in query and key.endswith("recursive=true") and f"{key}&page=2" in self.files:
            handler.send_header("Link", f'<{self.url}{key}&page=2>; rel="next"')
        handler.end_headers()
        if self.times:
            self.times -= 1
            handler.wfile.write(content[start : start + self.breaks])
            handler.close_connection = True
            return
        handler.wfile.write(content[start:])


@pytest.fixture
def server(monkeypatch, tmp_path):
    made = Server()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*flags) -> tuple[int, str, str]:
        capsys.readouterr()
        code = ended(monkeypatch, "tools.fetch", *flags)
        out, err = capsys.readouterr()
        return code, out, "\n".join(x for x in err.splitlines() if x.startswith("error"))

    return run


def remote(server, **more) -> downloads.Remote:
    server.files["/a.bin"] = CONTENT
    return downloads.Remote(f"{server.url}/a.bin", "a.bin", **{"sum": SHA, **more})


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_off_is_taken_up_again(server, tmp_path, ranges):
    """A large file would have to arrive in one piece."""
    server.breaks, server.times, server.ranges = 1_000_000, 2 if ranges else 1, ranges
    path = downloads.fetch(remote(server), tmp_path / "a.bin")
    assert path.read_bytes() == CONTENT and [*tmp_path.iterdir()] == [path]
    starts = [asked for _, asked in server.asked]
    assert starts == (["", "bytes=1000000-", "bytes=2000000-"] if ranges else ["", starts[1]])
    server.asked.clear()
    downloads.fetch(remote(server), path)  # the file exists and has its checksum
    assert server.asked == []
    path.write_bytes(b"damaged")
    assert downloads.fetch(remote(server), path).read_bytes() == CONTENT


def test_what_breaks_off_for_good_is_resumed_by_the_next_call(server, tmp_path):
    """Hours of downloading would begin anew."""
    server.breaks, server.times = 700_000, 1
    file, path = remote(server), tmp_path / "a.bin"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downloads, "_once", once_then_nothing(downloads._once))
        with pytest.raises(downloads.Unfinished, match=r"700000 of 3000000 bytes .* resumes$"):
            downloads.fetch(file, path)
    assert not path.exists() and (tmp_path / "a.bin.part").stat().st_size == 700_000
    server.asked.clear()
    assert downloads.fetch(file, path).read_bytes() == CONTENT
    assert server.asked == [("/a.bin", "bytes=700000-")] and [*tmp_path.iterdir()] == [path]


def once_then_nothing(once):
    """Serve connections of which only the first delivers something."""
    calls = []

    def connect(file, part, start):
        calls.append(start)
        return once(file, part, start) if len(calls) == 1 else (len(CONTENT), "gone")

    return connect


def test_another_file_than_the_published_one_is_refused_and_nothing_stays(server, tmp_path):
    """Weights of unknown origin would be loaded under a known name."""
    for more in ({"sum": "0" * 64}, {"sum": "0" * 40}):
        with pytest.raises(ValueError, match=r"its checksum is \w+, not 0+: deleted$"):
            downloads.fetch(remote(server, **more), tmp_path / "a.bin")
        assert [*tmp_path.iterdir()] == []
    (tmp_path / "a.bin.part").write_bytes(CONTENT + b"more")  # a part of another file
    assert downloads.fetch(remote(server), tmp_path / "a.bin").read_bytes() == CONTENT
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    downloads.fetch(remote(server, sum=blob), tmp_path / "a.bin")


def test_without_a_sum_nothing_is_resumed(server, tmp_path):
    """Parts of two versions of a file would be joined without notice."""
    server.breaks, server.times = 1000, 1
    with pytest.raises(downloads.Unfinished, match=r"1000 of 3000000 bytes \(.*\)$"):
        downloads.fetch(remote(server, sum=""), tmp_path / "a.bin")
    assert [*tmp_path.iterdir()] == []
    assert downloads.fetch(remote(server, sum=""), tmp_path / "a.bin").read_bytes() == CONTENT


def model(server, name="/o/m"):
    """Return a repository of two pages, with weights in two forms."""
    files = {"config.json": b'{"a": 1}', "unet/w.safetensors": CONTENT, "w.bin": b"old"}
    blob = lambda content: hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entries = [
        {"type": "directory", "path": "unet", "oid": "0"},
        *({"type": "file", "path": k, "size": len(v), "oid": blob(v)} for k, v in files.items()),
    ]
    entries[2]["lfs"] = {"oid": SHA, "size": len(CONTENT)}
    tree = f"/api/models{name}/tree/main?recursive=true"
    server.files[tree] = json.dumps(entries[:2]).encode()
    server.files[f"{tree}&page=2"] = json.dumps(entries[2:]).encode()
    for path, content in files.items():
        server.files[f"{name}/resolve/main/{path}"] = content


def test_a_repository_comes_with_its_weights_in_one_form(server, tmp_path, call):
    model(server)
    code, out, _ = call("o/m", f"--base={server.url}")
    folder = tmp_path / "cache/diffjax/hub/o/m/main"
    there = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert code == 0 and there == ["config.json", "unet/w.safetensors"]
    assert (folder / "unet/w.safetensors").read_bytes() == CONTENT
    assert "2 files, 3.0 MB" in out and f"tools.convert {folder} --out=runs/m" in out
    code, _, _ = call("o/m", f"--base={server.url}", "--only=*.bin", f"--out={tmp_path / 'b'}")
    assert code == 0 and [p.name for p in (tmp_path / "b").iterdir()] == ["w.bin"]
    server.files["/o/m/resolve/main/config.json"] = b'{"a": 2}'
    code, _, err = call("o/m", f"--base={server.url}", f"--out={tmp_path / 'c'}")
    assert code == 2 and "deleted" in err and not [*(tmp_path / "c").iterdir()]


def test_what_cannot_be_fetched_is_one_line(server, tmp_path, call, monkeypatch):
    """A traceback would appear, an empty folder, or an HTML page under the name of weights."""
    monkeypatch.chdir(tmp_path)
    model(server)
    server.files["/api/models/o/html/tree/main?recursive=true"] = b"<html>"
    server.files["/api/models/o/none/tree/main?recursive=true"] = b"[]"
    entry = {"type": "file", "path": "../x.bin", "size": 1, "oid": "0"}
    server.files["/api/models/o/up/tree/main?recursive=true"] = json.dumps([entry]).encode()
    base = f"--base={server.url}"
    refusals = {
        ("o/nothing", base): "404 Not Found",
        ("o/html", base): "not a list of files",
        ("o/none", base): "lists no files",
        ("o/up", base): "would be written outside of the folder",
        ("o/m", base, "--only=*.pkl"): "--only: *.pkl: matches no file; known: config.json",
        ("o/m", "--base=http://127.0.0.1:9"): "cannot be reached (",
        ("o/m", "--base=ftp"): "--base=ftp: needs a URL",
        ("o/m", "--sha256=00"): "--sha256: does not apply to o/m",
        ("digits",): "SOURCE=digits: needs OWNER/NAME, a URL, or cifar10",
        (f"{server.url}/none.pkl",): "none.pkl: 404 Not Found",
        (server.url,): "names no file",
        (f"{server.url}/a", "--sha256=00"): "--sha256=00: needs 64 hex digits",
        ("cifar10", base): "cifar-10-binary.tar.gz: 404 Not Found",
        ("cifar10", "--revision=a"): "--revision: does not apply to cifar10",
    }
    for flags, part in refusals.items():
        code, _, err = call(*flags)
        assert code == 2 and part in err and "\n" not in err, (flags, err)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def archive(train: np.ndarray, label: np.ndarray) -> bytes:
    """Return the archive as its authors publish it, with few images."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:

        def put(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

        rows = np.concatenate(
            [label[:, None].astype(np.uint8), train.transpose(0, 3, 1, 2).reshape(len(train), -1)],
            1,
        )
        for part, rows_of in zip(
            (*cifar10.PARTS["train"], *cifar10.PARTS["test"]), rows.reshape(6, 2, -1), strict=True
        ):
            put(part, rows_of.tobytes())
        put(cifar10.NAMES, b"airplane\nautomobile\nbird\n\n")
    return content.getvalue()


def test_cifar10_becomes_a_data_set_that_is_read(server, tmp_path, call, monkeypatch):
    """TensorFlow would be needed to train on CIFAR-10."""
    x = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    label = np.arange(12) % 3
    content = archive(x, label)
    sha = hashlib.sha256(content).hexdigest()
    known = cifar10.ARCHIVE._replace(sum=sha, size=len(content))
    monkeypatch.setattr(cifar10, "ARCHIVE", known)
    server.files[f"/{known.name}"] = content
    out = tmp_path / "data"
    code, said, err = call("cifar10", f"--base={server.url}", f"--out={out}")
    assert code == 0, err
    assert f"next: --config.data.name=tfds:cifar10 --config.data.data_dir={out}" in said
    train, test = (tfds(s, dataset="cifar10", data_dir=str(out)) for s in ("train", "test"))
    for items, part in ((load(train), slice(10)), (load(test), slice(10, 12))):
        np.testing.assert_array_equal(items.x, x[part])
        np.testing.assert_array_equal(items.labels(), label[part])
    assert train.classes == 3 and not (out / "cifar10" / ".work").exists()
    server.asked.clear()
    code, said, _ = call("cifar10", f"--out={out}")
    assert code == 0 and "exists already" in said and server.asked == []


@pytest.mark.parametrize(
    "content", [b"no archive", archive(np.zeros((12, 32, 32, 3), np.uint8), np.full(12, 9))]
)
def test_another_archive_is_refused(tmp_path, content):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.tar.gz: (not the archive|.*label 9; known: 0 to 2)"):
        cifar10.read(path)
