"""The pictures of the README, of the theory and of the data, drawn by the code that they explain.

    python docs/pictures.py --out=docs/pictures                       # those of the documents
    python docs/pictures.py --out=docs/pictures --runs=runs/banner    # and the README's banner

The banner samples four kinds of data by the probability-flow ODE: points in the plane and in space
from the exact scores of mixtures, digits and wave packets from two networks, which this command
trains in the folder RUNS unless they are there.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

import diffjax
from diffjax import cli, draws, grids, nets, parameterization, samplers, schedules, sde, weights
from diffjax.analytic import Mixture
from diffjax.data import emoji
from diffjax.denoiser import Model

COLUMNS = (0, 23, 29, 33, 36, 40)
"""Rows of the 40-row table after which the banner shows the state."""
DARK, INK, MAP = "#10131c", "#dfe5f2", "plasma"
FONT = "DejaVuSans-Bold.ttf"


def letters(text: str = "diffjax", count: int = 1000) -> Mixture:
    """Points on the letters of `text`, as a mixture of narrow Gaussians of about unit variance."""
    picture = Image.new("L", (700, 240))
    font = ImageFont.truetype(FONT, 150)
    ImageDraw.Draw(picture).text((350, 110), text, 255, font, anchor="mm")
    y, x = np.nonzero(np.asarray(picture) > 128)
    pick = np.random.default_rng(0).choice(len(x), count, replace=False)
    points = np.stack([x[pick], -y[pick]], 1) - [x.mean(), -y.mean()]
    return narrow(points / points[:, 0].std() * 1.5, 0.03)


def knot(count: int = 200) -> Mixture:
    """A trefoil knot in space, as a mixture of narrow Gaussians."""
    u = 2 * np.pi * np.arange(count) / count
    x, y = np.sin(u) + 2 * np.sin(2 * u), np.cos(u) - 2 * np.cos(2 * u)
    points = np.stack([x, y, -np.sin(3 * u)], 1)
    return narrow(points / points.std(), 0.05)


def narrow(centres: np.ndarray, width: float) -> Mixture:
    count = len(centres)
    var = jnp.full(centres.shape, width**2)
    return Mixture(jnp.full(count, 1 / count), jnp.asarray(centres, jnp.float32), var)


def packets(file: Path, count: int = 4000, length: int = 64) -> None:
    """Wave packets of random place, width, frequency and phase, (count, length, 1)."""
    rng = np.random.default_rng(0)
    place, width, frequency, phase = (
        rng.uniform(low, high, (count, 1))
        for low, high in ((0.25, 0.75), (0.06, 0.18), (4, 12), (0, 2 * np.pi))
    )
    away = (np.arange(length) + 0.5) / length - place
    x = np.exp(-0.5 * (away / width) ** 2) * np.sin(2 * np.pi * frequency * away + phase)
    np.savez(file, x=(x / x.std()).astype(np.float32)[..., None])


def path(denoise: Any, shape: tuple[int, ...], num: int, **cond: Any) -> np.ndarray:
    """States on the way of DPM-Solver++ 2M in 40 rows, noise first (41, num, *shape)."""
    process = denoise.sde
    table = samplers.dpmpp_2m(process, grids.uniform(process, 40))
    keys = jax.random.split(jax.random.key(2), num)
    x, keys = samplers.initial(process, keys, shape, table.t[0])
    return visited(denoise, table, x, keys, **cond)


def visited(denoise: Any, table: samplers.Table, x: Any, keys: Any, **cond: Any) -> np.ndarray:
    """The initial states and those after each row (R + 1, B, *d)."""
    result = samplers.run(denoise, table, x, keys, path=True, **cond)
    assert result.path is not None
    return np.concatenate([x[None], result.path[0]])


def networks(folder: Path) -> tuple[diffjax.Trained, diffjax.Trained]:
    """The networks of digits and of wave packets, trained in `folder` unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = diffjax.fit("digits_vp", folder / "digits")
    packets(file := folder / "packets.npz")
    changes = (
        f"data={{'name': 'array', 'path': '{file}', 'kind': 'sequence', 'labels': False}}",
        *("loss.condition_dropout=0.0", "network.attention=(16,)", "network.multipliers=(1, 2, 2)"),
        *("train.steps=800", "train.batch_size=64", "train.sample_every=800"),
    )
    return digits, diffjax.fit("digits_vp", folder / "packets", *changes)


