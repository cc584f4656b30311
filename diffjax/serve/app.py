"""The addresses of the server.

POST /v1/samples              samples as JSON
POST /v1/samples/events       the same as server-sent events: rows, previews, samples
POST /v1/images/generations   images in the form of OpenAI's API
GET  /v1/about                the network, its conditions and the limits
GET  /healthz /readyz /metrics
GET  /                        a page to try it
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from diffjax import __version__, pages
from diffjax.config import ConfigError
from diffjax.generation.engine import Full
from diffjax.generation.tickets import Event, Ticket
from diffjax.serve.edge import Edge, Refused, refused
from diffjax.serve.limits import Budget, Limits
from diffjax.serve.requests import Asked, Failure, Prompted
from diffjax.serve.service import Admitted, Service

LATER = 5
"""Seconds after which a client may try again where a server has no place."""
LOOK = 0.5
"""Seconds between two looks whether a client is still there."""
FEW = 64
"""Number of events that wait for a slow client before further ones come without previews."""
STATUSES = {400: "malformed", 404: "address", 405: "method"}
"""Words for the refusals of the framework."""
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'"
)


class Running(NamedTuple):
    """A request whose samples are computed: its tickets, and their events as they come."""

    admitted: Admitted
    tickets: list[Ticket]
    events: asyncio.Queue[tuple[Ticket, Event | None]]


class State:
    """What the addresses share: the service once it is there, and the budget of each client."""

    def __init__(self, begin: Callable[[], Service], limits: Limits):
        self.begin, self.limits = begin, limits
        self.service: Service | None = None
        self.watching: set[asyncio.Task[None]] = set()
        self.failure = ""
        rate = limits.passes / 60
        self.budget = Budget(rate, limits.passes) if limits.passes else None

    def start(self) -> None:
        """Load the network and compile, beside the server, which says that it is not ready."""
        try:
            self.service = self.begin()
        except Exception as error:
            self.failure = str(error) or type(error).__name__

    @property
    def ready(self) -> Service:
        """The service, if it takes requests."""
        if self.failure:
            raise Refused(500, "failed", f"the server failed to start: {self.failure}")
        if self.service is None:
            raise Refused(503, "starting", "the sampler is being compiled", LATER)
        if not self.service.engine.open:
            raise Refused(503, "closed", "the server stops", LATER)
        return self.service

    def client(self, request: Request) -> str:
        """Return the key of a client, or its address where no keys are set."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if not self.limits.keys:
            return request.client.host if request.client else ""
        if scheme.lower() != "bearer" or key not in self.limits.keys:
            raise Refused(401, "key", "needs a header `Authorization: Bearer KEY` with a known key")
        return key

    async def submit(self, request: Request, asked: Asked) -> Running:
        """Queue a request, or refuse it."""
        service, client = self.ready, self.client(request)
        try:
            admitted = await asyncio.to_thread(service.admitted, asked)
        except (ConfigError, ValueError) as error:
            line = str(error).replace("--from", "image").replace("--", "")  # fields, not flags
            raise Refused(422, "invalid", line) from error
        if self.budget and (wait := self.budget.wait(client, admitted.passes)):
            what = f"{admitted.passes} network passes, of {self.limits.passes} per minute"
            if wait == math.inf:
                raise Refused(422, "invalid", f"the request takes {what}")
            raise Refused(429, "budget", f"too many requests: this one takes {what}", wait)
        loop, events = asyncio.get_running_loop(), asyncio.Queue()

        def notify(ticket: Ticket, event: Event | None) -> None:
            if event and events.qsize() > FEW:
                event = event._replace(x0=None)
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, (ticket, event))

        job, num, every = admitted.job, admitted.num, admitted.every
        try:
            tickets = service.engine.submit(job, num, every, notify)
        except Full as full:
            if self.budget:
                self.budget.give_back(client, admitted.passes)
            raise Refused(503, "full", str(full), LATER) from full
        except RuntimeError as closed:
            raise Refused(503, "closed", str(closed), LATER) from closed
        watching = asyncio.create_task(watch(request, tickets))
        self.watching.add(watching)
        watching.add_done_callback(self.watching.discard)
        return Running(admitted, tickets, events)


async def watch(request: Request, tickets: list[Ticket]) -> None:
    """Cancel the samples of a client that leaves, by a task that no generator can keep from it."""
    while not all(ticket.ended for ticket in tickets):
        if await request.is_disconnected():
            for ticket in tickets:
                ticket.cancel()
            return
        await asyncio.sleep(LOOK)


async def happened(running: Running) -> AsyncIterator[tuple[Ticket, Event | None]]:
    """Yield the events until all samples have ended."""
    left = len(running.tickets)
    while left:
        ticket, event = await running.events.get()
        left -= event is None
        yield ticket, event


def outcome(service: Service, running: Running, ticket: Ticket) -> dict[str, Any]:
    """Return the sample of a ticket that has ended, or its error, as JSON."""
    labels = ticket.job.cond.get("label")
    about = running.admitted.about | {"number": ticket.number}
    if labels is not None:
        about["label"] = int(labels[running.tickets.index(ticket) % len(labels)])
    try:
        item = ticket.result(0)
    except Exception as error:
        return about | {"error": str(error)}
    service.waits.observe(ticket.entered - ticket.submitted)
    return about | service.answer(item, about)


