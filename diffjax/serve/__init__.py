"""Serve samples of a network over HTTP.

    python -m diffjax.serve --workdir=runs/digits --port=8000
    curl -s localhost:8000/v1/samples -H 'Content-Type: application/json' \\
        -d '{"label": 3, "steps": 20, "seed": 0}'

The page at http://localhost:8000 tries it in a browser. --workdir is a run, an export or a
published checkpoint. Requests join one batch of --slots samples at any row of their samplers, so a
short request does not wait for a long one; each sample has equal bits whatever runs beside it.
The server listens to this machine only unless --host says otherwise, and then it should stand
behind a proxy with TLS, whose address --proxy states: the addresses of clients are those that the
proxy reports. SIGTERM ends what is running and takes nothing new; a second one exits.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.config import ConfigError
from diffjax.files import reason

if TYPE_CHECKING:
    import uvicorn

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
MISSING = 'needs the extra `serve`: pip install "diffjax[serve]"'


def flags() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = cli.parser("serve", __doc__)
    add = flags.add_argument
    count = cli.whole(0, cli.MOST)
    add(
        "--workdir", type=cli.path, required=True, help="a run, an export or a published checkpoint"
    )
    add("--ema", help="the average of the parameters (default: that of the config)")
    cli.adapter_flag(flags)
    add("--host", default="127.0.0.1", help="address to listen to; 0.0.0.0 for all")
    add("--names", nargs="+", help="hosts that clients may ask (default: this machine's, or any)")
    add("--proxy", metavar="ADDRESS", help="of a proxy whose X-Forwarded-For is believed")
    add("--port", type=cli.whole(0, 65535), default=8000, help="0 for a free one")
    add("--slots", type=cli.positive, default=8, help="samples that are computed side by side")
    add(
        "--group",
        type=cli.positive,
        help="slots that one program computes, see the manual (default: all)",
    )
    add(
        "--then",
        type=cli.stage,
        action="append",
        default=[],
        metavar="RUN[,SETTING=VALUE,...]",
        help="enlarge the samples with another run, as `sample --then` does; may be repeated",
    )
    add("--no-guidance", action="store_true", help="refuse guidance weights: half the passes")
    add("--num", type=cli.positive, default=64, help="most samples of a request")
    add("--steps", type=cli.positive, default=1000, help="most steps of a sampler")
    add("--waiting", type=cli.positive, default=256, help="most samples that wait")
    add("--passes", type=count, default=0, help="network passes per minute and client; 0: any")
    add("--keys", type=cli.path, metavar="FILE", help="keys of clients, one in each line")
    add("--drain", type=count, default=60, help="seconds for what is running, after SIGTERM")
    return flags


def keys(path: Path | None) -> frozenset[str]:
    """Return the keys in a file. Raises ConfigError for a file that cannot be read or is empty."""
    if path is None:
        return frozenset()
    try:
        found = frozenset(filter(None, map(str.strip, path.read_text().splitlines())))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--keys={path}: cannot be read ({error})") from error
    if not found:
        raise ConfigError(f"--keys={path}: holds no key; needs one in each line")
    if not all(map(str.isascii, found)):
        raise ConfigError(f"--keys={path}: holds a key that is not ASCII, which no header has")
    return found


def names(address: str, asked: list[str] | None) -> frozenset[str]:
    """Return the hosts that clients may ask of a server at an address, none for any.

    >>> sorted(names("127.0.0.1", None)), sorted(names("0.0.0.0", None))
    (['127.0.0.1', '::1', 'localhost'], [])
    >>> sorted(names("127.0.0.1", ["Demo.example"]))
    ['demo.example']
    """
    if asked:
        return frozenset(name.lower() for name in asked)
    return LOOPBACK if address in LOOPBACK else frozenset()


def check_port(host: str, port: int) -> None:
    """Raise ConfigError for an address that cannot be listened to, before a network is loaded."""
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host={host} --port={port}: {reason(error)}") from error


def stoppable(config: uvicorn.Config) -> Any:
    """Return a server that a second signal of any kind stops at once.

    Its `interrupted` is true after ctrl-C.
    """
    import uvicorn

    class Server(uvicorn.Server):
        interrupted = False

        def handle_exit(self, sig: int, frame: Any) -> None:
            self.interrupted = sig == signal.SIGINT
            self.force_exit = self.should_exit
            super().handle_exit(sig, frame)

    return Server(config)


def run() -> int:
    """Run the server until a signal."""
    asked = cli.read(flags())
    try:
        import uvicorn

        from diffjax.serve.app import application
        from diffjax.serve.limits import Limits
        from diffjax.serve.service import Service
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name}: {MISSING}") from error
    bounds = {name: getattr(asked, name) for name in ("num", "steps", "waiting", "passes")}
    limits = Limits(**bounds, keys=keys(asked.keys), hosts=names(asked.host, asked.names))
    if asked.group and asked.group > asked.slots:
        raise ConfigError(f"--group={asked.group}: needs at most --slots={asked.slots}")
    check_port(asked.host, asked.port)
    cli.set_up_jax()
    from diffjax.runs.cascade import Cascade, later
    from diffjax.runs.trained import load

    trained = load(asked.workdir, ema=asked.ema, adapters=dict(asked.adapter))
    networks, settings = later(asked.then)
    stages = [*zip(networks, settings, strict=True)]
    # What cannot be sampled is refused before a port is opened.
    Cascade((trained, *networks)).job(stages=settings)
    failures = []

    def begin() -> Service:
        try:
            guided, folder = not asked.no_guidance, asked.workdir
            folder = folder if folder.is_dir() else None
            return Service(trained, asked.slots, limits, guided, asked.group, folder, stages)
        except Exception as error:
            failures.append(error)
            server.should_exit = True
            raise

    server = stoppable(
        uvicorn.Config(
            application(begin, limits),
            host=asked.host,
            port=asked.port,
            timeout_graceful_shutdown=asked.drain,
            log_level="info",
            server_header=False,
            proxy_headers=bool(asked.proxy),
            forwarded_allow_ips=asked.proxy,
        )
    )
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if server.interrupted:
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)  # sys.exit would wait for the compiler, or break where it ends
    if failures:
        raise failures[0]
    return 0