def banner(folder: Path, out: Path) -> None:
    """Four kinds of data at six times, noise on the left."""
    digits, waves = networks(folder)
    process = sde.VP(schedules.Cosine(), t_max=0.995)
    plane = path(letters().denoiser(process), (2,), 5000)
    space = path(knot().denoiser(process), (3,), 2000)
    images = path(digits.denoise, (8, 8, 1), 12, cond={"label": jnp.arange(12) % 10})
    lines = path(waves.denoise, (64, 1), 8)
    times = grids.uniform(process, 40)
    figure = Figure(figsize=(15, 8.2), dpi=80, facecolor=DARK)
    rows = (1.0, 1.25, 1.3, 1.1)
    grid = figure.add_gridspec(4, 6, left=0.045, right=0.995, top=0.95, bottom=0.01, wspace=0.05,
                               hspace=0.06, height_ratios=rows)  # fmt: skip
    names = ("points", "images", "points in space", "sequences")
    for column, row in enumerate(COLUMNS):
        flat(cells := figure.add_subplot(grid[0, column]), plane[row], plane[-1])
        cells.set_title(f"t = {times[row]:.2f}", color=INK, fontsize=14)
        tiles(figure.add_subplot(grid[1, column]), images[row])
        solid(figure.add_subplot(grid[2, column], projection="3d"), space[row], space[-1])
        curves(figure.add_subplot(grid[3, column]), lines[row])
    heights = np.cumsum((0, *rows))
    for name, low, high in zip(names, heights, heights[1:], strict=False):
        place = 0.95 - 0.94 * (low + high) / 2 / heights[-1]
        figure.text(
            0.022, place, name, color=INK, fontsize=14, rotation=90, ha="center", va="center"
        )
    write(figure, out / "banner.png")


def flat(axes: Any, x: np.ndarray, final: np.ndarray) -> None:
    axes.scatter(*x.T, c=final[:, 0], cmap=MAP, s=1.6, linewidths=0)
    axes.set(xlim=(-3, 3), ylim=(-2, 2))
    axes.axis("off")


def solid(axes: Any, x: np.ndarray, final: np.ndarray) -> None:
    axes.scatter(*x.T, c=np.arctan2(final[:, 1], final[:, 0]), cmap="twilight", s=4, linewidths=0)
    axes.set(xlim=(-2, 2), ylim=(-2, 2), zlim=(-2, 2), facecolor=DARK)
    axes.view_init(62, 20)
    axes.set_box_aspect((1, 1, 1), zoom=1.35)
    axes.axis("off")


def tiles(axes: Any, x: np.ndarray) -> None:
    x = np.pad(x[..., 0], ((0, 0), (1, 0), (1, 0)), constant_values=-1)
    sheet = x.reshape(3, 4, 9, 9).transpose(0, 2, 1, 3).reshape(27, 36)
    axes.imshow(np.clip(sheet, -1, 1), cmap="magma", interpolation="nearest")
    axes.axis("off")


def curves(axes: Any, x: np.ndarray) -> None:
    colour = Figure().add_subplot().imshow(np.zeros((1, 1)), cmap=MAP).cmap
    for k, line in enumerate(x[..., 0]):
        axes.plot(line * 0.3 - k, color=colour(0.15 + 0.8 * k / len(x)), lw=1.5)
    axes.set(ylim=(-len(x), 1.2))
    axes.axis("off")


def write(figure: Figure, file: Path) -> None:
    """Store the figure with a palette of 128 colours, which keeps the file small."""
    figure.savefig(file, facecolor=figure.get_facecolor())
    Image.open(file).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
        file, optimize=True
    )


def toy() -> Mixture:
    """Two unequal Gaussians on the line."""
    return Mixture(jnp.array([0.35, 0.65]), jnp.array([[-1.2], [0.9]]), jnp.array([[0.02], [0.08]]))


