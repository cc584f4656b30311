"""Standard files from the cache or the network, and no other file under their name."""

import functools
import hashlib
import http.server
import threading

import pytest

from diffjax.io.standard import Standard, weights

pytestmark = pytest.mark.typed

DATA = bytes(range(256)) * 9000  # more than one part


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Yield the address of a local server that offers `net.pth`."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "net.pth").write_bytes(DATA)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


@pytest.fixture
def standard(server):
    return Standard(f"{server}/net.pth", hashlib.sha256(DATA).hexdigest())


def test_it_is_downloaded_once(standard, tmp_path):
    """Every evaluation would download a gigabyte, and fail without a connection."""
    first = weights(standard, folder=tmp_path / "new")
    assert first.path.read_bytes() == DATA
    gone = standard._replace(url="http://127.0.0.1:1/net.pth")
    assert weights(gone, folder=tmp_path / "new").path == first.path
    assert first.about == f"standard weights {standard.url}"


def test_what_is_not_the_standard_file_is_refused(standard, tmp_path):
    """Published numbers could not be reproduced by anybody else."""
    with pytest.raises(
        ValueError, match=f"net.pth: its checksum is {standard.sha256}, not 0+: deleted"
    ):
        weights(standard._replace(sha256="0" * 64), folder=tmp_path)
    assert not list(tmp_path.glob("*/*"))
    path = weights(standard, folder=tmp_path).path
    path.write_bytes(DATA[1:])
    with pytest.raises(ValueError, match="delete this damaged file"):
        weights(standard, folder=tmp_path)


@pytest.mark.parametrize("gone", ["http://127.0.0.1:1/net.pth", "{server}/other.pth"])
def test_without_a_network_the_address_of_the_file_is_named(gone, server, standard, tmp_path):
    url = gone.format(server=server)
    with pytest.raises(ValueError, match=f"{url}: .*; download the file and set weights=PATH"):
        weights(standard._replace(url=url), folder=tmp_path)
    assert not list(tmp_path.glob("*/*"))


def test_a_given_file_is_taken_and_named_for_what_it_is(standard, tmp_path):
    """Other weights would pass for the standard ones."""
    file = tmp_path / "mine.pth"
    file.write_bytes(DATA)
    assert weights(standard, str(file)).about == f"standard weights {standard.url}"
    file.write_bytes(DATA[1:])
    made = weights(standard, str(file))
    assert "not the standard weights" in made.about
    assert made.sha256 == hashlib.sha256(DATA[1:]).hexdigest()
    with pytest.raises(ValueError, match="no such file"):
        weights(standard, str(tmp_path / "none.pth"))
