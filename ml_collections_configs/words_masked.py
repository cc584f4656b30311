"""Words of up to 12 letters, by masked (absorbing) diffusion.

python -m diffjax.train --config=configs/words_masked.py --workdir=runs/words \
    --config.data.name=lines:/usr/share/dict/words

The file has a word per line, such as that of Debian's package wamerican. 2,000 steps, about 12
minutes of a shared core, are too few: 2 % of the samples are words, where a model of the last
letters draws a third (experiments/discrete).
"""

import ml_collections

from ml_collections_configs import digits_masked, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        digits_masked.get_config().to_dict(),
        data=dict(name="lines:/usr/share/dict/words", labels=False),
        network=dict(width=128, depth=4),
        loss=dict(process=dict(name="masked", levels=27), condition_dropout=0.0),
        sampling=dict(steps=12),
        train=dict(steps=2000, batch_size=128, sample_every=2000, checkpoint_every=500),
    )
