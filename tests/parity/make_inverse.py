"""Write what azula and deepinv compute for inverse problems; run by hand for the parity tests.

    pip install torch==2.13.0 azula deepinv
    python tests/parity/make_inverse.py tests/parity/inverse.npz

Made with azula 0.11.1, deepinv 0.5.0, torch 2.13.0 (CPU) and numpy 2.4.6.

Constants are drawn from their names, so that the test has the same ones. The network is the
gradient of a convex function, so its Jacobian is symmetric and positive semidefinite as that of an
exact denoiser. azula computes in float64, deepinv in float32.
"""

import sys
import warnings
import zlib
from typing import Any

import numpy as np

B, D, SEEN, HIDDEN = 4, 16, 6, 24
"""Samples, values per sample (4 x 4 images), measured values, hidden units."""
STD, STRENGTH = 0.3, 2.0
LEVELS = ((0.6, 0.8), (0.96, 0.28))
"""alpha, sigma of azula's predictions."""
SIGMAS = (2.0, 0.5)
"""Of deepinv's, with alpha = 1."""
MEAN, VAR, Y, NOISE = 0.7, 0.25, 1.5, 0.5
"""The Gaussian case of TDS; that of PiGDM is N(0, 1) with the same y and noise."""
PARTICLES, STEPS = 100_000, 10
KERNEL = np.array([[0.1, 0.2, 0.0], [0.05, 0.3, 0.15], [0.0, 0.1, 0.1]])


def drawn(name: str, *shape: int) -> np.ndarray:
    """Return normal numbers that depend on the name alone."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)


WEIGHT, BIAS = drawn("weight", HIDDEN, D) / np.sqrt(HIDDEN), drawn("bias", 1, HIDDEN)
MATRIX, MASK = drawn("matrix", SEEN, D) / np.sqrt(D), drawn("mask", 4, 4) > 0
X, MEASURED = 1.5 * drawn("x", B, D), drawn("y", B, SEEN)
IMAGE, LARGE = drawn("image", B, 8, 8), drawn("large", 1, 16, 16)


def network(x: Any, alpha: Any, sigma: Any, ns: Any, constant: Any) -> Any:
    """Return x0_hat of x (B, D), in numpy, torch or jax.numpy."""
    weight, bias = constant(WEIGHT), constant(BIAS)
    scale = alpha / (alpha**2 + sigma**2)
    return ns.tanh((x * scale) @ weight.T + bias) @ weight


def azula_predictions() -> dict[str, np.ndarray]:
    """Return x0' of azula's denoisers given y at both levels, and its DPS alone and in a batch."""
    import torch
    from azula import guidance
    from azula.denoise import Denoiser, DiracPosterior
    from azula.linalg.covariance import IsotropicCovariance

    constant, results = lambda a: torch.as_tensor(a, dtype=torch.float64), {}

    class Net(Denoiser):
        def __init__(self, alpha: float, sigma: float):
            super().__init__()
            self.level = constant(alpha), constant(sigma)

        def schedule(self, t: Any) -> Any:
            return self.level if t > 0 else (constant(1.0), constant(1e-3))

        def forward(self, x_t: Any, t: Any) -> Any:
            return DiracPosterior(network(x_t, *self.level, torch, constant))

    matrix, noise, one = constant(MATRIX), constant(STD**2), constant(1.0)
    forward = lambda x: x @ matrix.T
    cov = IsotropicCovariance(noise)
    torch.randn_like = torch.zeros_like  # the noise of DPS's step
    for k, level in enumerate(LEVELS):
        net, x, y = Net(*level), constant(X), constant(MEASURED)
        kinds = {
            "mmps": guidance.MMPSDenoiser(net, y, forward, cov, "cg", SEEN),
            "mmps-1": guidance.MMPSDenoiser(net, y, forward, cov, "cg", 1),
            "tmpd": guidance.TMPDenoiser(net, y, forward, noise),
            "diffpir": guidance.DiffPIRDenoiser(net, y, forward, noise, STRENGTH, "cg", D),
            "jfps": guidance.JFPSDenoiser(
                net, y, forward, cov, IsotropicCovariance(constant(2.0)), "cg", SEEN
            ),
        }
        for name, kind in kinds.items():
            results[f"azula-{name}/{k}"] = kind(x, one).mean.detach().numpy()
        plain = guidance.DPSSampler(net, y, forward, zeta=0.0).step(x, one, 0 * one)
        step = lambda x, y, net=net: guidance.DPSSampler(net, y, forward).step(x, one, 0 * one)
        alone = [step(x[i : i + 1], y[i : i + 1]) for i in range(B)]
        results[f"azula-dps/{k}"] = (step(x, y) - plain).detach().numpy()
        results[f"azula-dps-alone/{k}"] = (torch.cat(alone) - plain).detach().numpy()
    return results


def azula_gaussian() -> dict[str, np.ndarray]:
    """Return mean and variance of azula's samples of one Gaussian value."""
    import torch
    from azula import guidance
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VPSchedule
    from azula.sample import DDPMSampler

    class Exact(Denoiser):
        def __init__(self, mean: float, var: float):
            super().__init__()
            self.schedule, self.mean, self.var = VPSchedule(), mean, var

        def forward(self, x_t: Any, t: Any) -> Any:
            alpha, sigma = self.schedule(t)
            gain = alpha * self.var / (alpha**2 * self.var + sigma**2)
            return DiracPosterior(self.mean + gain * (x_t - alpha * self.mean))

    def twist(x: Any, rho: Any) -> Any:
        var = rho**2 / (1 + rho**2) + NOISE**2
        return -((Y - x) ** 2) / (2 * var) - torch.log(torch.as_tensor(var)) / 2

    torch.manual_seed(0)
    settings = {"silent": True, "dtype": torch.float64}
    normal = torch.randn(PARTICLES, 1, dtype=torch.float64)
    data, one = Exact(MEAN, VAR), torch.full((1, 1), Y)
    same = lambda x: x
    samples = {
        "tds": guidance.TDSSampler(data, twist, steps=STEPS, **settings)(normal),
        "ddpm": DDPMSampler(data, steps=STEPS, **settings)(normal),
        "pigdm": guidance.PGDMSampler(Exact(0, 1), one, same, same, steps=200, **settings)(normal),
    }
    return {f"azula-{k}": np.array([float(x.mean()), float(x.var())]) for k, x in samples.items()}


