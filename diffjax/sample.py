"""Sample from a trained run, or from a converted checkpoint.

    python -m diffjax.sample --workdir=runs/digits --num=64
    python -m diffjax.sample --workdir=runs/digits --sampler=dpmpp_2m --steps=20 --guidance=1.5 \\
        --label=3 --out=threes.npz
    python -m diffjax.sample --workdir=runs/digits --index=17 --weight=1,2,4
    python -m diffjax.sample --workdir=runs/digits --from=three.png --strength=0.6
    python -m diffjax.sample --workdir=runs/emoji --prompt="red apple, noto style" \\
        --prompt="hedgehog, fluent style" --negative="face" --guidance=3
    python -m diffjax.sample --workdir=runs/emoji --prompt="cat, noto style" --size=32x48
    python -m diffjax.sample --workdir=runs/moons --trajectory=moons.gif
    python -m diffjax.sample --workdir=runs/series --given=test:0 --known=0:8 --lanes=pyramid
    python -m diffjax.sample --workdir=runs/digits_base --then=runs/digits_enlarged,tau=0.1
    python -m diffjax.sample --workdir=runs/digits_enlarged --low=small.png --tau=0,0.2

Sample k depends on (seed, k) and its conditions only, not on --num or --batch-size. By default
sample k has the label k mod the number of classes, or, where the network has other conditions too,
all conditions of held-out item k; --label and --cond replace them. Without a flag, the value of the
config applies.

Samples take the values of a list in turn. Several --seed give the first sample of each seed, then
the second sample of each, the same samples that every seed gives alone; --index chooses other
numbers. So --index=17 --weight=1,2,4 gives sample 17 of the run three times, with increasing
guidance.

A network that was trained with captions draws what --prompt says; --prompts=FILE has one prompt per
line. Guidance leads away from the text of --negative, or from no text. A picture shows the prompts,
and its metadata hold them with seed and sampler.

--from=photo.png --strength=0.6 generates variants of a picture: noise is added to it, and the last
60 % of the steps start from there. Sample k starts from item k of a file or a folder, in turn.

--given=test:0,1 --known=0:8 keeps the first 8 positions of held-out items 0 and 1, in turn, and
samples the others given them, for networks that were trained with a time per position
(config.loss.name=forcing): forecasts of series, continuations of videos. --lanes chooses the order.

--then=RUN enlarges the samples with another run, and the samples of that run with the next one: a
cascade. Its first picture is there, beside --out, before the second stage begins. --low=photo.png
enlarges items of your own, in tiles where they are larger than those of training.

--quality=0.02 chooses the sampler and the number of steps with the fewest network passes for this
error, from the curves that `tools.steps` has measured, and prints what it will take.

--watermark=KEYFILE,message=TEXT encrypts a message into the signs of the initial noise, which
`python -m diffjax.tools.watermark detect` reads again; the samples keep their distribution.

Without --out the picture is WORKDIR/samples.png, or samples_2.png, ... beside earlier pictures. The
command replaces a file that --out names, and reports that; a folder has to be new or empty.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.config import ConfigError

if TYPE_CHECKING:
    from diffjax.codecs import Decoding
    from diffjax.data.form import Form
    from diffjax.generation import Generated
    from diffjax.runs.cascade import Cascade
    from diffjax.runs.output import Sign
    from diffjax.runs.trained import Trained


def condition(text: str) -> tuple[str, Any]:
    """Parse `NAME=VALUE`: a name, and a number, lists, None for null, or the path of a file."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"{text}: needs NAME=VALUE or NAME=FILE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def share(text: str) -> float:
    """Parse a share in (0, 1]."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: needs 0 < strength <= 1")
    return value


def sides(text: str) -> tuple[int, ...]:
    """Parse `HxW`, or one number."""
    parts = text.split("x")
    if len(parts) > 2 or not all(part.isdigit() and 0 < int(part) < 2**16 for part in parts):
        raise argparse.ArgumentTypeError(f"{text}: needs HxW, such as 768x1024, or one number")
    return tuple(int(part) for part in parts)


def flags() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = cli.parser("sample", __doc__)
    flags.add_argument(
        "--num",
        type=cli.positive,
        help="number of samples (default: 64, or as many as --seed, --index and --weight list)",
    )
    flags.add_argument(
        "--index",
        type=cli.listed(cli.whole(0, cli.MOST)),
        metavar="NUMBER,...",
        help="numbers k of the samples to generate, in turn (default: 0,1,2,...)",
    )
    flags.add_argument(
        "--weight",
        type=cli.listed(cli.number),
        metavar="WEIGHT,...",
        help="guidance weights that the samples use in turn; --guidance sets one for all samples",
    )
    flags.add_argument(
        "--from",
        dest="start",
        type=cli.path,
        metavar="FILE|FOLDER",
        help="start from noised items, in turn, instead of noise: an image or a folder of images "
        "(resized and cropped as config.data.size does), an .npy or .npz file, or a file that "
        "--out writes for this kind of data",
    )
    flags.add_argument(
        "--strength",
        type=share,
        help="share of the steps that run after --from, in (0, 1]; 1 changes most (default: 0.6)",
    )
    given_flags(flags)
    flags.add_argument(
        "--label",
        type=cli.listed(str),
        metavar="CLASS,...",
        help="class, or classes in turn, by number or name: 3 or 0,1,2 or cat (default: all)",
    )
    flags.add_argument(
        "--quality",
        type=cli.number,
        metavar="ERROR",
        help="choose sampler and steps for this root-mean-square error in the range of the network "
        "(images: [-1, 1]), as `tools.steps` has measured it for this run",
    )
    cli.prompt_flags(flags)
    condition_flags(flags)
    output_flags(flags)
    cli.provenance_flags(flags)
    cli.sampling_flags(flags, seeds=True)
    cli.cascade_flags(flags)
    cli.cluster_flags(flags)
    return flags


def given_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of known positions."""
    flags.add_argument(
        "--given",
        metavar="FILE|test:INDEX,...",
        help="items of which samples keep the positions of --known, in turn: a file, as of --from, "
        "or held-out items; for networks that were trained by forcing",
    )
    flags.add_argument(
        "--known",
        type=cli.places,
        metavar="FROM:TO,...",
        help="positions of the leading axis that samples take from --given, as 0:8 for a past of 8",
    )


