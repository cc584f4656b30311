"""Write small versions of published checkpoints, for test_published.py; run by hand, committed.

    pip install -e .[torch] requests click tqdm
    for f in edm edm2 guided improved score; do
        python tests/parity/make_published.py FOLDER $f tests/parity/published
    done

FOLDER holds checkouts of the original code, as for `make_unet.py`, and

    improved-diffusion  https://github.com/openai/improved-diffusion      1bc7bbb

Made with torch 2.13.0 (CPU) and numpy 2.4.6.

For each network there is a compressed checkpoint, written by the original code, in which every
tensor is constant, `constant` of its name. An .npz holds the output of the network, and the sample
of the original sampler from given noise, with tensors that `drawn` draws from their names. So the
results hold neither weights nor source code, which EDM's pickles contain.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import lzma
import pickle
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from make_unet import CLASSES, LABEL, SCORE_NCSNPP, SIZE, drawn, images, score_config

LEVELS = np.array([0.01, 0.5, 20.0])
"""sigma / alpha at which networks are asked."""
INDICES = np.array([0, 300, 800])
"""Or the indices of 1,000 betas."""
TIMES = np.array([0.01, 0.4, 0.9])
STEPS = 10


def constant(name: str) -> float:
    """Return the constant of this tensor in the file, a number that float16 represents."""
    return zlib.crc32(name.encode()) % 1000 + 1.0


def noise(channels: int = 3) -> np.ndarray:
    x = np.random.default_rng(2).standard_normal((2, 4, SIZE, SIZE), np.float32)
    return x[:, :channels]


def tensors(module: Any) -> dict[str, Any]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def fixed(name: str) -> bool:
    """Tensors that are no weights, which keep their values."""
    return name.endswith(("resample_filter", "sigmas")) or name.removeprefix("ema.") == "u"


@contextlib.contextmanager
def filled(module: Any) -> Iterator[None]:
    """Fill the tensors with constants for the file, and draw them after that."""
    import torch

    def fill(value: Any) -> None:
        with torch.no_grad():
            for name, tensor in tensors(module).items():
                if not fixed(name):
                    tensor.copy_(torch.as_tensor(np.asarray(value(name, tuple(tensor.shape)))))

    fill(lambda name, shape: np.full(shape, constant(name), np.float32))
    yield
    fill(drawn)
    module.eval().requires_grad_(False)


def write(folder: Path, name: str, data: bytes, **arrays: Any) -> None:
    stem = Path(name).stem
    (folder / f"{name}.xz").write_bytes(lzma.compress(data, preset=9))
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: {key} is not finite")
    np.savez_compressed(folder / f"{stem}.npz", **arrays)


def low() -> np.ndarray:
    """The small images that an upsampler enlarges four times."""
    return np.random.default_rng(3).standard_normal((2, 3, SIZE // 4, SIZE // 4), np.float32)


def saved(value: Any, **settings: Any) -> bytes:
    import torch

    made = io.BytesIO()
    torch.save(value, made, **settings)
    return made.getvalue()


def module_of(name: str) -> Any:
    return importlib.import_module(name)


def one_hot() -> Any:
    import torch

    return torch.eye(CLASSES)[LABEL]


def edm(folder: Path) -> None:
    networks, sampler = module_of("training.networks"), module_of("generate").edm_sampler
    song = {
        "model_type": "SongUNet",
        "model_channels": 16,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [4],
        "augment_dim": 2,
        "dropout": 0.1,
    }
    ncsnpp = {
        "embedding_type": "fourier",
        "channel_mult_noise": 2,
        "resample_filter": [1, 3, 3, 1],
        "encoder_type": "residual",
    }
    adm = {**song, "model_type": "DhariwalUNet", "model_channels": 64, "augment_dim": 0}
    cases = {
        "edm-ddpmpp": (networks.EDMPrecond, CLASSES, song),
        "edm-adm": (networks.EDMPrecond, CLASSES, adm),
        "edm-vp": (networks.VPPrecond, 0, song),
        "edm-ve": (networks.VEPrecond, 0, {**song, **ncsnpp}),
        "edm-iddpm": (networks.iDDPMPrecond, CLASSES, adm),
    }
    for name, (kind, classes, settings) in cases.items():
        net = kind(SIZE, 3, label_dim=classes, **settings)
        net.use_fp16 = True
        _nvidia(folder, name, net, sampler, 18, {"augment_pipe": None, "dataset_kwargs": {}})


def edm2(folder: Path) -> None:
    import torch

    networks = module_of("training.networks_edm2")
    sampler = functools.partial(module_of("generate_images").edm_sampler, dtype=torch.float64)
    net = networks.Precond(
        SIZE,
        4,
        CLASSES,
        model_channels=16,
        channel_mult=[1, 2],
        num_blocks=1,
        attn_resolutions=[4],
        channels_per_head=8,
    )
    _nvidia(folder, "edm2", net, sampler, 32, {"dataset_kwargs": {"class_name": "x.y"}})


def _nvidia(folder: Path, name: str, net: Any, sampler: Any, steps: int, rest: Any) -> None:
    import torch

    for module in net.modules():
        if hasattr(type(module), "_orig_module_src"):
            type(module)._orig_module_src = "raise RuntimeError('source code was executed')"
    with filled(net):
        kept = net.to(torch.float16) if name == "edm2" else net
        data = pickle.dumps({"ema": kept, **rest})
        net.to(torch.float32)
    labels = one_hot() if net.label_dim else None
    channels = net.img_channels
    x = torch.from_numpy(np.concatenate([images(), images()[:, :1]], 1)[:, :channels])
    z = torch.from_numpy(noise(channels))
    levels = LEVELS if name != "edm-iddpm" else net.u.numpy()[999 - INDICES].astype(np.float64)
    with torch.no_grad():
        said = [net(x + s * z, torch.tensor(s), labels, force_fp32=True) for s in levels]
        made = sampler(net, z, labels, num_steps=steps)
    write(folder, f"{name}.pkl", data, levels=levels, denoised=torch.stack(said), samples=made)


def _openai(folder: Path, package: str, cases: dict[str, Any]) -> None:
    import torch

    script, unet = module_of(f"{package}.script_util"), module_of(f"{package}.unet")
    small = {"in_channels": 3, "model_channels": 128, "num_res_blocks": 1, "channel_mult": (1, 1)}
    for name, (settings, process) in cases.items():
        sized = {"image_size": SIZE} if package == "guided_diffusion" else {}
        made = {"out_channels": 6, "attention_resolutions": (2,), **small, **sized, **settings}
        enlarges = name.endswith("upsampler")
        net = (unet.SuperResModel if enlarges else unet.UNetModel)(**made)
        with filled(net):
            data = saved(net.state_dict())
        full = script.create_gaussian_diffusion(learn_sigma=True, **process)
        fast = script.create_gaussian_diffusion(
            learn_sigma=True, timestep_respacing=f"ddim{STEPS}", **process
        )
        x, z = torch.from_numpy(images()), torch.from_numpy(noise())
        told = {"y": torch.from_numpy(LABEL)} if "num_classes" in settings else {}
        told |= {"low_res": torch.from_numpy(low())} if enlarges else {}
        said = []
        with torch.no_grad():
            for k in INDICES:
                t = torch.full((2,), int(k))
                given = full.q_sample(x, t, noise=z)
                at = {"clip_denoised": False, "model_kwargs": told}
                said.append(full.p_mean_variance(net, given, t, **at)["pred_xstart"])
            made = fast.ddim_sample_loop(net, z.shape, noise=z, device="cpu", **at)
        write(folder, f"{name}.pt", data, indices=INDICES, denoised=torch.stack(said), samples=made)


def guided(folder: Path) -> None:
    adm = {
        "num_classes": CLASSES,
        "num_head_channels": 64,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
    }
    linear = {"steps": 1000, "noise_schedule": "linear"}
    new = {"num_heads": 4, "use_new_attention_order": True}
    upsampler = {**adm, "num_heads": 4, "num_head_channels": -1}
    cases = {"guided-adm": (adm, linear), "guided-order": (new, linear)}
    cases |= {"guided-upsampler": (upsampler, linear)}
    _openai(folder, "guided_diffusion", cases)


def improved(folder: Path) -> None:
    process = {"steps": 4000, "noise_schedule": "cosine", "rescale_timesteps": True}
    settings = {"num_heads": 4, "use_scale_shift_norm": True}
    _openai(folder, "improved_diffusion", {"improved": (settings, process)})


def score(folder: Path) -> None:
    sdes, models = module_of("sde_lib"), {}
    for kind, name in (("ddpm", "DDPM"), ("ncsnpp", "NCSNpp")):
        models[name] = getattr(module_of(f"models.{kind}"), name)
    ve = {"scale_by_sigma": True, "progressive_input": "residual"}
    cases = {
        "score-ddpm": ("DDPM", sdes.VPSDE(), False, {"nf": 128, "ch_mult": (1, 1)}),
        "score-ddpmpp-vp": ("NCSNpp", sdes.VPSDE(), True, {"ch_mult": (1, 2, 2)}),
        "score-ddpmpp-subvp": ("NCSNpp", sdes.subVPSDE(), True, {}),
        "score-ncsnpp-ve": ("NCSNpp", sdes.VESDE(), True, {**SCORE_NCSNPP, **ve}),
        "score-ncsnpp-discrete": ("NCSNpp", sdes.VESDE(), False, {"fir": True, **ve}),
    }
    for name, (kind, sde, continuous, settings) in cases.items():
        config = score_config(**settings)
        config.data.centered = not isinstance(sde, sdes.VESDE)
        config.training.continuous = continuous
        _score(folder, name, models[kind](config), sde, continuous)


def _score(folder: Path, name: str, net: Any, sde: Any, continuous: bool) -> None:
    import torch

    average = module_of("models.ema").ExponentialMovingAverage
    model = torch.nn.DataParallel(net)
    with filled(net):
        ema, optimizer = average(model.parameters(), 0.999), torch.optim.Adam(model.parameters())
        ema.shadow_params = [p.detach() + 0.5 for p in ema.shadow_params]
        state = {"optimizer": optimizer, "model": model, "ema": ema}
        data = saved({k: v.state_dict() for k, v in state.items()} | {"step": 7})
    ask = module_of("models.utils").get_score_fn(sde, net, train=False, continuous=continuous)
    ve = not net_centered(name)
    x = torch.from_numpy((images() + 1) / 2 if ve else images())
    z, said = torch.from_numpy(noise()), []
    times = TIMES if continuous else INDICES / 999
    with torch.no_grad():
        for t in torch.from_numpy(times.astype(np.float32)):
            t = t.expand(2)
            mean, std = sde.marginal_prob(x, t)
            if not continuous and not ve:
                k = (t * 999).round().long()
                mean = sde.sqrt_alphas_cumprod[k][:, None, None, None] * x
                std = sde.sqrt_1m_alphas_cumprod[k]
            alpha, std = (mean / x)[:1, :1, :1, :1], std[:, None, None, None]
            given = mean + std * z
            x0 = (given + std**2 * ask(given, t)) / alpha
            said.append(2 * x0 - 1 if ve else x0)
        made = _euler(sde, ask, z) if continuous else z
    made = 2 * made - 1 if ve and continuous else made
    write(folder, f"{name}.pth", data, times=times, denoised=torch.stack(said), samples=made)


def net_centered(name: str) -> bool:
    return "ncsnpp" not in name


def _euler(sde: Any, ask: Any, z: Any) -> Any:
    """The original's probability-flow ODE by Euler's method, from t = 1 to 1 / STEPS.

    Its own predictor does not run without noise, whose size it indexes though it is a number.
    """
    import torch

    ode = sde.reverse(ask, probability_flow=True)
    x = z * getattr(sde, "sigma_max", 1.0)
    for t in torch.linspace(1, 1 / STEPS, STEPS)[:-1]:
        x = x - ode.sde(x, t.expand(2))[0] / STEPS
    return x


FAMILIES = {
    "edm": ("edm", edm),
    "edm2": ("edm2", edm2),
    "guided": ("guided-diffusion", guided),
    "improved": ("improved-diffusion", improved),
    "score": ("score_sde_pytorch", score),
}


def main(folder: str, family: str, out: str) -> None:
    import torch
    import torch.utils.cpp_extension

    torch.utils.cpp_extension.load = lambda *_, **__: None  # score_sde's CUDA code
    place, make = FAMILIES[family]
    sys.path.insert(0, str(Path(folder, place)))
    make(Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
