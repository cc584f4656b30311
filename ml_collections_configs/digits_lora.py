"""8x8 digits: a network learns more digits by low-rank changes of its kernels (arXiv:2106.09685).

python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits_0_8 \
    "--config.data.only=(0,1,2,3,4,5,6,7,8)"
python -m diffjax.train --config=configs/digits_lora.py --workdir=runs/nine \
    --resume_from=runs/digits_0_8

The first network has never seen a nine. The adapter alone is trained, on all ten digits so that the
network keeps the others, with each nine nine times, so that half of a batch is new.
`--config.adapter.rank=4` and `--config.adapter.name=dora` change it.
`python -m diffjax.sample --workdir=runs/nine --label=9` samples nines, and experiments/adapters
measures them.
"""

import ml_collections

from ml_collections_configs import digits_vp, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        digits_vp.get_config().to_dict(),
        data=dict(only=(*range(9), *[9] * 9)),
        adapter=dict(name="lora", where="Block|Attention|Embedding", rank=8),
        optimizer=dict(learning_rate=5e-3, warmup=20),
        train=dict(steps=500, sample_every=250),
    )
