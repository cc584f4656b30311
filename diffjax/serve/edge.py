"""What every request passes before the application: its name, its host, its size and its time."""

from __future__ import annotations

import asyncio
import math
import re
import uuid
from typing import Any

from fastapi.responses import JSONResponse

from diffjax.serve.limits import Limits
from diffjax.serve.service import Service

IDENTIFIER = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Refused(Exception):
    """An answer without samples: a status, a message in one line, and when to try again."""

    def __init__(self, status: int, reason: str, message: str, later: float = 0):
        super().__init__(message)
        self.status, self.reason, self.later = status, reason, later


def refused(error: Refused, service: Service | None = None) -> JSONResponse:
    """Return a refusal as JSON, and count it."""
    if service:
        service.refused.labels(error.reason).inc()
    headers = {"Retry-After": str(max(1, math.ceil(error.later)))} if error.later else {}
    body = {"error": {"message": str(error), "type": error.reason}}
    return JSONResponse(body, error.status, headers)


def host(header: str) -> str:
    """Return the name in a Host header, without its port, in lower case.

    >>> host("LOCALHOST:8000"), host("[::1]:80"), host("::1")
    ('localhost', '::1', '::1')
    """
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return (header if header.count(":") > 1 else header.partition(":")[0]).lower()


class Edge:
    """The outermost layer: it names each request, and refuses what the limits exclude.

    A page of another site can lead its own name to this machine; its requests then carry that name,
    which `limits.hosts` lacks.
    """

    def __init__(self, app: Any, limits: Limits):
        self.app, self.limits = app, limits

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        asked = headers.get(b"x-request-id", b"").decode("latin-1")
        name = asked if IDENTIFIER.fullmatch(asked) else uuid.uuid4().hex

        async def named(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = (b"x-request-id", name.encode()), (b"x-content-type-options", b"nosniff")
                message = message | {"headers": [*message["headers"], *more]}
            await send(message)

        if wrong := self.excluded(headers):
            return await refused(wrong)(scope, receive, named)
        return await self.app(scope, self.counted(receive), named)

    def excluded(self, headers: dict[bytes, bytes]) -> Refused | None:
        """Return the refusal of a request with these headers, None if it may go on."""
        name, hosts = host(headers.get(b"host", b"").decode("latin-1")), self.limits.hosts
        if hosts and name not in hosts:
            return Refused(421, "host", f"Host: {name!r}: needs one of {', '.join(sorted(hosts))}")
        length = headers.get(b"content-length", b"")
        return self.large if length.isdigit() and int(length) > self.limits.body else None

    @property
    def large(self) -> Refused:
        """The refusal of a body that is too long."""
        return Refused(413, "size", f"the body has more than {self.limits.body} bytes")

    def counted(self, receive: Any) -> Any:
        """Return `receive` that refuses a body of too many bytes, or one that comes too slowly."""
        seen, whole = 0, False
        until = asyncio.get_running_loop().time() + self.limits.seconds

        async def message() -> Any:
            nonlocal seen, whole
            if whole:  # what is waited for from now on is that the client leaves
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    found = await receive()
            except TimeoutError as error:
                line = f"the body took more than {self.limits.seconds:g} seconds"
                raise Refused(408, "slow", line) from error
            seen += len(found.get("body", b""))
            whole = not found.get("more_body", False)
            if seen > self.limits.body:
                raise self.large
            return found

        return message