def condition_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of conditions other than classes and texts."""
    flags.add_argument(
        "--cond",
        type=condition,
        action="append",
        metavar="NAME=VALUE|FILE",
        help="a condition: a number, a list, or null for a missing one; or an .npy or .npz file "
        "with one row per sample or a single row for all; of a map also a picture; may be repeated "
        "(default: conditions of held-out items)",
    )
    flags.add_argument(
        "--control",
        type=cli.path,
        metavar="FILE|FOLDER",
        help="images, as of --from, whose maps (config.data.maps) samples follow in turn, in place "
        "of those of held-out items",
    )


def output_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of output: size, samples, previews and trajectories."""
    flags.add_argument(
        "--out",
        type=cli.path,
        action="append",
        help=".png for one picture; .npz for arr_0 (N, ...), uint8 for images, and labels arr_1; "
        ".csv for points and vectors; of clouds .ply, of molecules .sdf, and of both .gif, which "
        "turns, or .html, turned by dragging; no ending for a folder with one file per sample "
        "(.png, .wav, .gif or .npy, by the kind of data), named by the class; may be repeated "
        "(default: WORKDIR/samples.png)",
    )
    flags.add_argument(
        "--size",
        type=sides,
        metavar="HxW",
        help="height and width of the images, or one side; of clouds the number of points; for "
        "networks that are defined for any size (default: that of training)",
    )
    flags.add_argument(
        "--latents",
        action="store_true",
        help="keep latents, and start --from latents, instead of the images of the codec",
    )
    flags.add_argument(
        "--tile",
        type=cli.whole(0, cli.MOST),
        default=0,
        help="decode latents in tiles of this side: less memory, other images (default: whole)",
    )
    flags.add_argument(
        "--previews",
        type=cli.path,
        help="folder, or .gif file, of pictures of the predicted x0 of the first batch on the way",
    )
    flags.add_argument(
        "--every", type=cli.positive, help="rows between previews (default: a tenth of all rows)"
    )
    flags.add_argument(
        "--trajectory",
        type=cli.path,
        help=".png or .gif file that shows x_t and the predicted x0 of the first samples by row",
    )


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())

    from diffjax.files import unused

    asked.out = asked.out or [unused(asked.workdir / "samples.png")]
    if asked.strength is not None and not asked.start:
        raise ConfigError(f"--strength={asked.strength:g}: applies to --from, which is missing")
    if asked.every and not asked.previews:
        raise ConfigError(f"--every={asked.every}: applies to --previews, which is missing")
    if asked.weight and asked.guidance is not None:
        raise ConfigError(
            f"--weight: --guidance={asked.guidance:g} sets a weight too; allowed: only one of them"
        )

    for flag in (
        ("steps", "grid", "corrector", "noise", "lanes") if asked.quality is not None else ()
    ):
        if (value := getattr(asked, flag)) is not None:
            raise ConfigError(f"--quality: chooses --{flag}={value} itself; allowed: one of them")
    for flag, name in {
        "weight": "weight",
        "start": "from",
        "then": "then",
        "given": "given",
    }.items():
        if asked.quality is not None and getattr(asked, flag):
            raise ConfigError(f"--quality: no curve is measured for --{name}; allowed: one of them")
    if asked.trajectory and asked.then:
        raise ConfigError("--trajectory: shows one network; allowed: a command without --then")
    cli.check_provenance(asked)

    from diffjax.devices.processes import first
    from diffjax.runs import output
    from diffjax.runs.starts import stored

    asked.prompt = cli.prompts(asked)

    cli.start(asked)
    last = asked.then[-1][0] if asked.then else asked.workdir
    form = decoding_of(asked, last).stored
    asked.start = stored(asked.start, decoding_of(asked).stored) if asked.start else None
    for path in asked.out:
        output.check_items(path, form.items)
    if asked.trajectory:
        output.check(asked.trajectory, (".png", ".gif"), "--trajectory")
    asked.filter, sign = cli.filters(asked, form), None
    if asked.c2pa:
        from diffjax.runs.signing import signer

        sign = signer(asked.c2pa)
    samples = generate(asked, sign)
    for path in asked.out if first() else ():
        output.write(path, samples, sign)
    return 0


