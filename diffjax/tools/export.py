"""Export a trained network to files that run without diffjax.

    python -m diffjax.tools.export --workdir=runs/digits --out=exported_sampler
    python -m diffjax.tools.export --workdir=runs/digits --what=network --out=exported_network
    python -m diffjax.tools.export --workdir=runs/digits --quantize=w8 --out=exported_int8
    python -m diffjax.tools.export --workdir=runs/digits --format=safetensors --out=exported_weights
    python -m diffjax.tools.export --workdir=runs/digits_vae --format=diffusers --out=exported_vae

--format=stablehlo writes one program for CPU, CUDA and TPU, for any number of samples, or for
--batch of them. It is the sampler with the settings below, or the network as a function of x_t, t
and conditions to x0 and eps. Beside it are the weights, `export.json`, which describes inputs and
outputs, and `run.py --num=16 --set label=3`, which runs the program with jax, safetensors and
flatbuffers alone. Sample k of a seed is the one that `sample` draws. JAX reads such files for some
months only: keep the run. --format=onnx writes the network for onnxruntime, for --batch samples,
in an environment with jax2onnx. --format=safetensors writes the weights with their config, for
`diffjax.load`. --format=diffusers writes a folder of torch's diffusers: an `AutoencoderKL`, or a
`DDIMPipeline` of a U-Net trained on a table of betas; other networks are refused by name.

--quantize=w8 rounds the weights of inner layers to INT8, and w8a8 their inputs too. The command
runs what it has written, prints the largest difference from the network, and fails where it is too
large.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.config import ConfigError

if TYPE_CHECKING:
    from diffjax.export import Program
    from diffjax.runs.trained import Trained

NUM = 3
"""Number of samples of a check, where the program takes any."""
BOUNDS = {"network": 1e-5, "sampler": 1e-4}
"""The largest difference, relative to the largest value: rows of a sampler add up roundings."""
COARSE = {"w8a8": 1000.0}
"""Factors of these bounds where inputs are rounded to integers, as a last digit tips some."""
Write = Callable[["Trained"], None]
"""A function that writes an export and checks it."""


def flags() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = cli.parser("tools.export", __doc__)
    flags.add_argument(
        "--format", choices=tuple(FORMATS), default="stablehlo", help="format of the files"
    )
    flags.add_argument(
        "--what",
        choices=("sampler", "network"),
        help="what the program computes (default: sampler; in ONNX network)",
    )
    flags.add_argument("--out", type=cli.path, required=True, help="new folder to write")
    flags.add_argument(
        "--batch",
        type=cli.positive,
        help="number of samples of a call (default: any number; in ONNX 1)",
    )
    flags.add_argument(
        "--platforms",
        type=cli.listed(str),
        metavar="NAME,...",
        help="platforms of a program of StableHLO (default: cpu,cuda,tpu)",
    )
    flags.add_argument(
        "--quantize",
        choices=("w8", "w8a8"),
        help="INT8 for the weights of inner layers, or for their inputs too (default: floats)",
    )
    cli.sampling_flags(flags, draws=False)
    return flags


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())
    cli.set_up_jax()

    from diffjax.runs.trained import load
    from diffjax.training.workdir import check_empty

    check_empty(asked.out)
    write = FORMATS[asked.format](asked)
    trained = load(asked.workdir, cli.sampling(asked), adapters=dict(asked.adapter))
    print(trained, flush=True)
    write(trained)
    print(f"wrote {asked.out}")
    return 0


def stablehlo(asked: argparse.Namespace) -> Write:
    """Return the function that writes a program of StableHLO; refuse what cannot work."""
    from diffjax.builder import refuse
    from diffjax.export import stablehlo

    refuse("--format")(stablehlo.check)()
    if asked.what == "network":
        unused(asked, *SAMPLER)
    platforms = asked.platforms or stablehlo.PLATFORMS
    refuse("--platforms")(stablehlo.check_platforms)(platforms)
    import jax

    here = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    if here not in platforms:
        raise ConfigError(
            f"--platforms: the check after writing runs on {here}; needs it among them"
        )

    def write(trained: Trained) -> None:
        program = programmed(asked, trained, asked.quantize)
        if not asked.quantize:
            trained.save(asked.out)  # its weights are those of the program
        asked.out.mkdir(parents=True, exist_ok=True)
        stablehlo.write(program, asked.out, asked.batch or 0, platforms)
        inputs = program.example(asked.batch or NUM)
        describe(asked, trained, program, inputs)
        check(asked, program.run(inputs), stablehlo.run(asked.out, inputs), program.what)
        if asked.quantize:
            compared(asked, trained, program, inputs)

    return write


def compared(asked: argparse.Namespace, trained: Trained, program: Program, inputs: Any) -> None:
    """Report the size of a quantized program and its differences from that in floats."""
    floats = programmed(asked, trained, None)
    size, whole = (sum(a.nbytes for a in p.weights.values()) for p in (program, floats))
    report(size, whole, program.run(inputs), floats.run(inputs))


def report(size: int, whole: int, ours: Any, floats: Any) -> None:
    """Print the size of INT8 weights beside that of floats, and how far the outputs are apart."""
    from diffjax.export import checking

    print(f"weights: {size:,} bytes in INT8, {whole:,} in floats")
    for name, each in checking.differences(floats, ours).items():
        print(f"{name}: INT8 differs from floats by {each}", flush=True)


def onnx(asked: argparse.Namespace) -> Write:
    """Return the function that writes the network to ONNX; refuse what cannot work."""
    from diffjax.builder import refuse
    from diffjax.export import onnx_file

    if asked.what == "sampler":
        raise ConfigError("--what=sampler: ONNX has no random numbers of JAX; allowed: network")
    if asked.quantize == "w8":
        raise ConfigError("--quantize=w8: onnxruntime rounds inputs as well; allowed: w8a8")
    unused(asked, "platforms")
    refuse("--format")(onnx_file.check)()
    asked.what, asked.batch = "network", asked.batch or 1

    def write(trained: Trained) -> None:
        program = programmed(asked, trained, None)
        inputs = program.example(asked.batch)
        asked.out.mkdir(parents=True, exist_ok=True)
        onnx_file.write(program, asked.out, asked.batch)
        describe(asked, trained, program, inputs)
        floats, size = onnx_file.run(asked.out, inputs), onnx_file.size(asked.out)
        check(asked, program.run(inputs), floats, program.what)
        if asked.quantize:
            onnx_file.quantize(asked.out, asked.batch)
            report(onnx_file.size(asked.out), size, onnx_file.run(asked.out, inputs), floats)

    return write


def programmed(asked: argparse.Namespace, trained: Trained, quantize: str | None) -> Program:
    """Return the program to export, in INT8 where `quantize` names its kind."""
    import jax
    import jax.numpy as jnp

    from diffjax.builder import refuse
    from diffjax.export import program, quantized
    from diffjax.samplers.plan import Plan

    what = asked.what or ("network" if asked.format == "diffusers" else "sampler")
    if trained.experiment.loss.process:
        raise ConfigError(f"--what={what}: the network predicts logits of tokens, not x0 and eps")
    job = trained.job()
    if what == "sampler" and isinstance(job.plan, Plan) and job.plan.guidance.weighs:
        job = trained.job(weight=[1.0])  # of each sample, an input of the program
    if quantize:
        x = jax.ShapeDtypeStruct((2, *job.form.shape), jnp.float32)
        smaller = refuse("--quantize")(quantized)(trained.denoise, quantize, x, job.conditions(2))
        job = dataclasses.replace(job, denoise=smaller)
    return refuse(f"--what={what}")(program)(what, job)


def describe(
    asked: argparse.Namespace, trained: Trained, program: Program, inputs: dict[str, Any]
) -> None:
    """Write export.json: the inputs and outputs of the program, and of what network it is."""
    from diffjax.export import described
    from diffjax.files import write_text

    fields = described(program, inputs, asked.batch) | {
        "times": [trained.sde.t_min, trained.sde.t_max],
        "items": trained.experiment.form.as_json(),
        "codec": trained.config["data"].get("codec", ""),
        "from": str(asked.workdir),
        "step": trained.step,
        "ema": trained.ema,
        "quantize": asked.quantize,
        "sampling": trained.config["sampling"] if program.what == "sampler" else None,
    }
    write_text(asked.out / "export.json", json.dumps(fields, indent=2, default=str) + "\n")


def check(asked: argparse.Namespace, ours: Any, theirs: Any, what: str) -> None:
    """Print the differences of an export, and raise RunError where they are too large."""
    from diffjax.export import checking

    found = checking.differences(ours, theirs)
    for name, each in found.items():
        print(f"{name}: differs by {each}", flush=True)
    rounded = asked.quantize if asked.format == "stablehlo" else ""  # ONNX is rounded later
    bound = BOUNDS[what] * COARSE.get(rounded or "", 1)
    checking.check(found, bound, str(asked.out))


def safetensors(asked: argparse.Namespace) -> Write:
    """Return the function that writes weights with their config."""
    unused(asked, "what", "batch", "quantize", "platforms")

    def write(trained: Trained) -> None:
        from diffjax.io.trees import fingerprint
        from diffjax.runs.trained import load

        trained.save(asked.out)
        read = load(asked.out)
        same = fingerprint("", trained.denoise.params) == fingerprint("", read.denoise.params)
        if not same:
            raise ConfigError(f"--out={asked.out}: the weights read back are not those written")
        print("weights: equal to the bit when read back")

    return write


def diffusers(asked: argparse.Namespace) -> Write:
    """Return the function that writes a folder of diffusers; refuse what cannot work."""
    unused(asked, "what", "batch", "quantize", "platforms", *SAMPLER)

    def write(trained: Trained) -> None:
        from diffjax.builder import refuse
        from diffjax.published import folders

        form, config = trained.experiment.form, trained.experiment.complete(trained.config)
        params = trained.denoise.params["network"]
        if trained.experiment.loss.denoises:
            given = (config, trained.sde, form.shape, params, form.classes)
            files = refuse("--format=diffusers")(folders.pipeline)(*given)
        else:
            path = asked.workdir / "codec.json"
            rule = json.loads(path.read_text()) if path.exists() else None
            given = (config["network"], params, rule)
            files = refuse("--format=diffusers")(folders.autoencoder)(*given)
        folders.save(asked.out, files)
        read_back(asked, trained)

    return write


def read_back(asked: argparse.Namespace, trained: Trained) -> None:
    """Print the differences of the network in a folder of diffusers, as diffjax reads it."""
    import jax
    import numpy as np

    if not trained.experiment.loss.denoises:
        from diffjax import builder

        x = np.random.default_rng(0).uniform(-1, 1, (1, *trained.experiment.form.shape))
        codec = builder.construct_codec(str(asked.out), "--out")
        encode = lambda network, params: np.asarray(network.encode(params, x.astype(np.float32))[0])
        ours = encode(trained.experiment.model.network, trained.denoise.params["network"])
        check(asked, {"mean": ours}, {"mean": encode(codec.network, codec.params)}, "network")
        return
    from diffjax.runs.trained import load

    program = programmed(asked, trained, None)
    inputs = program.example(NUM)
    cond = {k: v for k, v in inputs.items() if k not in ("x", "t")}
    p = jax.jit(lambda denoise: denoise(inputs["x"], inputs["t"], cond))(load(asked.out).denoise)
    check(asked, program.run(inputs), {"x0": p.x0, "eps": p.eps}, "network")


SAMPLER = ("sampler", "grid", "steps", "guidance", "corrector", "noise")
"""Flags that only a program of the sampler, and weights with their config, depend on."""


def unused(asked: argparse.Namespace, *names: str) -> None:
    """Raise ConfigError for the first of these flags that is set, as the format does not use it."""
    for name in names:
        if value := getattr(asked, name):
            of_what = asked.what and name in SAMPLER
            what = f"--what={asked.what}" if of_what else f"--format={asked.format}"
            raise ConfigError(f"--{name}={value}: does not apply to {what}")


FORMATS: dict[str, Callable[[argparse.Namespace], Write]] = {
    "stablehlo": stablehlo,
    "onnx": onnx,
    "safetensors": safetensors,
    "diffusers": diffusers,
}

if __name__ == "__main__":
    cli.main(run)
