"""8x8 digits and their labels with a time each: one network for p(x, y), p(x | y), p(y | x), p(x).

python -m diffjax.train --config=configs/digits_joint.py --workdir=runs/joint

Then `python -m diffjax.sample --workdir=runs/joint --num=16 --out=both.npz` draws images with
labels, and `--given=test:0,1,2 --known=0:16` the labels of held-out images. 6,000 steps
take 25 minutes of a shared core; labels of images are then right in 97.6 %, and images of labels in
97.8 % (experiments/joint).
"""

import ml_collections

from ml_collections_configs import parts, series


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        series.get_config().to_dict(),
        data=dict(name="joint"),
        network=dict(width=96, depth=4, heads=4),
        loss=dict(sizes=(16, 3), shared=0.2, known=0.2, past=0.0),
        optimizer=dict(learning_rate=2e-3, schedule=dict(name="cosine", length=6000)),
        train=dict(steps=6000, batch_size=64, sample_every=6000, checkpoint_every=500),
    )