def decoding_of(asked: argparse.Namespace, workdir: Path | None = None) -> Decoding:
    """Return the step from samples to what is written, before the network is loaded.

    workdir: by default that of the first network. Raises ConfigError for a wrong workdir, and for a
    codec that does not fit it.
    """
    from diffjax import builder
    from diffjax.training.workdir import read_config, read_form

    place = workdir or asked.workdir
    config, form = read_config(place), read_form(place)
    given = asked.codec if place == asked.workdir else ""
    codec = given or (config.get("data") or {}).get("codec", "")
    if asked.latents:
        if form.kind != "latent":
            raise ConfigError(f"--latents: needs a network of latents, not of {form.kind} items")
        codec = ""
    place = "--codec" if given else "config.data.codec"
    return builder.construct_decoding(codec, form, place)


def prepare(asked: argparse.Namespace) -> tuple[Cascade, list[dict[str, Any]]]:
    """Load the networks with the settings that the flags choose, and those of later stages."""
    from diffjax.runs.cascade import Cascade, later
    from diffjax.runs.trained import load

    adapters = dict(asked.adapter)
    first = load(asked.workdir, cli.sampling(asked), codec=asked.codec, adapters=adapters)
    if asked.quality is not None:
        first = at_quality(first, asked)
    loaded, settings = later(asked.then)
    return Cascade((first, *loaded)), settings