def told(
    service: Service, running: Running, ticket: Ticket, event: Event | None
) -> ServerSentEvent:
    """Return an event of a ticket as it is sent; None is its end, with the sample."""
    place = {"place": running.tickets.index(ticket)}
    if event is None:
        answer = outcome(service, running, ticket)
        return ServerSentEvent(event="sample", data=place | answer)
    row = place | {"row": event.row, "rows": event.rows}
    preview = {} if event.x0 is None else service.answer(event.x0, {})
    return ServerSentEvent(event="row", data=row | preview)


def application(begin: Callable[[], Service], limits: Limits) -> FastAPI:
    """Return the application; `begin` loads the network and compiles, in a thread of its own."""
    state = State(begin, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # No interruption can end the compiler, and a thread of a pool would keep the process.
        threading.Thread(target=state.start, daemon=True, name="start").start()
        yield
        if state.service:  # the connections have ended, or taken too long
            await asyncio.to_thread(state.service.engine.close, drain=False)

    about: dict[str, Any] = {"title": "diffjax", "version": __version__, "docs_url": None}
    about |= {"redoc_url": None, "redirect_slashes": False}  # a redirect would repeat the Host
    wrong: dict[int | str, Any] = {
        code: {"model": Failure} for code in (400, 401, 413, 422, 429, 500, 503)
    }
    app = FastAPI(lifespan=lifespan, responses=wrong, **about)
    app.state.shared = state
    app.add_middleware(Edge, limits=limits)
    app.exception_handler(Refused)(lambda request, error: refused(error, state.service))
    failed = Refused(500, "failed", "the server failed; its log says why")
    app.exception_handler(Exception)(lambda request, error: refused(failed, state.service))
    app.exception_handler(HTTPException)(lambda request, error: answered(state.service, error))
    app.exception_handler(RequestValidationError)(
        lambda request, error: refused(Refused(422, "invalid", first(error)), state.service)
    )
    observed(app, state)
    sampled(app, state)
    return app


def observed(app: FastAPI, state: State) -> None:
    """Add the addresses that compute nothing."""

    @app.get("/", response_class=HTMLResponse)
    def front() -> HTMLResponse:
        read = lambda name: (files("diffjax.serve") / name).read_text()
        parts = {"style": pages.style(), "script": read("page.js")}
        text = Template(read("page.html")).substitute(parts)
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY})

    @app.get("/healthz")
    def alive() -> dict[str, str]:
        if state.failure or (state.service and state.service.engine.broken):
            raise Refused(500, "failed", state.failure or "the engine failed")
        return {"status": "alive"}

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready", "network": state.ready.about()["network"]}

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        return Response(generate_latest(state.ready.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/about")
    def about() -> dict[str, Any]:
        return state.ready.about()


def sampled(app: FastAPI, state: State) -> None:
    """Add the addresses that generate samples."""

    async def running(request: Request, asked: Asked) -> Running:
        return await state.submit(request, asked)

    async def prompted(request: Request, asked: Prompted) -> Running:
        form, own = state.ready.form, "auto"
        if form.kind == "image":
            own = f"{form.shape[1]}x{form.shape[0]}"
        if asked.size not in (None, "auto", own):
            raise Refused(422, "invalid", f"size={asked.size}: needs {own}")
        return await state.submit(request, asked.asked(texts=state.ready.texts))

    async def ended(run: Running) -> list[dict[str, Any]]:
        service = state.ready
        async for _ in happened(run):
            pass
        answers = [outcome(service, run, ticket) for ticket in run.tickets]
        if wrong := next((a["error"] for a in answers if "error" in a), ""):
            raise Refused(500, "failed", wrong)
        return answers

    @app.post("/v1/samples")
    async def samples(run: Running = Depends(running)) -> Any:
        return {"samples": await ended(run)}

    @app.post("/v1/samples/events", response_class=EventSourceResponse)
    async def events(run: Running = Depends(running)) -> AsyncIterator[ServerSentEvent]:
        service = state.ready
        yield ServerSentEvent(event="begin", data=run.admitted.about)
        async for ticket, event in happened(run):
            yield await asyncio.to_thread(told, service, run, ticket, event)
        yield ServerSentEvent(event="end", data={})

    @app.post("/v1/images/generations")
    async def images(run: Running = Depends(prompted)) -> Any:
        answers = await ended(run)
        return {"created": int(time.time()), "data": [{"b64_json": a["png"]} for a in answers]}


def answered(service: Service | None, error: HTTPException) -> JSONResponse:
    """Return a refusal of the framework in the form of all others."""
    known = error.__cause__  # the framework hides what stopped it from reading the body
    if not isinstance(known, Refused):
        reason = STATUSES.get(error.status_code, "http")
        known = Refused(error.status_code, reason, str(error.detail))
    answer = refused(known, service)
    answer.headers.update(error.headers or {})
    return answer


def first(error: RequestValidationError) -> str:
    """Return one line for the first field that is not as it should be."""
    found = error.errors()[0]
    if found["type"] == "model_attributes_type":
        return "the body: needs a JSON object, with the header Content-Type: application/json"
    # Behind the name of a field, or of a condition, there are the branches of its type.
    names = found["loc"][1 : 3 if "cond" in found["loc"][1:2] else 2]
    where = ".".join(str(part) for part in names if not isinstance(part, int))
    return f"{where or 'the body'}: {found['msg'].removeprefix('Value error, ')}"[:500]
