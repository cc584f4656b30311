"""Denoisers: a network with its parameterization and process, and the same one in another frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from diffjax import checks
from diffjax.arrays import Cond, Params, expand, float64, pytree, rebuild
from diffjax.nets.network import Network, check_times
from diffjax.parameterization import Parameterization
from diffjax.prediction import Denoise, Prediction, Sample, Time, check_inputs
from diffjax.sde import SDE, ends
from diffjax.spaces import PLAIN, Space, mask_of, space_of


@dataclass(frozen=True)
class Model:
    """The recipe of a denoiser: process, parameterization and network, without parameters.

    A model is hashable and therefore a static argument of `jax.jit`. Its parameters are a dict with
    the entry `network`, and `schedule` where it is learned. space: that of items and outputs.

    Raises ValueError where the parameterization does not suit the process, and where the noise
    label is not finite on [t_min, t_max].

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> vp, network = sde.VP(schedules.Linear()), nets.mlp(width=16, depth=1)
    >>> model = Model(vp, parameterization.Eps(), network)
    >>> model == Model(vp, parameterization.Eps(), network)  # no parameters, so a static argument
    True
    """

    sde: SDE
    parameterization: Parameterization
    network: Network
    space: Space = PLAIN

    def __post_init__(self):
        checks.instance(SDE, "diffjax.sde.VP(diffjax.schedules.Linear())", sde=self.sde)
        asked, network = self.parameterization, self.network
        checks.instance(Parameterization, "diffjax.parameterization.Eps()", parameterization=asked)
        checks.instance(Network, "diffjax.nets.mlp()", network=network)
        asked.check(self.sde)
        check_label(asked, self.sde)

    def __repr__(self) -> str:
        asked = self.parameterization
        what = f"{type(asked).__name__}, c_noise={asked.c_noise.__name__}"
        return f"Model({what}, {self.network}, {self.sde})"

    def init(self, key: Key[Array, ""], x: Sample, cond: Cond | None = None) -> Params:
        """Initialise the parameters for inputs of the shapes of `x` (B, ...) and `cond`."""
        schedule = self.sde.schedule.init()
        # Jitted although it runs once: the checks of a config, of weights and of a state call it
        # for its shapes, and equal networks then share one trace.
        init = jax.jit(self.network.init)
        network = init(key, x, jnp.zeros(x.shape[:1], x.dtype), cond)
        return {"network": network} | ({"schedule": schedule} if schedule else {})

    def project(self, params: Params, companions: Sequence[str] = ()) -> Params:
        """Project the parameters onto the network's constraint set, after a training step.

        companions: names of further networks of this kind among the parameters.
        """
        names = ("network", *companions)
        return params | {name: self.network.project(params[name]) for name in names}

    def bind(self, params: Params) -> Model:
        """Return the model with the trained parameters of its schedule put into the schedule.

        Without such parameters the model itself is returned.
        """
        learned = params.get("schedule")
        return rebuild(self, sde=self.sde.bind(learned)) if learned else self

    def output(
        self,
        params: Params,
        x: Sample,
        t: Time,
        cond: Cond | None,
        key: Key[Array, ""] | None,
        to: Time | None = None,
    ) -> tuple[Sample, Sample | None]:
        """Return the raw network output F (B, ...), and the second output or None.

        x: noisy samples (B, ...). t: their times (B,), or (B, L) for networks with lanes. cond:
        conditions by name, each (B, ...). key: randomness of dropout; None in evaluation. to: the
        second time (B,) of a flow map, for a network with the condition `to`; None for all, or NaN
        for single samples, means t. Some noise labels are infinite at 0, so a second time below
        t_min gets the label of t_min. Raises ValueError for arrays of other shapes.
        """
        checks.samples(x)
        check_times(self.network, x, t, to)
        checks.conditions(cond, x.shape[0])
        c_in = self.parameterization.c_in(self.sde, t)
        c_noise = self.parameterization.c_noise(self.sde, t)
        if to is not None:
            to = jnp.where(jnp.isnan(to), t, to)
            label = self.parameterization.c_noise(self.sde, jnp.maximum(to, self.sde.t_min))
            # On the diagonal s = t the second label must equal the first to the last bit, without
            # losing its own derivative in s, which some rules of flow maps take.
            label += jax.lax.stop_gradient(jnp.where(to == t, c_noise - label, 0))
            cond = {**(cond or {}), "to": label}
        outputs = self.network.apply(params["network"], expand(c_in, x) * x, c_noise, cond, key=key)
        output, log_var = outputs if isinstance(outputs, tuple) else (outputs, None)
        second = {} if log_var is None else {"the network's second output": log_var}
        checks.same_shape(x.shape, **{"the network's output": output}, **second)
        return self.space.project(output, mask_of(cond, x)), log_var

    def views(self, output: Sample, x: Sample, t: Time) -> tuple[Sample, Sample]:
        """Recover (x0, eps) from F = a x0 + b eps and x = alpha x0 + sigma eps.

        Neither is computed from the other, so each stays finite where the other is ill-conditioned:
        x0 at sigma = 0, eps at alpha = 0.
        """
        a, b = self.parameterization.target(self.sde, t)
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        det = a * sigma - b * alpha
        x0 = expand(sigma / det, x) * output - expand(b / det, x) * x
        return x0, expand(a / det, x) * x - expand(alpha / det, x) * output


def check_label(asked: Parameterization, sde: SDE) -> None:
    """Raise ValueError where the noise label is infinite or NaN at t_min or t_max.

    >>> from diffjax import parameterization, schedules, sde
    >>> label = parameterization.log_sigma
    >>> check_label(parameterization.V(c_noise=label), sde.VP(schedules.Cosine()))
    Traceback (most recent call last):
    ValueError: c_noise=log_sigma with VP(schedule=Cosine(s=0.008), t_min=0.001, t_max=1.0): ...
    """
    label = float64(lambda t: asked.c_noise(sde, t))
    for name, t in (("t_min", sde.t_min), ("t_max", sde.t_max)):
        if not np.isfinite(value := float(label(np.float64(t)))):
            asked_for = getattr(asked.c_noise, "__name__", asked.c_noise)
            raise ValueError(
                f"c_noise={asked_for} with {sde}: the noise label is {value:g} at {name}={t:g}; "
                f"allowed: t_max < 1, or the noise labels time, angle and t"
            )


@pytree
@dataclass(frozen=True)
class Denoiser:
    """A model with its parameters: a pytree whose only leaves are the parameters.

    Calling it with x (B, ...) and t (B,) returns a `Prediction`.

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> network = nets.Network(lambda *shapes: {}, lambda params, x, *_, key=None: 0 * x)
    >>> model = Model(sde.Flow(schedules.Logit()), parameterization.X0(), network)
    >>> denoise = Denoiser(model, {"network": {}})
    >>> p = denoise(jnp.ones((3, 2)), jnp.full(3, 0.5))
    >>> p.x0[0].tolist(), p.eps[0].tolist()  # x = 0.5 x0 + 0.5 eps
    ([0.0, 0.0], [2.0, 2.0])
    """

    model: Model = field(metadata={"static": True})
    params: Params
    space = property(lambda self: self.model.space)

    @property
    def sde(self) -> SDE:
        return self.model.sde.bind(self.params.get("schedule", {}))

    def check(self, x: Any, cond: Mapping[str, Any] | None) -> None:
        """Raise ValueError for inputs or labels that the network was not built for."""
        checks.conditions(cond, x.shape[0])
        self.model.network.check(x, cond)

    def __repr__(self) -> str:
        count = sum(jnp.size(a) for a in jax.tree.leaves(self.params))
        return f"Denoiser({self.model}, {count:,} parameters)"

    def __call__(
        self,
        x: Sample,
        t: Time,
        cond: Cond | None = None,
        *,
        key: Key[Array, ""] | None = None,
        to: Time | None = None,
    ) -> Prediction:
        """Predict x0 and eps for x (B, ...) at times t; arguments as in `Model.output`."""
        model = self.model.bind(self.params)
        output, log_var = model.output(self.params, x, t, cond, key, to)
        return Prediction(output, *model.views(output, x, t), log_var)


@pytree
@dataclass(frozen=True)
class Reframed:
    """A denoiser called under another process than that of its training: see `reframe`."""

    denoise: Denoise
    sde: SDE = field(metadata={"static": True})
    space = property(lambda self: space_of(self.denoise))

    def check(self, x: Any, cond: Mapping[str, Any] | None) -> None:
        """Raise ValueError for inputs that the wrapped denoiser was not built for."""
        check_inputs(self.denoise, x, cond)

    def __call__(
        self,
        x: Sample,
        t: Time,
        cond: Cond | None = None,
        *,
        key: Key[Array, ""] | None = None,
        to: Time | None = None,
    ) -> Prediction:
        checks.samples(x)
        checks.times(x, t=t, **({} if to is None else {"to": to}))
        l = self.sde.logsnr(t)
        (log_alpha, log_sigma), trained = self.sde.frame(l), self.denoise.sde.frame(l)
        # alpha' / alpha = sigma' / sigma at equal log-SNR; the first is finite at sigma = 0, the
        # second at alpha = 0.
        log_scale = jnp.where(l > 0, trained[0] - log_alpha, trained[1] - log_sigma)
        lo, hi = self.denoise.sde.t_min, self.denoise.sde.t_max
        there = lambda l: jnp.clip(self.denoise.sde.inverse(l), lo, hi)
        # Clipping removes rounding only, since `reframe` has checked the ends; a second time below
        # t_min becomes t_min.
        leads = {} if to is None else {"to": there(self.sde.logsnr(to))}
        return self.denoise(expand(jnp.exp(log_scale), x) * x, there(l), cond, key=key, **leads)


def reframe(denoise: Denoise, sde: SDE) -> Reframed:
    """Use a trained network under another process, without retraining.

    At equal log-SNR l the two processes differ only in the scale of x, so the network is evaluated
    at t' = inverse'(l) and x' = (alpha' / alpha) x, where the prime marks the process of training.
    Its views x0 and eps hold in both frames; `output` remains the target that the network was
    trained on (arXiv:2206.00364, app. C).

    Raises ValueError where `sde` has noise levels that the network was not trained on.

    >>> from diffjax import analytic, schedules, sde
    >>> data, schedule = analytic.gaussian(jnp.zeros(1), jnp.ones(1)), schedules.Linear()
    >>> denoise = reframe(data.denoiser(sde.VP(schedule)), sde.VE(schedule, t_min=1e-3))
    >>> x0 = denoise(jnp.ones((1, 1)), jnp.full(1, 0.5)).x0
    >>> bool(jnp.allclose(x0, 1 / (1 + denoise.sde.sigma(jnp.asarray(0.5)) ** 2)))
    True
    """
    new, old = ends(sde).lam, ends(denoise.sde).lam
    if new[0] > old[0] + 1e-6 * abs(old[0]) or new[1] < old[1] - 1e-6 * abs(old[1]):
        raise ValueError(
            f"reframe to {sde}: its log-SNR range [{2 * new[1]:.4g}, {2 * new[0]:.4g}] exceeds "
            f"the trained one [{2 * old[1]:.4g}, {2 * old[0]:.4g}]; allowed: t_min, t_max inside it"
        )
    return Reframed(denoise, sde)
