"""A job: samples of one network by one sampler, stored on disk for all metrics.

Sample k depends only on its seed, its number, its conditions and its guidance weight. So a killed
command resumes where it stopped, another metric reuses the stored samples, and a larger number adds
to them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffjax import checks
from diffjax.arrays import stream, streams, taken
from diffjax.codecs import Codec, Decoding
from diffjax.config import Config, ConfigError
from diffjax.data.form import Form
from diffjax.denoiser import Denoiser
from diffjax.devices.mesh import layout
from diffjax.devices.processes import first
from diffjax.generation.described import counted, shown
from diffjax.generation.generated import Generated, Trajectory
from diffjax.generation.low import Low
from diffjax.generation.program import Generation, generate
from diffjax.generation.stored import FILED, Arrays, keep, stored
from diffjax.generation.tiled import Tiled
from diffjax.io.trees import fingerprint
from diffjax.progress import Progress, many
from diffjax.samplers.plan import Plan, Sampling
from diffjax.samplers.run import Preview
from diffjax.watermark import Watermark

NUM = 64
"""The default number of samples."""
PARTS = 10
"""Number of parts in which the rows of a batch are computed where progress or previews are shown,
unless `every` sets the length of a part. The host sees the samples between two parts."""
LONG = 100
"""The smallest number of rows for which progress counts rows. A sampler with fewer rows computes a
batch in one call, as that takes little time, and progress counts samples."""
LINES = 60.0
"""Seconds between two lines of progress where there is no terminal for a progress bar."""


@dataclass(frozen=True)
class Job:
    """A trained network, possibly in tiles, with the settings by which it is sampled.

    form, config: those with which the network was trained. about: entries of the protocol on
    network and sampler: config.sampling, trained, ema. cond: conditions by name in rows (K, ...).
    The samples take the rows of cond in turn, and so the values of each of the following lists.

    seed: one seed for all samples, which are numbers 0, 1, ... of one run, or several. With
    several, sample k has the seed seed[k mod K] and is number k // K of that run: each seed gives
    the samples that it gives alone. index: the numbers of samples within their runs, in place of
    those. prompts: the texts that cond encodes, for pictures and the protocol; negative: the text
    that guidance leads away from. weight: guidance weights, in place of that of the config; the
    plan then supports weights per sample (`Sampling.weighted`). start: items (K, *shape) as the
    network sees them, from which samples start with noise in place of the prior. strength: the
    share of the steps that the plan has then, in (0, 1]. batch_size: samples per batch; samples do
    not depend on it. codec: decodes latents to the images that are stored; None stores samples in
    their own form. tile: see `Decoding`. low: smaller items that samples enlarge, which give
    further conditions, or None. watermark: the message in the signs of the initial noise, or None.
    known: the positions of the leading axis whose values are those of `start` in each sample; the
    others start from the prior.
    """

    denoise: Denoiser | Tiled
    plan: Sampling
    form: Form
    config: Config
    about: Mapping[str, Any]
    seed: int | tuple[int, ...] = 0
    batch_size: int = 256
    cond: Mapping[str, np.ndarray] = field(default_factory=dict)
    index: tuple[int, ...] = ()
    prompts: tuple[str, ...] = ()
    negative: str = ""
    weight: tuple[float, ...] = ()
    start: np.ndarray | None = None
    strength: float = 1.0
    codec: Codec | None = field(default=None, repr=False)
    tile: int = 0
    low: Low | None = field(default=None, repr=False)
    watermark: Watermark | None = None
    known: tuple[int, ...] = ()

    def __post_init__(self):
        for seed in (self.seed,) if isinstance(self.seed, int) else self.seed:
            checks.seed(seed)
        checks.whole(1, batch_size=self.batch_size)

    @functools.cached_property
    def decoding(self) -> Decoding:
        """The function from samples to stored items."""
        return Decoding(self.form, self.codec, self.tile)

    @functools.cached_property
    def weights(self) -> str:
        """Fingerprint of the parameters."""
        return fingerprint("", self.denoise)

    @functools.cached_property
    def key(self) -> str:
        """Name of the job: its sampler, and a fingerprint of all that its samples depend on."""
        config = {k: self.config[k] for k in ("sde", "parameterization", "network")}
        others = {name: rows for name, rows in self.cond.items() if name != "label"}
        turn = np.asarray(self.cond.get("label", ())).tolist()
        facts = [dict(self.about), config, self.form.shape, self.seed, turn, self.weights]
        facts += [[name, listed] for name, listed in self.listed.items() if name != "seed"]
        facts += [self.started] if self.started else []
        facts += [["negative", self.negative]] if self.negative else []
        facts += [self.decoded] if self.decoded else []
        facts += [self.enlarged, self.low.enlarged] if self.low else []
        facts += [self.marked, self.watermark.message] if self.watermark else []
        return f"{self.about['sampler']['name']}-{fingerprint(facts, (self.plan, others))}"

    @property
    def listed(self) -> dict[str, list[Any]]:
        """Lists that samples take in turn beside conditions: seeds, numbers, prompts, weights."""
        several = {"seed": self.seed if isinstance(self.seed, tuple) else ()}
        several |= {"index": self.index, "prompt": self.prompts, "weight": self.weight}
        return {name: [*values] for name, values in several.items() if values}

    @property
    def enlarged(self) -> dict[str, Any]:
        """Entries of the protocol on the smaller items that samples enlarge; {} without any."""
        return self.low.facts if self.low else {}

    @property
    def stream(self) -> str:
        """The name of the random stream of the samples."""
        return self.low.stream if self.low else "sample"

    def conditions(self, num: int) -> dict[str, np.ndarray]:
        """Return all conditions of samples 0, ..., num - 1 by name, (num, ...) each."""
        given = taken(self.cond, num)
        if not self.low:
            return given
        asked = self.requests(num)
        by_place = self.low.by_place(asked["seed"], asked["index"], num)
        return given | by_place(np.arange(num))

    @property
    def started(self) -> dict[str, Any]:
        """Entries of the protocol on the items that samples start from; {} for the prior."""
        if self.start is None:
            return {}
        items = {"items": len(self.start), "fingerprint": fingerprint("", self.start)}
        if self.known:
            return {"given": items, "known": [*self.known]}
        return {"start": items, "strength": self.strength}

    @property
    def decoded(self) -> dict[str, Any]:
        """Entries of the protocol on the codec; {} without one."""
        if self.codec is None:
            return {}
        facts = {"fingerprint": self.codec.fingerprint, "about": self.codec.about}
        return {"codec": facts | ({"tile": self.tile} if self.tile else {})}

    @property
    def marked(self) -> dict[str, Any]:
        """Entries of the protocol on the watermark; {} without one."""
        return self.watermark.facts if self.watermark else {}

    def __str__(self) -> str:
        plan = self.plan.weighted(np.asarray(self.weight)) if self.weight else self.plan
        steps = f"{plan.rows} rows, {counted(plan)} per sample" if plan.rows else "steps by error"
        guidance = shown(self.about["guidance"])
        if self.weight:
            weights = ", ".join(f"{w:g}" for w in self.weight)
            guidance = f"{shown(self.about['guidance'], weights)} for samples in turn"
        start = ""
        if self.start is not None:
            start = f", from {many(len(self.start), self.form.items.noun)}"
            start += f", strength {self.strength:g}"
            if self.known:
                start = f", given {many(len(self.known), 'position')} of "
                start += many(len(self.start), self.form.items.noun)
        start += f", watermark {self.watermark.key.name}" if self.watermark else ""
        return (
            f"step {self.about['trained']}, ema {self.about['ema'] or '-'}, "
            f"{self.about['sampler']['name']}: {steps}, guidance {guidance}{start}"
        )

    def __repr__(self) -> str:
        return f"Job({self})"

    def protocol(self, samples: Generated) -> dict[str, Any]:
        """Return the protocol of samples: how they were generated.

        passes: network passes of one sample, the mean where they differ. seconds: the time of all
        samples, without that of the compiler.
        """
        passes = None if self.weight else self.plan.passes
        passes = passes or round(float(samples.passes.mean()), 1)
        facts = {"seed": self.seed, "num": len(samples.x), "rows": self.plan.rows, "passes": passes}
        facts |= {"weights": self.weights, "seconds": round(float(samples.seconds.sum()), 3)}
        return dict(self.about) | facts | self._own

    @property
    def _own(self) -> dict[str, Any]:
        """Entries of the protocol on what the samples take in turn, start from and become."""
        facts = self.listed | self._away | self.started | self.enlarged | self.decoded
        return facts | self.marked

    @property
    def _away(self) -> dict[str, str]:
        return {"negative": self.negative} if self.negative else {}

    def check(self, num: int) -> None:
        """Raise ConfigError for lists with more values than samples: some would have no sample."""
        starts = {} if self.start is None else {"given" if self.known else "from": self.start}
        check_lists(num, **self.listed, **starts)

    def requests(self, num: int) -> dict[str, Any]:
        """Return seeds, numbers within their runs, weights and starts of samples 0, ..., num - 1.

        They have the form that `Generation` expects: arrays (num,), but for a single seed; None for
        lists that are not given. x0 (num, *shape): the items that samples start from.
        """
        turn = lambda values: np.resize(values, num) if values else None
        seeds, index = self.listed.get("seed", []), turn(self.index)
        if seeds and index is None:
            index = np.arange(num) // len(seeds)
        return {
            "seed": turn(seeds) if seeds else self.seed,
            "index": index,
            "weight": turn(self.weight),
            "x0": None if self.start is None else taken({"x0": self.start}, num)["x0"],
        }

    def _arguments(self, num: int) -> dict[str, Any]:
        """Return the arguments of `Generation` that `requests` and `low` determine."""
        asked = self.requests(num)
        low = self.low and self.low.by_place(asked["seed"], asked["index"], num)
        signs = self.watermark.signs if self.watermark else None
        return asked | {"stream": self.stream, "low": low, "signs": signs}

    def samples(
        self,
        num: int,
        folder: Path | None = None,
        *,
        preview: Callable[[Preview], None] | None = None,
        every: int | None = None,
    ) -> Generated:
        """Return samples 0, ..., num - 1: those in the folder, and the others, which are generated.

        Each new batch is written to the folder as one file, named by its first sample, in the
        layout of `sample --out` and with its costs. The batches are split over all devices of all
        processes. preview: called with the samples in progress after every `every` rows (by default
        a tenth of the rows), as in `Generation`; samples from the folder have no previews. Raises
        ValueError for previews of adaptive steps, and ConfigError for lists with more values than
        samples.
        """
        checks.whole(1, num=num, every=1 if every is None else every)
        self.check(num)
        parts = stored(folder, num) if folder else []
        start = sum(len(part["arr_0"]) for part in parts)
        for part in self._batches(start, num, preview, every):
            if folder and first():
                keep(folder, start, part, dict(self.about) | self._own)
            start += len(part["arr_0"])
            parts.append(part)
        whole = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        cond = {name: whole[FILED.get(name, name)] for name in self.cond}
        marked = self.marked or {"watermark": "none"}
        return Generated(
            whole["arr_0"],
            cond,
            whole["passes"],
            whole["seconds"],
            self.decoding.stored,
            self.listed,
            dict(self.about) | {"seed": self.seed, "weights": self.weights} | self._away | marked,
        )

    def path(self, num: int) -> Trajectory:
        """Return the trajectory of samples 0, ..., num - 1.

        Raises ValueError for a sampler without a table.
        """
        checks.whole(1, num=num)
        if not isinstance(plan := self.plan, Plan):
            raise ValueError(f"{plan.tableless}; a trajectory needs the rows of a table")
        cond = {name: jnp.asarray(value) for name, value in self.conditions(num).items()}
        seed, index, weight, x0 = self.requests(num).values()
        of_seeds = streams if np.ndim(seed) else stream
        key = of_seeds(seed.astype(np.uint32) if np.ndim(seed) else seed, self.stream)
        index = np.arange(num) if index is None else index
        seeds, shape = np.broadcast_to(seed, num), self.form.shape
        signs = self.watermark.signs(seeds, index, shape) if self.watermark else None
        plan = plan if weight is None else plan.weighted(weight)
        x0 = None if x0 is None else jnp.asarray(x0)
        index, signs = jnp.asarray(index), None if signs is None else jnp.asarray(signs)
        result = generate(self.denoise, plan, key, index, cond, x0, signs, shape=shape, path=True)
        assert result.path is not None
        given = {k: np.asarray(v) for k, v in cond.items()}
        whole = lambda rows: np.stack([self.form.completed(np.asarray(x), given) for x in rows])
        x, x0 = map(whole, result.path)
        return Trajectory(x, x0, plan.table.latest, self.form.stored.kind)

    def _batches(
        self,
        start: int,
        num: int,
        preview: Callable[[Preview], None] | None,
        every: int | None,
    ) -> Iterator[Arrays]:
        """Generate samples start, ..., num - 1 batch by batch.

        Progress counts rows where it is shown within a batch, else samples.
        """
        if start >= num:
            return
        form, cond, devices = self.form, taken(self.cond, num), layout().mesh
        noun = self.decoding.stored.items.noun
        rows, quiet = self.plan.rows or 0, not first()
        every = max(1, -(-rows // PARTS)) if every is None else every

        def look(seen: Preview) -> None:
            progress.advance((seen.row - 1) % every + 1)
            if preview:
                given = {k: v[done : done + len(seen.x)] for k, v in cond.items()}
                x, x0 = (form.completed(np.asarray(a), given) for a in (seen.x, seen.x0))
                preview(seen._replace(x=x, x0=x0))

        by_rows = preview is not None or rows >= LONG
        watch = {"preview": look, "every": every} if by_rows else {}
        generation = Generation(
            self.denoise,
            self.plan,
            num=num,
            shape=form.shape,
            cond=cond,
            batch_size=self.batch_size,
            mesh=devices,
            start=start,
            **self._arguments(num),
            **watch,
        )
        done = start
        total, unit = (rows * len(generation), "row") if by_rows else (num, noun)
        ready = 0 if by_rows else start
        began = last = time.monotonic()
        with Progress("sample", total, unit, ready, quiet=quiet, lines=LINES) as progress:
            for x in generation:
                now, count = time.monotonic(), len(x)
                carried = {k: v[done : done + count] for k, v in cond.items()}
                yield {
                    "arr_0": form.completed(self.decoding(x), carried),
                    **{FILED.get(k, k): v for k, v in carried.items()},
                    "passes": np.array(generation.passes[-count:], np.int32),
                    "seconds": np.full(count, (now - last) / count),
                }
                progress.advance(0 if by_rows else count)
                done, last = done + count, time.monotonic()
        rate = (num - start) / (time.monotonic() - began)
        print(f"compiled in {generation.compile_seconds:.1f} s, then {rate:.1f} {noun}s/s")


def check_lists(num: int, **lists: Any) -> None:
    """Raise ConfigError for lists with more values than the `num` samples that take them in turn.

    lists: by the name of their flag; a single value, and None, applies to all samples.

    >>> check_lists(2, label=[3, 4], seed=7)
    >>> check_lists(2, label=[3, 4, 5])
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: --label: 3 values for 2 samples; needs at most 2
    """
    for name, values in lists.items():
        if np.ndim(values) and len(values) > num:
            raise ConfigError(
                f"--{name}: {len(values)} values for {many(num, 'sample')}; needs at most {num}"
            )


def number(
    seed: int | Sequence[int],
    index: Sequence[int] = (),
    weight: Sequence[float] = (),
    prompts: Sequence[str] = (),
    starts: int = 0,
) -> int:
    """Return the default number of samples: 64, or the length of the longest list.

    starts: number of items to start from. A single seed, weight, prompt or item applies to all
    samples; a single index is a list.
    """
    seeds = seed if isinstance(seed, Sequence) else ()
    longest = max(len(seeds), len(index), len(weight), len(prompts), starts)
    return longest if index or longest > 1 else NUM
