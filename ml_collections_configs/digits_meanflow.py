"""8x8 digits in few steps from scratch: MeanFlow (arXiv:2505.13447).

python -m diffjax.train --config=configs/digits_meanflow.py --workdir=runs/digits_meanflow

The Eulerian rule with the velocity of each sample; iMF (arXiv:2512.02012), whose variance is
smaller, is `--config.loss.velocity=own`. The rule differentiates the network in t, so the noise
label is t itself, as in the published code: with 1000 t the features of the label turn too fast
(experiments/few_step). Gradients are not clipped there either, which would change their mean.
"""

import ml_collections

from ml_collections_configs import digits_lsd, parts


def get_config() -> ml_collections.ConfigDict:
    base = digits_lsd.get_config().to_dict()
    eulerian = dict(rule=dict(name="eulerian"), velocity=dict(name="conditional"))
    return parts.changed(
        base,
        network=dict(conditions=dict(to=dict(size=1, scale=1.0))),
        parameterization=dict(c_noise="t"),
        loss={**base["loss"], **eulerian},
        optimizer=dict(clip=None),
    )
