"""Restore images: draw samples given a measurement y = A x0 + std n, and show what they agree on.

    python -m diffjax.tools.restore --workdir=runs/digits --image=test:0,1,2 --problem=half
    python -m diffjax.tools.restore --workdir=runs/digits --image=test:0,1,2 --std=0.1 \\
        --problem=average:factor=2 --method=daps:covariance=flat --steps=50 --num=16
    python -m diffjax.tools.restore --workdir=runs/faces --image=photo.png \\
        --problem=mask:file=scratches.png
    python -m diffjax.tools.restore --workdir=runs/faces --y=measured.npz \\
        --problem=gaussian_blur:std=2

--image is the truth, which is measured with simulated noise; --y is a measurement of your own, in
the range [-1, 1] of the network. The command draws --num samples of each image and writes a picture
with a row per image (the truth, y, the mean and the standard deviation of the samples, and
samples), and an .npz file with x (K, num, H, W, C), y, mean, std and truth in the range of the
network. It prints the PSNR of the mean, and how far A x is from y.

For a network of latents, the images that the codec of config.data.codec or --codec decodes are
measured and shown. --image may then be a picture, taken as it is, or latents. The .npz file holds
the latents as well.

The operators A are those of diffjax.inverse.OPERATORS, and a mask from a file, black where the
image is known and white where it is hidden. Samplers and guidance are those of `sample`. By default
a network that was trained with missing classes samples without a class; --label says what is known.

Methods, with the vector-Jacobian products (VJP) of the network per row, each about two passes:

tweedie      k + 1 VJP. The posterior with the covariance of Tweedie's formula, by k = `iterations`
             of conjugate gradients (2). The default, and the only one that is exact for every
             Gaussian prior, once k is large enough; on images more than 2 did not help. It
             linearises nonlinear problems, such as phase and jpeg.
pigdm        1 VJP. Assumes data of variance 1. A good start where time is short; its spread is off.
tmpd         2 VJP. A diagonal covariance. For masks; needs std > 0.
dps          1 VJP. No covariance: samples collapse to a point, or diverge where steps are few and
             std is small. To compare with the literature; needs std > 0.
prior        no VJP. Assumes a Gaussian prior of variance `var` (1): fast, and good for small std.
diffpir      no VJP. A flat prior: fast; `strength` trusts the denoiser more.
ddnm         no VJP. Puts y into x0 whatever std is: for noiseless linear measurements.
ddrm         no VJP. A rule per singular value, for operators with a known spectrum, in about 20
             steps: a good point estimate, no spread. Has a sampler of its own, flow_map.
daps         as its `covariance` (tweedie, prior, flat). Draws x0 and adds fresh noise in each row:
             recovers from early mistakes. Has a sampler of its own, consistency.
replacement  no VJP. Puts noised y into x_t: the oldest inpainting; the rest does not fit well.
repaint      no VJP. Replacement that goes back and forth, `repeats` times the passes:
             --sampler=repaint:repeats=5. Approaches the posterior as repeats and steps grow.
denoising    no VJP. For --problem=identity alone, where it is exact for any data.
particles    `count` times the passes (16), and as many VJP. Weighted and resampled particles: exact
             for many of them, with any noisy first-order sampler (ancestral); needs std > 0.
"""

from __future__ import annotations

import argparse
import sys

from diffjax import cli
from diffjax.config import ConfigError


def flags() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = cli.parser("tools.restore", __doc__)
    flags.add_argument(
        "--image",
        metavar="FILE|FOLDER|test:INDEX,...",
        help="true images: a picture, a folder, an .npz file, or held-out items of the run's data",
    )
    flags.add_argument(
        "--y", type=cli.path, metavar="FILE", help="measurements: .npy, or .npz with y"
    )
    flags.add_argument(
        "--problem",
        required=True,
        metavar="NAME[:ARGUMENT=VALUE,...]",
        help="what is measured, such as half:side=right, box:size=0.5, pixels:share=0.8, "
        "mask:file=FILE, grey, average:factor=4, bicubic:factor=4, gaussian_blur:std=2, "
        "motion_blur:length=7,angle=30, hadamard:share=0.25, projections:share=0.25, phase, "
        "jpeg:quality=10, identity",
    )
    flags.add_argument(
        "--std", type=cli.number, default=0.0, help="of the noise of y, where images are in [-1, 1]"
    )
    flags.add_argument(
        "--method",
        default="tweedie",
        metavar="NAME[:ARGUMENT=VALUE,...]",
        help="how x0 is sampled given y, see above",
    )
    flags.add_argument("--num", type=cli.positive, default=8, help="samples per image")
    flags.add_argument(
        "--label",
        type=cli.listed(str),
        metavar="CLASS,...",
        help="class of all images, or of each, by number or by name (unknown)",
    )
    flags.add_argument(
        "--out",
        type=cli.path,
        help="a .png picture; the .npz file is written beside it (WORKDIR/restored.png,"
        " or restored_2.png, ... where that exists)",
    )
    cli.sampling_flags(flags)
    return flags


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())

    from diffjax.files import beside

    out = asked.out or beside(asked.workdir, "restored.png")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out={out}: known ending: .png")
    cli.set_up_jax()

    from diffjax import plot
    from diffjax.files import check_place, reason
    from diffjax.runs.restoring import restoration
    from diffjax.runs.trained import load

    sampling = cli.sampling(asked)
    sampling.pop("ema", None)
    ready = restoration(
        load(asked.workdir, ema=asked.ema, codec=asked.codec, adapters=dict(asked.adapter)),
        asked.image,
        asked.problem,
        y=asked.y,
        std=asked.std,
        method=asked.method,
        num=asked.num,
        seed=asked.seed,
        label=asked.label,
        batch_size=asked.batch_size,
        **sampling,
    )
    arrays = out.with_suffix(".npz")
    try:
        for path in (out, arrays):
            check_place(path)
    except OSError as error:
        raise ConfigError(f"--out={out}: cannot be written ({reason(error)})") from error
    print(ready)
    restored = ready.run()
    print(restored.summary())
    if line := restored.warning():
        print(line, file=sys.stderr)
    try:
        plot.save(out, restored.picture())
        restored.save(arrays)
    except OSError as error:
        raise ConfigError(f"--out={out}: cannot be written ({reason(error)})") from error
    print(f"wrote {out} and {arrays}")
    return 0


if __name__ == "__main__":
    cli.main(run)
