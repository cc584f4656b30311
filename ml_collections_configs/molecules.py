"""Small molecules: coordinates and elements of their atoms, by an equivariant network.

pip install "diffjax[molecules]"
python -m diffjax.train --config=configs/molecules.py --workdir=runs/molecules
python -m diffjax.evaluate --workdir=runs/molecules --metrics=molecules --num=500
python -m diffjax.sample --workdir=runs/molecules --num=16 --out=molecules.sdf --out=molecules.html

30,500 steps take 51 minutes at 318 molecules a second. In 500 samples 95.8 % of the atoms are
right, and 44.4 % are whole molecules, all different and nearly none of the training set. The rate
does not depend on the length, and longer is better (experiments/molecules).
"""

import ml_collections

from ml_collections_configs import dw4, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        dw4.get_config().to_dict(),
        data=dict(name="molecules", atoms=20, labels=False),
        network=dict(depth=4, radial=24, reach=5.0, features=5),
        optimizer=dict(learning_rate=1e-3, schedule=dict(name="inverse_sqrt", reference=1000)),
        sampling=dict(sampler=dict(name="ancestral"), steps=200),
        train=dict(
            steps=30_500, batch_size=32, checkpoint_every=500, sample_every=10_000, samples=16
        ),
    )