def deepinv_predictions() -> dict[str, np.ndarray]:
    """Return gradients of -log p(y | x) of deepinv's posterior samplers."""
    import torch

    # deepinv imports torchvision, whose wheel on PyPI lacks its operators on a CPU; none runs here.
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor a, Tensor b, float c) -> Tensor")
    import deepinv as dinv
    from deepinv.sampling import noisy_datafidelity as fidelity

    constant, results = lambda a: torch.as_tensor(a, dtype=torch.float32), {}

    class Net(torch.nn.Module):
        def forward(self, x: Any, sigma: Any) -> Any:
            sigma = torch.as_tensor(sigma).reshape(-1, 1)
            return network(x.reshape(-1, D), 1.0, sigma, torch, constant).reshape(x.shape)

    matrix, net = constant(MATRIX), Net()
    physics = dinv.physics.LinearPhysics(
        A=lambda x, **_: x.reshape(-1, D) @ matrix.T,
        A_adjoint=lambda y, **_: (y @ matrix).reshape(-1, 1, 4, 4),
        noise_model=dinv.physics.GaussianNoise(STD),
    )
    terms = {
        "moment": fidelity.MomentMatchingDataFidelity(net, cg_max_iter=20, cg_tol=1e-7),
        "pigdm": fidelity.PiGDMDataFidelity(net, cg_max_iter=20, cg_tol=1e-7),
        "dps": fidelity.DPSDataFidelity(net),
    }
    x, y = constant(X).reshape(B, 1, 4, 4), constant(MEASURED)
    for k, sigma in enumerate(SIGMAS):
        for name, term in terms.items():
            grad = term.grad(x.clone(), y, physics, torch.tensor(sigma))
            results[f"deepinv-{name}/{k}"] = grad.detach().reshape(B, D).numpy()
    return results


def deepinv_operators() -> dict[str, np.ndarray]:
    """Return A x, A^T y and proximal steps of deepinv's operators."""
    import deepinv as dinv
    import torch

    image = torch.as_tensor(IMAGE, dtype=torch.float32)[:, None]
    size, kernel = (1, 8, 8), torch.as_tensor(KERNEL, dtype=torch.float32)[None, None]
    box = torch.zeros(1, 1, 3, 3)  # its adjoint fails with a filter of 2 x 2
    box[..., :2, :2] = 0.25
    mask = torch.as_tensor(np.kron(MASK, np.ones((2, 2))), dtype=torch.float32)[None]
    operators = {
        "blur": dinv.physics.BlurFFT(img_size=size, filter=kernel),
        "average": dinv.physics.Downsampling(img_size=size, filter=box, factor=2),
        "mask": dinv.physics.Inpainting(img_size=size, mask=mask),
    }
    large = torch.as_tensor(LARGE, dtype=torch.float32)[:, None]
    results = {"deepinv-bicubic": dinv.physics.DownsamplingMatlab(factor=2).A(large)}
    for name, operator in operators.items():
        y = operator.A(image)
        results[f"deepinv-{name}"] = y
        results[f"deepinv-{name}-adjoint"] = operator.A_adjoint(y.cos())
        if name in ("blur", "mask"):
            moved = operator.prox_l2(image, y.cos(), gamma=1 / STD**2)
            results[f"deepinv-{name}-prox"] = moved
    return {name: a.detach()[:, 0].numpy() for name, a in results.items()}


def main(path: str) -> None:
    """Write the file."""
    warnings.simplefilter("ignore")
    parts = azula_gaussian(), azula_predictions(), deepinv_predictions(), deepinv_operators()
    arrays = {name: a for part in parts for name, a in part.items()}
    for name, a in arrays.items():
        if not np.isfinite(a).all():
            raise ValueError(f"{name}: not finite")
    np.savez_compressed(path, **{name: a.astype(np.float32) for name, a in arrays.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
