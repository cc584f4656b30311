"""Draw pictures of the likelihood under a trained network.

    python -m diffjax.tools.likelihood rank --workdir=runs/digits --metric=bpd:num=200,steps=20
    python -m diffjax.tools.likelihood map --workdir=runs/digits --num=10
    python -m diffjax.tools.likelihood density --workdir=runs/moons
    python -m diffjax.tools.likelihood interpolate --workdir=runs/digits --num=5

`rank` shows the images with the fewest and the most bits per dimension, by any metric of the
network; results of `evaluate` are reused. `map` shows the bits of each value of an image, by the
variational bound. `density` draws the density of points in the plane, and prints its integral.
`interpolate` encodes pairs of images by the ODE, of one class where there are classes, moves from
one latent to the other on the sphere, and decodes. The likelihood under a network of latents is
that of latents, in bits per dimension of these; pictures show what config.data.codec decodes.
"""

from __future__ import annotations

import argparse
import functools
from typing import TYPE_CHECKING

from diffjax import cli
from diffjax.config import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from diffjax.evaluation import Subject

SIDE, POINTS = 3.0, 100
"""Half the side of the square that is drawn, and the number of points per side."""
BETWEEN = 7
"""Number of images from one latent to the other, including both ends."""


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("tools.likelihood", __doc__)
    commands = flags.add_subparsers(dest="command", required=True)
    for name, num, text in (
        ("rank", 12, "draw the most and the least likely images"),
        ("map", 10, "draw maps of the bits of each pixel"),
        ("density", 1000, "draw the density in the plane, with --num items"),
        ("interpolate", 5, "interpolate between the latents of pairs of images"),
    ):
        one = commands.add_parser(name, help=text, formatter_class=cli.Formatter)
        one.add_argument("--workdir", type=cli.path, required=True, help="folder of a trained run")
        one.add_argument("--ema", help=f"average in config.ema, raw, or a width {cli.CONFIG}")
        one.add_argument("--seed", type=cli.seed, default=0, help="seed of the noise")
        one.add_argument("--batch-size", type=cli.positive, default=64, help="items per batch")
        one.add_argument("--num", type=cli.positive, default=num, help="items to draw")
        one.add_argument("--out", type=cli.path, help="PNG file (default: WORKDIR/COMMAND.png)")
        cli.data_flags(one)
        if name == "rank":
            one.add_argument("--metric", default="bpd", help="metric of evaluate --metrics")
        if name != "rank":
            text = "steps of the ODE, or noise levels"
            one.add_argument("--steps", type=cli.positive, default=50, help=text)
    return flags


def run() -> int:
    asked = cli.read(flags())
    asked.out = asked.out or asked.workdir / f"{asked.command}.png"
    if asked.out.suffix != ".png":
        raise ConfigError(f"--out={asked.out}: unknown ending; known: .png")
    draw = {"rank": rank, "map": maps, "density": density, "interpolate": interpolate}
    from diffjax.files import check_place
    from diffjax.io.writing import writing
    from diffjax.runs.subject import subject

    with writing(f"--out={asked.out}"):
        check_place(asked.out)
    cli.set_up_jax()
    about = subject(
        asked.workdir,
        data=asked.data,
        split=asked.split,
        seed=asked.seed,
        batch_size=asked.batch_size,
        ema=asked.ema,
    )
    form = about.form
    needs = {"density": ("points",), "map": ("image",)}.get(asked.command, ())
    if (needs and form.kind not in needs) or (not needs and form.items.together):
        wanted = "points in the plane" if asked.command == "density" else "images"
        raise ConfigError(f"{asked.command}: needs {wanted}, not {form.kind} {form.shape}")

    from diffjax import plot

    picture = draw[asked.command](about, asked)
    with writing(f"--out={asked.out}"):
        plot.save(asked.out, picture)
    print(f"wrote {asked.out}")
    return 0


