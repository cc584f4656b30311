"""8x8 digits: a network learns a new digit from five images of it (DreamBooth, arXiv:2208.12242).

python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits_0_8 \
    "--config.data.only=(0,1,2,3,4,5,6,7,8)"
python -m diffjax.tools.prior --workdir=runs/digits_0_8 --out=runs/prior --label=0,1,2,3,4,5,6,7,8
python -m diffjax.train --config=configs/digits_dreambooth.py --workdir=runs/mine \
    --config.data.path=PICTURES --resume_from=runs/digits_0_8

PICTURES is a folder of images. Half of a batch are these images under the class 9, which the first
network has never seen, and half are the samples that it has drawn itself of the other classes, so
that it keeps them. `--config.data.weight=0.5` counts the samples half. The adapter is trained;
the same `data` in `digits_vp` train all weights. experiments/adapters measures both on five nines.
"""

import ml_collections

from ml_collections_configs import digits_lora, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        digits_lora.get_config().to_dict(),
        data=dict(
            name="dreambooth",
            path="pictures",
            prior="runs/prior",
            label=9,
            weight=1.0,
            share=0.5,
            labels=True,
        ),
        train=dict(steps=200, sample_every=100, checkpoint_every=100),
    )
