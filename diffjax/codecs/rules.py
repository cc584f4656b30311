"""Rules by which the latents of published autoencoders are normalised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax.checks import finite, one_of
from diffjax.codecs.base import Codec, Normalisation
from diffjax.io.contents import Contents
from diffjax.io.trees import fingerprint
from diffjax.published.autoencoder import ConvertedAutoencoder

EPSILON = 1e-4
"""Added to the variance of latents by `AutoencoderKLFlux2` where its config states no other."""
SCALING = {"AutoencoderKL": 0.18215, "AutoencoderTiny": 1.0}
"""Scaling factors of the classes whose config states none."""
PLAYGROUND = ((-1.6574, 1.886, -1.383, 2.5155), (8.4927, 5.9022, 6.5498, 5.2299))
EDM2 = ((5.81, 3.25, 0.12, -2.15), (4.17, 4.62, 3.71, 3.28))


class Rule(NamedTuple):
    """The normalisation of latents, and the lowest value of the pixels that the encoder sees.

    The highest value is 1.
    """

    normalisation: Normalisation
    low: float = -1.0


def by_channel(mean: Any, deviation: Any, std: float = 1.0) -> Normalisation:
    """Return the rule z = std (r - mean) / deviation with one number for each channel."""
    as_array = lambda values: np.asarray(values, np.float32)
    return Normalisation(as_array(mean), as_array(deviation), std)


RULES = {
    "none": Rule(Normalisation()),
    "sd": Rule(Normalisation(scale=1 / 0.18215)),  # Stable Diffusion 1 and 2, DiT, SiT, REPA
    "sdxl": Rule(Normalisation(scale=1 / 0.13025)),  # and PixArt-Sigma
    "sd3": Rule(Normalisation(0.0609, 1 / 1.5305)),
    "flux": Rule(Normalisation(0.1159, 1 / 0.3611)),  # and Z-Image
    "playground": Rule(by_channel(*PLAYGROUND, std=0.5)),  # Playground 2.5
    "edm2": Rule(by_channel(*EDM2, std=0.5), low=0.0),  # with the autoencoder of `sd`
}
"""Published rules by name."""


def rule_of(
    config: Mapping[str, Any] | None, statistics: Mapping[str, np.ndarray], name: str = ""
) -> Rule:
    """Return the rule of this name, or that which a `config.json` or the file of tensors states.

    `statistics`, as a name, is the rule (r - latents_mean) / latents_std of Wan, Qwen-Image and
    GLM-Image. config: fields of `config.json`, or None. statistics: tensors `bn.running_mean` and
    `bn.running_var` of Flux.2, or `scale_factor` of LDM. Raises ValueError for an unknown name, for
    values that are no numbers, and where no rule is stated.

    >>> rule_of({"_class_name": "AutoencoderKL", "scaling_factor": 0.5}, {}).normalisation.scale
    2.0
    """
    config = config or {}
    if name and name != "statistics":
        one_of((*RULES, "statistics"), rule=name)
        return RULES[name]
    if not name and "bn.running_mean" in statistics:
        variance = np.asarray(statistics["bn.running_var"], np.float32)
        deviation = np.sqrt(variance + np.float32(_number(config, "batch_norm_eps", EPSILON)))
        return Rule(by_channel(statistics["bn.running_mean"], deviation))
    if name or config.get("latents_mean") is not None:
        std = 1.0 if name else _std(config)
        mean, deviation = (_numbers(config, f"latents_{which}") for which in ("mean", "std"))
        return Rule(by_channel(mean, deviation, std))
    if "scale_factor" in statistics:
        return Rule(Normalisation(scale=1 / float(np.ravel(statistics["scale_factor"])[0])))
    class_name = config.get("_class_name", "AutoencoderKL" if config else "")
    if class_name not in SCALING and "scaling_factor" not in config:
        raise ValueError(
            "rule: the files do not state the normalisation of latents; set rule to one of "
            f"{', '.join(RULES)}"
        )
    factor = _number(config, "scaling_factor", SCALING.get(class_name))
    if not factor:
        raise ValueError("config.json: scaling_factor=0: needs another number")
    return Rule(Normalisation(_number(config, "shift_factor", 0.0), 1 / factor))


def _std(config: Mapping[str, Any]) -> float:
    """Return the deviation of normalised latents where the config states those of raw ones.

    Pipelines differ for `AutoencoderKL`: SDXL's multiplies by the scaling factor, for which
    Playground sets 0.5; those of GLM-Image and REPA-E do not. The default of the class, which a
    saved config states although nobody set it, is therefore refused.
    """
    unset = SCALING["AutoencoderKL"]
    is_kl = config.get("_class_name") == "AutoencoderKL"
    if is_kl and config.get("scaling_factor", unset) == unset:
        raise ValueError(
            f"config.json: latents_mean with scaling_factor={unset}, its default; set "
            f"rule='statistics' for (r - latents_mean) / latents_std"
        )
    return _number(config, "scaling_factor", 1.0)


def _number(config: Mapping[str, Any], name: str, default: Any) -> float:
    value = default if config.get(name) is None else config[name]
    finite(**{f"config.json: {name}": value})
    return float(value)


def _numbers(config: Mapping[str, Any], name: str) -> list[float]:
    values = config.get(name)
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"config.json: {name}={values!r}: needs one number for each channel")
    finite(**{f"config.json: {name}[{i}]": value for i, value in enumerate(values)})
    return [float(value) for value in values]


def by_deviation(raw: np.ndarray) -> Normalisation:
    """Return the rule of LDM, z = r / the deviation of a first batch of raw latents r.

    Source: arXiv:2112.10752, app. G. raw: draws of all its latents (B, h, w, Z).

    >>> float(by_deviation(np.array([-3.0, 0.0, 3.0])).scale)
    3.0
    """
    return Normalisation(scale=float(np.std(np.asarray(raw, np.float64), ddof=1)))


def assembled(converted: ConvertedAutoencoder, contents: Contents, rule: str) -> Codec:
    """Return the codec of a converted autoencoder.

    rule: an entry of `RULES`, or "" for what the files state. Raises ValueError for a rule that has
    numbers for other channels.
    """
    network, params = converted.network, converted.params
    chosen = rule_of(contents.config, converted.statistics, rule)
    normalisation, low = chosen.normalisation, chosen.low
    for value in (normalisation.centre, normalisation.scale):
        if np.ndim(value) and np.shape(value) != (network.latent,):
            raise ValueError(
                f"rule: has {np.size(value)} channels, but the latents have {network.latent}"
            )
        if not np.isfinite(value).all() or not np.all(normalisation.scale):
            raise ValueError("rule: means and deviations of latents need finite numbers, not 0")
    numbers = [np.asarray(a, np.float64) for a in jax.tree.leaves(normalisation)]
    known = fingerprint({"low": low, "factor": network.factor}, (params, numbers))
    return Codec(
        params,
        normalisation,
        network=network,
        low=low,
        fingerprint=known,
        about=converted.about,
    )
