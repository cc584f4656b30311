"""What the CIFAR-10 configs share, DDPM's run (arXiv:2006.11239, app. B), and changes of a run."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from ml_collections_configs import networks


def cifar(**changes: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """DDPM's run with other sections: fields are changed, or all replaced where the name is new."""
    base = dict(
        seed=0,
        data=dict(name="tfds:cifar10", flip=True, labels=False),
        sde=dict(name="vp", t_min=1e-3, t_max=1.0, schedule=dict(name="linear")),
        parameterization=dict(name="eps", c_noise="time"),
        network=dict(networks.DDPM, learn_variance=False, dtype="float32", remat=False),
        loss=dict(
            weight=dict(name="uniform_output"),
            draw=dict(name="uniform", stratified=False),
            error=dict(name="l2"),
            condition_dropout=0.0,
        ),
        optimizer=dict(name="adamw", learning_rate=2e-4, warmup=5000, clip=1.0),
        ema=dict(name="constant", decay=0.9999),
        sampling=dict(sampler=dict(name="ddim"), grid=dict(name="uniform"), steps=50, guidance=1.0),
        train=dict(
            steps=800_000,
            batch_size=128,
            accumulate=1,
            steps_per_dispatch=1,
            log_every=100,
            sample_every=10_000,
            checkpoint_every=5_000,
            keep=2,
            samples=16,
        ),
    )
    return changed(base, **changes)


def changed(base: Mapping[str, Any], **changes: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """A run with other sections: fields are changed, or all replaced where the name is new."""
    sections = {k: _changed(base.get(k, {}), v) for k, v in changes.items()}
    return ml_collections.ConfigDict({**base, **sections})


def _changed(old: Any, new: Mapping[str, Any]) -> dict[str, Any]:
    same = new.get("name", old.get("name")) == old.get("name")
    return {**old, **new} if same else dict(new)
