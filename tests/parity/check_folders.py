"""Compare folders that diffjax writes with what diffusers computes from them; run by hand.

    python tests/parity/check_folders.py write FOLDER  # with diffjax
    python tests/parity/check_folders.py check FOLDER  # with torch and diffusers, without diffjax

`write` exports networks with redrawn parameters by `tools.export --format=diffusers`, and stores
inputs and outputs beside them. `check` loads the folders in diffusers' classes, and fails where an
output differs by more than 1e-5 of its largest value. Last run with diffusers 0.42.1 and torch
2.13.0 (CPU); the largest difference was 2.9e-6.
"""

import json
import sys
from pathlib import Path

import numpy as np

LIMIT = 1e-5
TABLE = (
    "sde={'name':'vp','t_min':1e-3,'schedule':{'name':'ddpm_linear'}}",
    "parameterization.c_noise=index",
    "parameterization.scale_input=False",
)
SMALL = ("network.channels=32", "network.multipliers=(1, 2)", "network.groups=8")
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "labels": ("digits_vp", (*TABLE, *SMALL)),
    "eps": (
        "digits_vp",
        (
            *(*TABLE, *SMALL, "parameterization.name=eps", "network.scale_shift=True"),
            *("network.resample=centred_conv", "network.embedding=adm", "data.labels=False"),
            "sde.schedule={'name':'ddpm_cosine'}",
        ),
    ),
    "autoencoder": ("digits_vae", ()),
}
"""A config and changes of it."""


def write(folder: Path) -> None:
    """Write the folders, with inputs and outputs."""
    import jax

    from diffjax import builder, config
    from diffjax.tools import export

    sys.path.append(str(Path(__file__).parents[1]))
    from redrawn import redrawn

    for name, (base, changes) in CASES.items():
        trained = redrawn(builder.experiment(config.override(config.load(base), list(changes))))
        trained.save(run := folder / f"{name}_run")
        if name == "autoencoder":
            size = trained.config["network"]["latent"]
            rule = {"centre": [0.5] * size, "scale": [2.0] * size, "std": 1.0}
            (run / "codec.json").write_text(json.dumps(rule))
        out = folder / name
        sys.argv = ["export", f"--workdir={run}", f"--out={out}", "--format=diffusers"]
        assert export.run() == 0
        rng, form = np.random.default_rng(0), trained.experiment.form
        x = rng.normal(size=(3, *form.shape)).astype(np.float32)
        params, model = trained.denoise.params["network"], trained.experiment.model
        if name == "autoencoder":
            mean, logvar = jax.jit(model.network.encode)(params, x)
            arrays = {"mean": mean, "logvar": logvar, "image": model.network.decode(params, mean)}
        else:
            index = np.array([0, 300, 999])
            cond = {"label": np.array([3, 0, 9])} if form.classes else None
            t = ((index + 1) / 1000).astype(np.float32)
            output = jax.jit(lambda d, x, t, cond: d(x, t, cond).output)
            arrays = {"index": index, "output": output(trained.denoise, x, t, cond), **(cond or {})}
        np.savez(out / "parity.npz", x=x, **arrays)


def check(folder: Path) -> None:
    """Load the folders in diffusers, and compare outputs."""
    import torch
    from diffusers import AutoencoderKL, DDIMPipeline

    last = lambda a: np.moveaxis(a.numpy(), 1, -1)
    for name in CASES:
        stored = dict(np.load(folder / name / "parity.npz"))
        x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(stored["x"], -1, 1)))
        with torch.no_grad():
            if name == "autoencoder":
                model = AutoencoderKL.from_pretrained(folder / name)
                latent = model.encode(x).latent_dist
                found = {"mean": latent.mean, "image": model.decode(latent.mean).sample}
            else:
                unet = DDIMPipeline.from_pretrained(folder / name).unet
                label = torch.from_numpy(stored["label"]) if "label" in stored else None
                found = {"output": unet(x, torch.from_numpy(stored["index"]), label).sample}
        for key, value in found.items():
            error = np.abs(last(value) - stored[key]).max() / np.abs(stored[key]).max()
            print(f"{name}, {key}: {error:.1e}")
            assert error < LIMIT
        if name != "autoencoder":
            pipe = DDIMPipeline.from_pretrained(folder / name)
            pipe.set_progress_bar_config(disable=True)
            if not unet.config.num_class_embeds:
                image = pipe(num_inference_steps=3, output_type="np").images
                print(f"{name}: DDIMPipeline gives images {image.shape}")


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
