"""Digits that move and bounce: videos with a time per frame, by a factorised transformer.

python -m diffjax.train --config=configs/moving_digits.py --workdir=runs/moving_digits
python -m diffjax.sample --workdir=runs/moving_digits --num=20 --out=clips.gif --out=clips.png
python -m diffjax.evaluate --workdir=runs/moving_digits --guidance=1 --real=2000 --num=500 \\
    --metrics=one_class,paths,motion

Training takes 20 minutes of CPU time. It is too short for digits: clips show blobs that move on
smooth paths, 0.53 pixels from ones that bounce, and none shows one class throughout
(experiments/video).
"""

import ml_collections

from ml_collections_configs import parts, series


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        series.get_config().to_dict(),
        data=dict(name="moving_digits", labels=True),
        network=dict(width=128, depth=6, heads=4, patch=4, attention="factorised"),
        loss=dict(condition_dropout=0.2, shared=0.5),
        optimizer=dict(learning_rate=1.5e-3, schedule=dict(name="cosine", length=2000)),
        sampling=dict(guidance=1.0),
        train=dict(
            steps=2000,
            batch_size=32,
            steps_per_dispatch=10,
            sample_every=1000,
            checkpoint_every=500,
            samples=20,
        ),
    )