def paths(out: Path) -> None:
    """Forward SDE, reverse SDE and probability-flow ODE over the exact marginal density."""
    process, data, steps = sde.VP(schedules.Cosine(), t_max=0.995), toy(), 400
    times, axis = grids.uniform(process, steps)[:-1], np.linspace(-3, 3, 240)
    at = lambda t: data.logp(process, jnp.asarray(axis)[:, None], jnp.full(len(axis), t))
    density = np.exp(jax.lax.map(at, jnp.asarray(times[::-1], jnp.float32)))
    keys = jax.random.split(jax.random.key(5), 14)
    down, denoise = np.append(times, 0.0), data.denoiser(process)
    x, keys = samplers.initial(process, keys, (1,), down[0])
    plans = {"reverse SDE": samplers.ancestral, "probability-flow ODE": samplers.ddim}
    ways = {"forward SDE": forward(process, data, times[::-1], 14)}
    for name, plan in plans.items():
        states = visited(denoise, plan(process, down), x, keys)
        ways[name] = states[:-1][::-1]
    figure = Figure(figsize=(13, 4), dpi=70, layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (name, lines) in zip(panels, ways.items(), strict=True):
        axes.pcolormesh(times[::-1], axis, density.T**0.5, cmap="Blues", shading="auto")
        axes.plot(times[::-1], lines[..., 0], lw=0.9, color="#c43c39", alpha=0.8)
        axes.set(title=name, xlabel="t: 0 is data, 1 is noise", ylim=(-3, 3))
    panels[0].set_ylabel("$x_t$")
    write(figure, out / "paths.png")


def forward(process: sde.SDE, data: Mixture, times: np.ndarray, num: int) -> np.ndarray:
    """Exact transitions x_s -> x_t of the forward SDE (steps, num, 1)."""
    t = jnp.asarray(times, jnp.float32)
    alpha, sigma, l = (
        np.asarray(f(t), np.float64) for f in (process.alpha, process.sigma, process.logsnr)
    )
    rng, (x0, _) = np.random.default_rng(3), data.sample(jax.random.key(3), num)
    x = [alpha[0] * np.asarray(x0) + sigma[0] * rng.normal(size=x0.shape)]
    for s, t in zip(range(len(times) - 1), range(1, len(times)), strict=True):
        std = sigma[t] * np.sqrt(-np.expm1(l[t] - l[s]))
        x.append(alpha[t] / alpha[s] * x[-1] + std * rng.normal(size=x0.shape))
    return np.stack(x)


def denoisers(out: Path) -> None:
    """The posterior mean of x0 against x_t, which Tweedie's formula gives, at four noise levels."""
    process, data, axis = sde.VP(schedules.Cosine(), t_max=0.995), toy(), np.linspace(-3, 3, 400)
    figure = Figure(figsize=(13, 3.4), dpi=70, layout="constrained")
    for axes, l in zip(figure.subplots(1, 4, sharey=True), (6.0, 2.0, 0.0, -4.0), strict=True):
        t = jnp.full(len(axis), process.schedule.inverse(jnp.asarray(l)))
        x = jnp.asarray(axis)[:, None]
        p = np.exp(data.logp(process, x, t))
        axes.fill_between(axis, -2 + p, -2, color="#9db8d9", lw=0)
        axes.plot(axis, data.denoiser(process)(x, t).x0[:, 0], color="#c43c39", lw=2)
        axes.plot(axis, axis / process.alpha(t), color="grey", lw=0.8, ls="--")
        axes.set(title=f"log-SNR {l:g}", xlabel="$x_t$", ylim=(-2, 2), xlim=(-3, 3))
        axes.set_ylabel("$E[x_0 | x_t]$" if l == 6 else "")
    write(figure, out / "denoisers.png")


def implied(case: tuple[Model, Any, draws.Draw], u: jax.Array) -> tuple[Any, Any]:
    """Log-SNR and w(l) = weight on the squared error of eps times the density of l."""
    model, weight, draw = case
    level = lambda u: model.sde.logsnr(draw.quantile(model.sde, u[None], ())[0])
    t = draw.quantile(model.sde, u, ())
    a, b = model.parameterization.target(model.sde, t)
    on_eps = weight(model, t) * (b - a * model.sde.sigma(t) / model.sde.alpha(t)) ** 2
    return jax.vmap(level)(u), on_eps / jnp.abs(jax.vmap(jax.grad(level))(u))


def levels(out: Path) -> None:
    """Schedules as log-SNR over t, and losses as weights over log-SNR."""
    cosine, flow = (
        sde.VP(schedules.Cosine(s=0.0), t_max=0.999),
        sde.Flow(schedules.Logit(), t_max=0.999),
    )
    ve = sde.VE(schedules.Karras())
    model = lambda process, p: Model(process, p, nets.mlp())
    even = draws.Uniform(importance=False)
    uniform, velocity = weights.uniform_output, parameterization.Velocity()
    cases = {
        "cosine, eps": (model(cosine, parameterization.Eps()), uniform, even),
        "cosine, v": (model(cosine, parameterization.V()), uniform, even),
        "straight path, velocity": (model(flow, velocity), uniform, even),
        "EDM": (model(ve, parameterization.Edm()), weights.edm, draws.LogNormal()),
    }
    figure = Figure(figsize=(13, 4), dpi=70, layout="constrained")
    left, right = figure.subplots(1, 2)
    t = np.linspace(0.002, 0.998, 400)
    for name in ("Linear", "Cosine", "Sigmoid", "Logit", "Laplace", "Karras"):
        left.plot(t, getattr(schedules, name)()(jnp.asarray(t)), label=name.lower())
    left.set(xlabel="t", ylabel="log-SNR", ylim=(-15, 15))
    left.legend()
    u = jnp.linspace(0.001, 0.999, 2000)
    for (name, case), style in zip(cases.items(), ("-", "-", "--", "-"), strict=True):
        l, w = implied(case, u)
        right.plot(l, w / np.interp(0, np.sort(l), np.asarray(w)[np.argsort(l)]), style, label=name)
    right.axhline(1, color="grey", lw=0.8, label="variational bound")
    right.set(xlabel="log-SNR", ylabel="w, relative to its value at 0", xlim=(-10, 12), ylim=(0, 4))
    right.legend()
    write(figure, out / "levels.png")


def concepts(out: Path) -> None:
    """Concepts of the source `emoji` in its styles, with a frame around held-out pairs."""
    names = ("red apple", "hedgehog", "rocket", "T-Rex", "snowman", "octopus", "guitar", "unicorn",
             "sunflower", "hot beverage", "ghost", "call me hand", "fox", "castle")  # fmt: skip
    styles = ("noto", "fluent", "twemoji")
    figure = Figure(figsize=(13, 3.1), dpi=90)
    cells = figure.subplots(len(styles), len(names), gridspec_kw=dict(hspace=0.06, wspace=0.06))
    figure.subplots_adjust(left=0.06, right=0.995, top=0.91, bottom=0.01)
    for split in ("train", "test"):
        source = emoji(split)
        every = np.arange(len(source))
        place = {texts[0]: k for k, texts in zip(every, source.captions(every), strict=True)}
        for (i, style), (k, name) in itertools.product(enumerate(styles), enumerate(names)):
            if (item := place.get(f"{name}, {style} style")) is not None:
                axes = cells[i, k]
                axes.imshow(source.x[item])
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set(color="#c43c39", linewidth=2, visible=split == "test")
    for axes, name in zip(cells[0], names, strict=True):
        axes.set_title(name, fontsize=9)
    for axes, style in zip(cells[:, 0], styles, strict=True):
        axes.set_ylabel(style, fontsize=11)
    write(figure, out / "emoji.png")


def main() -> None:
    flags = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    flags.add_argument(
        "--out", type=Path, default=Path("docs/pictures"), help="folder of the PNG files"
    )
    flags.add_argument("--runs", type=Path, help="folder of the banner's two trainings")
    given = flags.parse_args()
    cli.set_up_jax()
    given.out.mkdir(parents=True, exist_ok=True)
    for draw in (paths, denoisers, levels, concepts):
        draw(given.out)
    if given.runs:
        banner(given.runs, given.out)


if __name__ == "__main__":
    main()
