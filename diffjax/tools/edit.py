"""Edit images with a trained network.

    python -m diffjax.tools.edit invert --workdir=runs/digits --image=test:0,1,2
    python -m diffjax.tools.edit edit --workdir=runs/digits --image=test:0,1,2 --label=3,8
    python -m diffjax.tools.edit edit --workdir=runs/digits --image=test:0,1,2 --label=3,8 \\
        --sampler=ancestral --strength=0.7 --guidance=2
    python -m diffjax.tools.edit inpaint --workdir=runs/digits --image=test:0,1 --mask=soft.png

`invert` finds the latents from which an ODE sampler leads to the images, by fixed-point iteration
in each row, shows what the sampler makes of them, and prints how far that is from the images. It
takes --iterations times the network passes of the sampler; more --steps bring it closer. `edit`
shows the images under other classes: with an ODE sampler from their latents, and with a stochastic
one, such as ancestral, from the noises that lead to them ("edit-friendly" DDPM inversion), which
keep more of the image. --strength is the share of the steps that is undone and done again: less
keeps more. --guidance acts on the new class alone, --source says the class of the images. `inpaint`
samples what a soft mask leaves free: black is kept, white is sampled anew, and grey is free in that
share of the last steps.

For variations of an image see `sample --from=FILE --strength=0.6`; for measurements with noise, and
posteriors in place of plain inpainting, see `tools.restore`; for what lies between two images, see
`tools.likelihood interpolate`.

For a network of latents, the codec of config.data.codec or --codec encodes the pictures of --image;
test:INDEX, an .npy or an .npz file hold latents. A mask has the size of the latents, and the
picture shows decoded images.

Each command writes a picture with a row per image, and an .npz file with the arrays in the range of
the network.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from diffjax import cli
from diffjax.config import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from diffjax.runs.editing import Editing

    Columns = dict[str, np.ndarray]

AS_THEY_ARE = ("latent", "mask")
"""Columns that no decoder turns into images."""


def flags() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = cli.parser("tools.edit", __doc__)
    commands = flags.add_subparsers(dest="command", required=True)
    for name, text in (
        ("invert", "latents, and the images that they lead to"),
        ("edit", "the images under other classes"),
        ("inpaint", "samples of what a soft mask leaves free"),
    ):
        one = commands.add_parser(name, help=text, formatter_class=cli.Formatter)
        one.add_argument(
            "--image",
            required=True,
            metavar="FILE|FOLDER|test:INDEX,...",
            help="a picture, a folder, an .npz file, or held-out items of the run's data",
        )
        one.add_argument(
            "--source",
            type=cli.listed(str),
            metavar="CLASS,...",
            help="class of all images, or of each, by number or by name (unknown)",
        )
        if name == "edit":
            one.add_argument(
                "--label",
                type=cli.listed(str),
                required=True,
                metavar="CLASS,...",
                help="new classes; each image is shown under each of them",
            )
        if name == "inpaint":
            one.add_argument("--mask", required=True, help="a grey picture, .npy or .npz file")
            one.add_argument("--num", type=cli.positive, default=6, help="samples per image")
        else:
            one.add_argument(
                "--iterations", type=cli.positive, default=10, help="of the inversion of a row"
            )
            one.add_argument(
                "--tolerance",
                type=cli.number,
                default=0.01,
                help="largest relative change of a row that counts as converged",
            )
            one.add_argument(
                "--strength", type=cli.number, default=1.0, help="share of the steps, in (0, 1]"
            )
        one.add_argument(
            "--out",
            type=cli.path,
            help="a .png picture; the .npz file is written beside it (WORKDIR/COMMAND.png,"
            " or COMMAND_2.png, ... where that exists)",
        )
        cli.sampling_flags(one)
    return flags


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())

    from diffjax.files import beside

    out = asked.out or beside(asked.workdir, f"{asked.command}.png")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out={out}: known ending: .png")
    cli.set_up_jax()

    from diffjax import plot
    from diffjax.data.images import to_uint8
    from diffjax.files import check_place, reason, write_arrays
    from diffjax.runs.editing import editing
    from diffjax.runs.trained import load

    sampling = cli.sampling(asked)
    sampling.pop("ema", None)
    ready = editing(
        load(asked.workdir, ema=asked.ema, codec=asked.codec, adapters=dict(asked.adapter)),
        asked.image,
        label=asked.source,
        strength=getattr(asked, "strength", 1.0),
        seed=asked.seed,
        batch_size=asked.batch_size,
        **sampling,
    )
    arrays = out.with_suffix(".npz")
    try:
        for path in (out, arrays):
            check_place(path)
        columns = {"invert": inverted, "edit": edited, "inpaint": inpainted}[asked.command](
            ready, asked
        )
        shown = lambda name, x: x if name in AS_THEY_ARE else ready.shown(x)
        pictures = {name: to_uint8(shown(name, x)) for name, x in columns.items()}
        rows = [[x[k] for x in pictures.values()] for k in range(len(ready.x0))]
        plot.save(out, plot.captioned(rows, [""] * len(rows), [[*pictures]] * len(rows)))
        write_arrays(arrays, {name.replace("\n", " "): x for name, x in columns.items()})
    except OSError as error:
        raise ConfigError(f"--out={out}: cannot be written ({reason(error)})") from error
    print(f"wrote {out} and {arrays}")
    return 0


def inverted(ready: Editing, asked: argparse.Namespace) -> Columns:
    """Return the images, their latents and what the sampler makes of these; print the error."""
    import jax.numpy as jnp
    import numpy as np

    latent, again = ready.inverted(iterations=asked.iterations, tolerance=asked.tolerance)
    error = 127.5 * np.sqrt(((ready.shown(again) - ready.shown(ready.x0)) ** 2).mean())
    print(f"to the latent and back: {error:.3f} grey levels off (RMS)")
    sigma = ready.trained.sde.sigma(jnp.asarray(ready.plan.start, jnp.float32))
    return {"image": ready.x0, "latent": latent / float(3 * sigma), "again": again}


def edited(ready: Editing, asked: argparse.Namespace) -> Columns:
    """Return the images, and the images under each of the new classes."""
    from diffjax.runs.editing import target

    e = ready.trained.experiment
    if "label" not in e.form.names:
        raise ConfigError("--label: the network knows no classes")
    targets = {name: target(e, ready.cond, name) for name in asked.label}
    columns = {"image": ready.x0}
    for name, cond in targets.items():
        columns[f"as {name}"] = ready.edited(
            cond, iterations=asked.iterations, tolerance=asked.tolerance
        )
    return columns


def inpainted(ready: Editing, asked: argparse.Namespace) -> Columns:
    """Return the images, the mask and samples."""
    import numpy as np

    from diffjax.runs.editing import soft_mask

    strength = soft_mask(asked.mask, ready.x0.shape[1:])
    x = ready.inpainted(strength, asked.num).reshape(-1, asked.num, *ready.x0.shape[1:])
    shown = np.broadcast_to(2 * strength - 1, (len(x), *strength.shape[1:]))
    samples = {f"sample {k}": x[:, k] for k in range(asked.num)}
    return {"image": ready.x0, "mask": shown, **samples}


if __name__ == "__main__":
    cli.main(run)