def at_quality(trained: Trained, asked: argparse.Namespace) -> Trained:
    """Return the network with the sampler for the error of --quality."""
    from diffjax.runs.quality import chosen
    from diffjax.runs.trained import resampled

    choice = chosen(trained, asked.workdir, asked.quality, bool(asked.sampler))
    asked.choice = choice
    return resampled(trained, choice.sampling)


def generate(asked: argparse.Namespace, sign: Sign | None = None) -> Generated:
    """Generate the samples that the flags describe, with previews and trajectories."""
    from diffjax.devices.processes import first
    from diffjax.generation.job import check_lists
    from diffjax.runs import output
    from diffjax.runs.lows import rows_of
    from diffjax.runs.previews import Previews

    cascade, settings = prepare(asked)
    low = None if asked.low is None else rows_of(cascade.stages[0].experiment, asked.low)
    asked.num = asked.num or count(asked, low)
    job = cascade.job(
        stages=settings,
        seed=asked.seed,
        index=asked.index,
        label=asked.label,
        prompt=asked.prompt,
        negative=asked.negative,
        cond=conditions_of(asked, cascade.stages[0].experiment.form),
        control=asked.control,
        weight=asked.weight,
        start=asked.start,
        strength=asked.strength,
        batch_size=asked.batch_size,
        latents=asked.latents,
        tile=asked.tile,
        low=low,
        tau=asked.tau,
        watermark=asked.watermark,
        size=asked.size,
        given=asked.given,
        known=asked.known,
    )
    job.check(asked.num)
    check_lists(asked.num, label=asked.label)
    if asked.quality is not None:
        print(asked.choice.said(asked.num, cascade.stages[0].experiment.form.items.unit))
    if asked.previews:
        output.check(asked.previews, (".gif", ""), "--previews")
    several = len(job.jobs) > 1
    previews = [
        Previews(one, asked.num, output.staged(asked.previews, i, several), asked.every)
        for i, one in enumerate(job.jobs if asked.previews else ())
    ]
    if asked.trajectory and first():
        output.trajectory(asked.trajectory, job.last, asked.num)
    print(job)

    def finished(stage: int, samples: Generated) -> None:
        # Filters see the last images alone, and those of a stage before might show what they stop.
        if first() and stage < len(job.jobs) - 1 and not asked.filter:
            place = output.staged(asked.out[0].with_suffix(".png"), stage, True)
            output.write(place, samples, sign)
        if job.jobs[stage].plan.rows is None:
            print(f"network passes per sample: {min(samples.passes)} to {max(samples.passes)}")
        if previews and first():
            print(f"wrote {previews[stage].place}: {previews[stage].count} previews")

    samples = job.samples(asked.num, previews=previews, every=asked.every, finished=finished)
    return cli.filtered(samples, asked.filter)


def count(asked: argparse.Namespace, low: Any) -> int:
    """Return the number of samples where --num does not say it. low: items to enlarge, or None."""
    from diffjax.generation import number

    given = asked.given.split(",") if (asked.given or "").startswith("test:") else None
    starts = max(len(rows) for rows in ((), asked.start, low, given) if rows is not None)
    return number(asked.seed, asked.index or (), asked.weight or (), asked.prompt or (), starts)


def conditions_of(asked: argparse.Namespace, form: Form) -> dict[str, Any]:
    """Return the conditions that flags set; a file has a row per sample, or one for all.

    form: that of the items, whose files state the condition `known` as well.
    """
    from diffjax.data import conditions
    from diffjax.data.form import KNOWN

    values: dict[str, Any] = {}
    for name, value in asked.cond or ():
        if name in values:
            raise ConfigError(f"--cond={name}: is set twice")
        values[name] = value
        if isinstance(value, str):
            try:
                items = form.reader(Path(value)) if name == KNOWN else None
                values[name] = conditions.read(Path(value), name, asked.num, items)
            except ValueError as error:
                raise ConfigError(f"--cond={error}") from error
    return values


if __name__ == "__main__":
    cli.main(run)
