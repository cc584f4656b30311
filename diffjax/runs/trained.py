"""A trained network with its process, loaded from a run or from a published checkpoint."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from diffjax import builder, zoo
from diffjax.codecs import Codec, Decoding
from diffjax.config import Config, ConfigError, written
from diffjax.denoiser import Denoiser
from diffjax.generation.generated import Generated
from diffjax.generation.job import Job, check_lists, number
from diffjax.io.contents import Contents
from diffjax.published import bare, pipelines
from diffjax.runs.adapters import Adapters, Opened, merged, notes, patched, with_adapters
from diffjax.runs.adapters import read as read_adapters
from diffjax.runs.changes import coded, replaced
from diffjax.runs.controls import mapped, within
from diffjax.runs.known import taken_from
from diffjax.runs.lows import conditioned, larger
from diffjax.runs.marking import marked
from diffjax.runs.published import check_published, completed, form_of, known_family, opened
from diffjax.runs.requests import encoded, in_turn, without_text
from diffjax.runs.sizes import sized
from diffjax.runs.starts import Begin, starting
from diffjax.samplers.plan import Sampling
from diffjax.samplers.run import Preview
from diffjax.sde import SDE
from diffjax.training.experiment import Experiment
from diffjax.training.workdir import (
    Weights,
    check_weights,
    is_run,
    load_weights,
    read_config,
    read_form,
    write_weights,
)

if TYPE_CHECKING:
    from diffjax.runs.restored import Restored


@dataclass(frozen=True)
class Trained:
    """A trained network that can be sampled, evaluated, trained further and exported.

    denoise: x_t, t, cond -> prediction, with averaged parameters. experiment: all objects of the
    config. step: the number of training steps. ema: the name of the average of the parameters,
    `raw` for the parameters themselves, "" if unknown. notes: the differences between a converted
    network and its original.
    """

    denoise: Denoiser
    experiment: Experiment
    step: int = 0
    ema: str = ""
    notes: tuple[str, ...] = ()

    @property
    def sde(self) -> SDE:
        """The noising process."""
        return self.denoise.sde

    @property
    def config(self) -> Config:
        """The config from which the experiment was built."""
        return self.experiment.config

    @property
    def conditional(self) -> bool:
        """Whether guidance has a condition to act on, besides the smaller item to enlarge."""
        enlarged, form = self.experiment.reading.enlarged, self.experiment.form
        own = enlarged.names if enlarged else ()
        return any(spec.kind != "length" and spec.name not in own for spec in form.conditions)

    @property
    def weights(self) -> Weights:
        """The parameters, with the number of training steps and the name of their average."""
        return Weights(self.step, self.denoise.params, self.ema)

    @property
    def codec(self) -> Codec | None:
        """The codec of `config.data.codec`, by which latents become images; None without one."""
        return self.experiment.decoding.codec

    def job(
        self,
        *,
        seed: int | Sequence[int] = 0,
        index: int | Sequence[int] | None = None,
        label: int | str | Sequence[int | str] | None = None,
        prompt: str | Sequence[str] | None = None,
        negative: str | None = None,
        cond: Mapping[str, Any] | None = None,
        control: Any = None,
        weight: float | Sequence[float] | None = None,
        start: Any = None,
        strength: float | None = None,
        batch_size: int = 256,
        latents: bool = False,
        tile: int = 0,
        low: Any = None,
        tau: float | Sequence[float] | None = None,
        watermark: Any = None,
        size: int | Sequence[int] | None = None,
        given: Any = None,
        known: Sequence[int] | None = None,
        **sampling: Any,
    ) -> Job:
        """Prepare a job: `.samples(num)` generates samples, `.path(num)` shows their trajectories.

        Samples use lists in turn. seed: one, or several. index: the numbers of the samples. label:
        classes by number or name, by default all. prompt: texts to draw. negative: a text to guide
        away from. cond: conditions by name, by default of held-out items: a number, a list or an
        array, of one sample or in rows; None for a missing one; a file of arrays; a picture of a
        map. control: stored images, or their path, whose maps are conditions. weight: guidance
        weights; a list in `guidance` has one for each row. start: stored items, one or several, or
        their path, from which samples start in turn (arXiv:2108.01073). strength: the share of the
        steps from there, in (0, 1], by default 0.6. given, known: items, or `test:INDEX,...`, and
        the positions that samples keep of them. latents: neither decode latents nor encode `start`.
        tile: see `Decoding`. low, tau: smaller items to enlarge, noised. watermark, size: see
        `runs`. sampling: other fields of config.sampling. Raises ConfigError for a bad request.
        """
        turns = in_turn(seed, index, prompt, weight, sampling.get("guidance"))
        e = (trained := sized(self._sampled_by(sampling), size, (start, low, control))).experiment
        decoding = trained._decoding(latents, tile)
        begin = taken_from(e, given, known, start, low, watermark)
        begin = begin or Begin(*starting(e, start, strength, decoding))
        cond = mapped(e, cond or {}, control)
        small, conds = conditioned(e, low, tau, label, cond, turns)
        plan = _plan(trained, turns.weight, begin, negative, conds if cond else {})
        denoise, form = larger(within(trained.denoise, plan), e.form, small)
        return Job(
            *(denoise, plan, form, e.config),
            builder.SAMPLING | e.config["sampling"] | {"trained": self.step, "ema": self.ema},
            **turns._asdict(),
            batch_size=batch_size,
            cond=conds,
            negative=negative or "",
            **begin._asdict(),
            codec=decoding.codec,
            tile=tile,
            low=small,
            watermark=marked(watermark, plan, form, begin.start, small),
        )

    def _sampled_by(self, sampling: Config) -> Trained:
        if "ema" in sampling:
            ema = sampling["ema"]
            raise ConfigError(f"ema={ema}: is chosen when the run is loaded: load(ema=...)")
        return resampled(self, sampling) if sampling else self

    def _decoding(self, latents: bool, tile: int) -> Decoding:
        decoding = Decoding(self.experiment.form) if latents else self.experiment.decoding
        return builder.refuse("--tile")(dataclasses.replace)(decoding, tile=tile)

    def sample(
        self,
        num: int | None = None,
        *,
        preview: Callable[[Preview], None] | None = None,
        every: int | None = None,
        **request: Any,
    ) -> Generated:
        """Generate samples 0, ..., num - 1, as `python -m diffjax.sample` does.

        num: by default 64, or the length of the longest list of seeds, indices, prompts or weights.
        preview: a function that receives the intermediate samples. every: the number of rows
        between two of its calls, see `Job.samples`. request: see `job`.

            trained.sample(seed=[3, 5, 8], label=7)  # three samples, the first of each seed
            trained.sample(index=17, weight=[1, 2, 4])  # sample 17 of seed 0, guided more and more
            trained.sample(prompt=["red apple, noto style", "cat, fluent style"], guidance=3)
            trained.sample(start="cat.png", strength=0.6)  # 64 variants of a picture
        """
        job = self.job(**request)
        starts = 0 if job.start is None else len(job.start)
        num = number(job.seed, job.index, job.weight, job.prompts, starts) if num is None else num
        check_lists(num, label=request.get("label"))
        return job.samples(num, preview=preview, every=every)

    def restore(
        self, image: Any = None, problem: Any = "half", *, y: Any = None, **request: Any
    ) -> Restored:
        """Sample images given a measurement, as `python -m diffjax.tools.restore` does.

        image: the true images, which are measured with simulated noise: an array of stored items, a
        path, or `test:INDEX,...`. problem: what is measured, an entry of `inverse.OPERATORS` as
        `name:argument=value,...`, `mask:file=FILE`, or an operator. y: measurements (K, ...) in the
        range of the network, in place of an image, or a file of them. request: `std` of the noise;
        `method`, an entry of `inverse.METHODS`; `num` samples per image; `seed`; `label`, the class
        of all images or of each; `batch_size`; `decoder`, a function of latents (B, h, w, c) to
        images in [-1, 1] in place of the codec of the data; and fields in place of those of
        config.sampling. Raises ConfigError for a request that cannot be computed.

            trained.restore("test:0,1", "box:size=0.4", std=0.05, method="daps", num=16)
        """
        from diffjax.runs.restoring import restoration

        return restoration(self, image, problem, y=y, **request).run()

    def __repr__(self) -> str:
        count = sum(a.size for a in jax.tree.leaves(self.denoise.params))
        network, form = self.config["network"], self.experiment.form
        about = f"{form.kind} {form.shape}, conditions={form.names}, step={self.step}"
        target = self.config.get("parameterization")
        process = f", {target['name']} under {self.sde}" if target else ""
        return f"Trained({network['name']}, {count:,} parameters, {about}{process})"

    def merged(self) -> Trained:
        """Return the network with its adapter merged into its kernels; others are unchanged."""
        return merged(self)

    def save(self, folder: str | Path) -> None:
        """Export the network to a folder, from which `load` and all commands but train read it.

        Raises ConfigError for a folder that is not empty or cannot be written.
        """
        write_weights(Path(folder), self.experiment, self.weights)


def load(
    path: str | Path,
    sampling: Config | None = None,
    ema: str | float | None = None,
    *,
    network: Any = None,
    objective: Any = None,
    source: Any = None,
    family: str = "",
    settings: Config | None = None,
    codec: str = "",
    adapters: Adapters = (),
) -> Trained:
    """Load the network in the workdir of a run, in a published checkpoint, or in the zoo.

    sampling: fields in place of those of config.sampling. ema: the average of the parameters: a
    name in config.ema, `raw`, or a width that `tools.ema` has computed. network, objective, source:
    functions or classes in place of those that the config names, for code that belonged to a
    notebook or has moved; their settings stay. family: the family of a published checkpoint, by
    default recognised by its tensors. settings: values that the checkpoint does not state, as with
    --set of `tools.convert`. codec: the codec of a network of latents, in place of that of
    config.data, such as a path (`builder.construct_codec`). adapters: paths of adapters to merge
    into the kernels, or their weights by path: runs, and files with the names of modules that this
    run or checkpoint has. Raises ConfigError where the path holds no network.

        trained = diffjax.load("digits")  # an entry of the zoo, which comes with the package
        trained = diffjax.load("runs/moons", ema=0.1)  # a run, with its post-hoc EMA of width 0.1
        trained = diffjax.load("edm-cifar10-32x32-cond-vp.pkl")  # a published checkpoint
        trained = diffjax.load("stable-diffusion-v1-5")  # a pipeline from text to images
        trained = diffjax.load("runs/digits", adapters={"runs/nine": 0.8, "bold.safetensors": 0.3})
        trained.sample(16, label=3, steps=20).picture()  # uint8 (H, W, 3)

    >>> import tempfile
    >>> from diffjax import config
    >>> e = builder.experiment(config.override(config.load("moons_vp"), ["network.width=8"]))
    >>> with tempfile.TemporaryDirectory() as place:
    ...     Trained(e.denoiser(e.parameters()), e).save(f"{place}/export")
    ...     load(f"{place}/export").job(seed=[3, 5], label=1, steps=20)
    Job(step 0, ema -, ddim: 20 rows, 20 network passes per sample, guidance 1)
    """
    path, sampling = zoo.found(path), dict(sampling or {}) | ({} if ema is None else {"ema": ema})
    entries = {"network": network, "loss": objective, "data": source}
    entries = {section: entry for section, entry in entries.items() if entry is not None}
    if not path.exists() or is_run(path):
        if family or settings:
            raise ConfigError(f"{path}: is a run of diffjax; family and settings do not apply")
        config = coded(replaced(read_config(path), sampling), codec)
        for section, entry in entries.items():
            config[section] = {**config[section], "name": written(entry, section)}
        experiment = builder.experiment(config, read_form(path))
        step, params, ema = load_weights(experiment, path)
        trained = Trained(experiment.denoiser(params), experiment, step, ema)
        return with_adapters(trained, read_adapters(adapters))
    check_published(path, entries, sampling)
    contents, family = opened(path, family)
    change = lambda config: coded(replaced(config, sampling), codec)
    chosen = read_adapters(adapters)
    trained = convert(contents, family, path, settings, change, chosen)
    params = jax.tree.map(jnp.asarray, trained.denoise.params)
    return dataclasses.replace(trained, denoise=trained.experiment.denoiser(params))


def _plan(
    trained: Trained,
    weights: Sequence[float],
    begin: Begin,
    negative: str | None,
    cond: Mapping[str, Any],
) -> Sampling:
    """Return how to sample, and log what a user should read before; arguments as in `Trained.job`.

    cond: the conditions of samples, {} where the request sets none.
    """
    e, weighed = trained.experiment, bool(weights)
    away = None if negative is None else encoded(e, [negative], "--negative")
    empty = {} if not e.form.texts or negative is not None else without_text(e)
    for line in builder.doubts(e, weights, cond, empty=bool(empty)):
        logging.warning(line)
    null = {"negative": away, "empty": empty} | ({"known": begin.known} if begin.known else {})
    return e.plan(trained.sde, per_sample=weighed, strength=begin.strength, **null)


def resampled(trained: Trained, sampling: Config) -> Trained:
    """Return the network with other fields in config.sampling."""
    config = replaced(trained.config, sampling)
    experiment = builder.experiment(config, trained.experiment.form)
    return dataclasses.replace(trained, experiment=experiment)


def convert(
    contents: Contents,
    family: str,
    path: Path,
    settings: Config | None = None,
    change: Callable[[Config], Config] = dict,
    adapters: Sequence[Opened] = (),
) -> Trained:
    """Convert a published checkpoint; the parameters of the result are NumPy arrays.

    settings: arguments of the family for values that the contents do not state. change: a function
    that modifies the config before anything in it is checked. adapters: those to merge into its
    tensors, or to put beside it. Raises ConfigError for a checkpoint that cannot be converted.
    """
    refuse, entry = builder.refuse(str(path)), known_family(family)
    contents, about = refuse(bare)(contents, entry)
    controls = [each for each in adapters if each.stored.branches]
    merging = [each for each in adapters if not each.stored.branches]
    contents = patched(contents, merging)
    bound = builder.call(entry.convert, settings or {}, family, partial=True, contents=contents)
    converted, pipeline = refuse(bound)(), refuse(pipelines.read)(path)
    if pipeline:
        converted = refuse(pipelines.joined)(converted, pipeline, path)
    form, config = form_of(converted, path), change(completed(converted))
    if enlarged := builder.construct_data(config["data"], "config.data", opened=False)[1].enlarged:
        form = refuse(enlarged.form)(form)
    experiment = builder.experiment(config, form)
    params = {"network": converted.params}
    refuse(check_weights)(experiment, params)
    about = (*about, *converted.notes, *notes(merging))
    trained = Trained(experiment.denoiser(params), experiment, notes=about)
    return with_adapters(trained, controls)