def rank(subject: Subject, asked: argparse.Namespace) -> np.ndarray:
    """Draw the images with the fewest bits and those with the most bits."""
    import numpy as np

    from diffjax import builder, plot
    from diffjax.evaluation.beforehand import beforehand
    from diffjax.report.evaluated import bits_line

    _, metrics = builder.construct_metrics(asked.metric, "--metric")
    if len(metrics) != 1 or "success" in metrics:
        raise ConfigError(f"--metric={asked.metric}: needs one metric of the network, bpd or vlb")
    ((name, metric),) = metrics.items()
    builder.refuse(f"--metric={name}")(beforehand)(metric)
    result = builder.refuse(f"--metric={name}")(metric)(subject)
    if result["count"] < 2:
        raise ConfigError(f"--metric={asked.metric}: ranks one image; needs at least two")
    with np.load(subject.workdir / result["values"]) as stored:
        index, bits = stored["index"], stored["bits"].mean(1)
    order, num = np.argsort(bits), min(asked.num, len(bits) // 2)
    rows = [order[:num], order[-num:][::-1]]
    images = [pictures(subject, subject.items(index[row])[0]) for row in rows]
    captions = [[f"{bits[i]:.2f}" for i in row] for row in rows]
    print(bits_line(name, result))
    return plot.captioned(images, ["most\nlikely", "least\nlikely"], captions)


def maps(subject: Subject, asked: argparse.Namespace) -> np.ndarray:
    """Draw images above maps of the bits of their pixels."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from diffjax import likelihood, plot
    from diffjax.arrays import keys_at, stream
    from diffjax.evaluation.likelihood import noise_levels

    index = subject.chosen(asked.num)
    x, cond = subject.items(index)
    keys = keys_at(stream(subject.seed, "map"), jnp.asarray(index))
    settings = {"samples": asked.steps, "draw": noise_levels(subject.denoise.sde)}
    each = jax.jit(functools.partial(likelihood.vlb_map, **settings))
    items = subject.form.items
    each_bits = each(subject.denoise, items.normalise(jnp.asarray(x)), keys, cond)
    bits = np.asarray(each_bits).mean(-1)
    low, high = np.quantile(bits, [0.01, 0.99])
    captions = [[f"{b:.2f}" for b in bits.mean((1, 2))], [""] * len(x)]
    labels = ["image", f"bits/dim\n{low:.1f} (dark)\nto {high:.1f}"]
    return plot.captioned(
        [items.tiles(x), plot.colours((bits - low) / (high - low))], labels, captions
    )


def density(subject: Subject, asked: argparse.Namespace) -> np.ndarray:
    """Draw the density exp(logp) over the plane, as the mean over the classes if there are any."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from diffjax import likelihood, plot
    from diffjax.progress import Progress

    if subject.form.shape != (2,):
        raise ConfigError(f"density: needs points in the plane, not {subject.form.shape}")
    ode, keys = likelihood.Ode(steps=asked.steps), jax.random.split(jax.random.key(0), POINTS)
    run = jax.jit(lambda denoise, x, cond: likelihood.logp(denoise, x, keys, cond, ode).logp)
    classes, rows = subject.form.classes, np.split(plot.plane(POINTS, SIDE), POINTS)
    conds = [{"label": jnp.full(POINTS, k)} for k in range(classes)] or [{}]
    densities = []
    with Progress("density", len(rows), "row") as progress:
        for row in rows:
            logp = [run(subject.denoise, jnp.asarray(row), cond) for cond in conds]
            densities.append(np.mean(np.exp(logp), 0))
            progress.advance(1)
    p = np.stack(densities)
    total = p.sum() * (2 * SIDE / POINTS) ** 2
    title = f"density at t_min = {subject.denoise.sde.t_min:g}, integral {total:.4f}"
    print(title)
    items = subject.items(subject.chosen(asked.num))[0]
    return plot.heat(p, SIDE, items, title)


def interpolate(subject: Subject, asked: argparse.Namespace) -> np.ndarray:
    """Draw pairs of images, and the decoded latents between them."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from diffjax import likelihood, plot

    first, second = pairs(subject, asked.num)
    (a, cond), (b, _) = subject.items(first), subject.items(second)
    ode = likelihood.Ode(steps=asked.steps)
    encode = jax.jit(lambda d, x, cond: likelihood.encode(d, x, cond, ode))
    decode = jax.jit(lambda d, x, cond: likelihood.decode(d, x, cond, ode))
    items = subject.form.items
    start, end = (items.normalise(jnp.asarray(x)) for x in (a, b))
    from_, to = (encode(subject.denoise, x, cond) for x in (start, end))
    shares = np.linspace(0, 1, BETWEEN)
    between = [decode(subject.denoise, slerp(from_, to, float(s)), cond) for s in shares]
    error = float(jnp.sqrt(((between[0] - start) ** 2).mean() + ((between[-1] - end) ** 2).mean()))
    scale, unit = items.unit
    print(f"error of decoded latents: {scale * error / 2**0.5:.3f} {unit} (RMS)")
    columns = [a, *(subject.form.denormalise(np.asarray(x)) for x in between), b]
    titles = ["image", *(f"{s:.2f}" for s in shares), "image"]
    rows = np.stack([pictures(subject, c) for c in columns], 1)
    labels = [f"class {k}" for k in cond["label"]] if "label" in cond else [""] * len(rows)
    return plot.strips([row[None] for row in rows], labels, titles)


def pictures(subject: Subject, items: np.ndarray) -> np.ndarray:
    """Return stored items (N, ...) as uint8 pictures; the codec of their data decodes latents."""
    from diffjax import builder

    codec = subject.config["data"].get("codec", "")
    decoding = builder.construct_decoding(codec, subject.form, "config.data.codec")
    return decoding.stored.items.tiles(decoding(items) if decoding.codec else items)


def pairs(subject: Subject, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of `num` pairs of items, each of one class where there are classes."""
    import numpy as np

    order = subject.chosen(0)
    if subject.form.classes and subject.source.form.classes:
        label = subject.source.labels()[order]
        groups = [order[label == k] for k in np.unique(label)]
        groups = [g for g in groups if len(g) > 1]
    else:
        groups = [order]
    neighbours = [(group[2 * i], group[2 * i + 1]) for i in range(num) for group in groups
             if 2 * i + 1 < len(group)]  # fmt: skip
    first, second = np.array(neighbours[:num]).T
    return first, second


def slerp(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """Interpolate along the great circle from a to b, with lengths in between.

    The interpolation of normal noise is again normal noise. share: in [0, 1], 0 for a and 1 for b.
    """
    import jax.numpy as jnp

    flat = [x.reshape(len(x), -1) for x in (a, b)]
    size = [jnp.linalg.norm(x, axis=1, keepdims=True) for x in flat]
    one, two = (x / n for x, n in zip(flat, size, strict=True))
    angle = jnp.arccos(jnp.clip((one * two).sum(1, keepdims=True), -1, 1))
    along = (jnp.sin((1 - share) * angle) * one + jnp.sin(share * angle) * two) / jnp.sin(angle)
    return (along * ((1 - share) * size[0] + share * size[1])).reshape(a.shape)


if __name__ == "__main__":
    cli.main(run)
