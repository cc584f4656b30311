"""A network with its engine, as a server uses them: requests become jobs, and samples pictures."""

from __future__ import annotations

import base64
import binascii
import functools
import io
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from diffjax import __version__, builder, checks
from diffjax.config import ConfigError
from diffjax.data.images import Unreadable, decode
from diffjax.devices.mesh import layout
from diffjax.generation import Cascade as Chained
from diffjax.generation import Chain, Engine, Job
from diffjax.runs.cascade import Cascade
from diffjax.runs.editing import masked
from diffjax.runs.quality import errors
from diffjax.runs.trained import Trained, resampled
from diffjax.serve.limits import Limits
from diffjax.serve.previews import sketched
from diffjax.serve.requests import Asked

FORMATS = ("PNG", "JPEG", "WEBP")
"""The formats of images that a request may hold."""
PIXELS = 2**24
"""Largest number of pixels of an image that a request holds."""
PLANS = 64
"""Number of samplers whose tables are kept, those used last."""


@dataclass(frozen=True)
class Admitted:
    """A request that can be computed: its job, number of samples, and what its answer repeats."""

    job: Job | Chained
    num: int
    every: int
    passes: int  # of all samples
    about: dict[str, Any]


class Service:
    """The network of a server, its engine, and its counts.

    trained: the network. later: those that enlarge its samples, with the settings of each. slots,
    group: those of the engine, or of each. guided: whether requests may set a
    guidance weight; each row then costs the passes of guidance, also at weight 1. folder: of the
    run, which keeps what previews of latents need. Raises ConfigError for a network whose run
    cannot be sampled by an engine.
    """

    def __init__(
        self,
        trained: Trained,
        slots: int,
        limits: Limits,
        guided: bool = True,
        group: int | None = None,
        folder: Path | None = None,
        later: Sequence[tuple[Trained, Mapping[str, Any]]] = (),
    ):
        self.trained, self.limits = trained, limits
        self.guided, self.later = guided and _weighs(trained), later
        weight: dict[str, Any] = {"weight": 1.0} if self.guided else {}
        job = self._job(trained, **weight)
        self.form = job.decoding.stored
        planned = lambda **changes: resampled(trained, changes)
        self._planned = functools.lru_cache(PLANS)(planned)
        try:
            sizes: Any = {"slots": slots, "group": group, "limit": limits.waiting}
            sizes["mesh"] = layout().mesh
            chained = isinstance(job, Chained)
            self.engine: Any = Chain(job, **sizes) if chained else Engine(job, **sizes)
        except ValueError as error:
            raise ConfigError(f"config.sampling: {error}") from error
        if isinstance(self.engine, Engine):
            latents = trained.job(latents=True, **weight)
            self.engine.sketch = sketched(self.engine, job, latents, folder)
        self.texts = bool(trained.experiment.form.texts)
        self.errors = errors(trained, folder) if folder else {}
        self.registry = CollectorRegistry()
        self.registry.register(_Counts(self.engine))
        counter = functools.partial(Counter, registry=self.registry)
        self.refused = counter("diffjax_refused", "Requests that were refused.", ["reason"])
        self.waits = Histogram(
            "diffjax_wait_seconds", "From request to slot, per sample.", registry=self.registry
        )

    def about(self) -> dict[str, Any]:
        """Return what a client may want to know: the network, its conditions, and the limits."""
        e, form = self.trained.experiment, self.trained.experiment.form
        return {
            "network": e.config["network"]["name"],
            "step": self.trained.step,
            "kind": self.form.kind,
            "shape": self.form.shape,
            "classes": [form.named(k) or str(k) for k in range(form.classes)],
            "conditions": {spec.name: spec.kind for spec in form.conditions},
            "sampler": e.config["sampling"]["sampler"]["name"],
            "samplers": self.samplers,
            "steps": e.config["sampling"].get("steps", 50),
            "guided": self.guided,
            "guidance": _weight(e.config["sampling"].get("guidance", 1.0)),
            "prompts": self.texts,
            "keys": bool(self.limits.keys),
            "errors": self.errors,
            "unit": e.form.items.unit[1],
            "slots": self.engine.slots,
            "stages": 1 + len(self.later),
            "limits": {"num": self.limits.num, "steps": self.limits.steps},
            "version": __version__,
        }

    @functools.cached_property
    def samplers(self) -> list[str]:
        """The samplers that this network and its engine can run."""
        names = []
        for name in builder.SAMPLERS:
            try:
                self.engine.check(self._job(self._with(name, None)))
                names.append(name)
            except (ConfigError, ValueError):
                continue
        return names

    def _job(self, trained: Trained, **request: Any) -> Any:
        """Return the job of a request, or that of all stages where there are several."""
        networks, settings = [trained for trained, _ in self.later], [s for _, s in self.later]
        whole = Cascade((trained, *networks)).job(stages=settings, **request)
        return whole if self.later else whole.last

    def _with(self, sampler: str | None, steps: int | None) -> Trained:
        changes = {"sampler": sampler, "steps": steps}
        changes = {name: value for name, value in changes.items() if value is not None}
        return self._planned(**changes) if changes else self.trained

    def admitted(self, asked: Asked) -> Admitted:
        """Return the job of a request. Raises ConfigError or ValueError for what cannot work."""
        for name, most in {"num": self.limits.num, "steps": self.limits.steps}.items():
            if (value := getattr(asked, name)) is not None and value > most:
                raise ConfigError(f"{name}={value}: needs at most {most}")
        for name in ("guidance", "negative"):
            if (value := getattr(asked, name)) is not None and not self.guided:
                raise ConfigError(f"{name}={value}: this server has no guidance")
        seed = secrets.randbelow(checks.SEEDS) if asked.seed is None else asked.seed
        start, mask = self._pictures(asked)
        job: Any = self._job(
            self._with(asked.sampler, asked.steps),
            seed=seed,
            index=[*range(asked.index, asked.index + asked.num)],
            label=asked.label,
            prompt=asked.prompt,
            negative=asked.negative,
            cond=asked.cond,
            weight=asked.guidance,
            start=start,
            strength=1.0 if mask is not None and asked.strength is None else asked.strength,
        )
        job = job if mask is None else masked(job, mask)
        self.engine.check(job)
        stages: Sequence[Job] = job.jobs if self.later else (job,)
        passes, name = self.engine.passes(job), stages[0].about["sampler"]["name"]
        rows = sum(stage.plan.rows or 0 for stage in stages)
        about = {"seed": seed, "sampler": name, "rows": rows, "passes": passes}
        more = {name: getattr(asked, name) for name in ("guidance", "prompt", "negative")}
        about |= {name: value for name, value in more.items() if value is not None}
        return Admitted(job, asked.num, asked.every, passes * asked.num, about)

    def _pictures(self, asked: Asked) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the image from which samples start, (1, H, W, C), and its mask, (1, h, w, 1)."""
        if asked.mask is not None and asked.image is None:
            raise ConfigError("mask: applies to image, which is missing")
        if asked.image is None:
            return None, None
        if self.later:
            raise ConfigError("image: several networks enlarge noise; allowed: a server of one")
        if self.form.kind != "image":
            raise ConfigError(f"image: the network generates {self.form.kind}, no images")
        start, (w, h) = image("image", asked.image, self.form.shape)
        if asked.mask is None:
            return start, None
        grid = self.trained.experiment.form.shape[:2]  # that of the latents, if there are any
        # The mean over squares: other filters would leave traces of white where all is black.
        mask, (width, height) = image("mask", asked.mask, (*grid, 1), Image.Resampling.BOX)
        if abs(w * height - h * width) > max(width, height):
            raise ConfigError(
                f"mask: is {height} x {width}, and image {h} x {w}; needs its proportions"
            )
        return start, mask / 255

    def answer(self, item: np.ndarray, about: dict[str, Any]) -> dict[str, Any]:
        """Return a stored item as JSON: its picture in base64, and its values unless it is one."""
        label = about.get("label")
        labels = None if label is None else np.array([label])
        whole = item if self.form.kind == "image" else self.form.picture(item[None], labels)
        answer = {"png": base64.b64encode(png(whole, about)).decode()}
        return answer if self.form.kind == "image" else answer | {"values": item.tolist()}


def _weight(guidance: Any) -> float | None:
    """Return the weight of the guidance of a config, None where it is not one number."""
    weight = guidance.get("weight", 1.0) if isinstance(guidance, Mapping) else guidance
    return float(weight) if isinstance(weight, int | float) else None


def _weighs(trained: Trained) -> bool:
    """Return whether samples of this network may have guidance weights of their own."""
    try:
        trained.job(weight=1.0)
    except (ConfigError, ValueError):
        return False
    return True


def png(x: np.ndarray, about: dict[str, Any]) -> bytes:
    """Return an image uint8 (H, W, 1 or 3) as a PNG whose text says how it was generated.

    >>> data = png(np.zeros((2, 2, 3), np.uint8), {"seed": 3})
    >>> Image.open(io.BytesIO(data)).text["seed"]
    '3'
    """
    text, out = PngInfo(), io.BytesIO()
    for name, value in {"software": f"diffjax {__version__}", **about}.items():
        text.add_text(name, str(value))
    Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x).save(out, "png", pnginfo=text)
    return out.getvalue()


def image(
    name: str, text: str, shape: tuple[int, ...], scaling: Any = Image.Resampling.LANCZOS
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the picture in a text in base64, cut and scaled to the shape, uint8 (1, H, W, C).

    The second result is its (width, height) before. name: of the field, for messages. Raises
    ConfigError for a text that holds no PNG, JPEG or WebP, and for one of more than `PIXELS`
    pixels, whose pixels are not read.
    """
    try:
        data = base64.b64decode(text.partition("base64,")[2] or text, validate=True)
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > PIXELS:
            raise Image.DecompressionBombError
        x, _ = decode(lambda: picture, 0, shape[-1])
    except Image.DecompressionBombError as error:  # from the header, before pixels are read
        raise ConfigError(f"{name}: needs at most {PIXELS} pixels") from error
    except Unreadable as error:
        raise ConfigError(f"{name}: cannot be read ({error})") from error
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ConfigError(f"{name}: holds no PNG, JPEG or WebP in base64") from error
    whole = Image.fromarray(x[..., 0] if shape[-1] == 1 else x)
    fitted = ImageOps.fit(whole, (shape[1], shape[0]), scaling)
    return np.asarray(fitted).reshape(1, *shape), whole.size


class _Counts:
    """The counts of an engine, in the form of Prometheus."""

    def __init__(self, engine: Engine | Chain):
        self.engine = engine

    def collect(self) -> Any:
        stats = self.engine.stats
        for name in ("waiting", "running"):
            yield GaugeMetricFamily(f"diffjax_{name}", f"Samples {name}.", getattr(stats, name))
        yield GaugeMetricFamily("diffjax_slots", "Slots.", self.engine.slots)
        for name, what in {"ticks": "Rows of the batch.", "rows": "Rows of samples."}.items():
            yield CounterMetricFamily(f"diffjax_{name}", what, getattr(stats, name))
        ends = CounterMetricFamily("diffjax_samples", "Samples by their end.", labels=["end"])
        for name in ("done", "failed", "cancelled"):
            ends.add_metric([name], getattr(stats, name))
        yield ends
