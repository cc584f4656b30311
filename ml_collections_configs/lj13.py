"""Thirteen particles in space with the energy of Lennard and Jones, by an equivariant network.

python -m diffjax.train --config=configs/lj13.py --workdir=runs/lj13
python -m diffjax.evaluate --workdir=runs/lj13 --metrics=energies
"""

import ml_collections

from ml_collections_configs import dw4, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        dw4.get_config().to_dict(),
        data=dict(name="lj13", size=20_000, labels=False),
        network=dict(reach=5.0),
        optimizer=dict(learning_rate=1e-3, schedule=dict(name="cosine", length=2000)),
        train=dict(steps=2000, batch_size=64, sample_every=2000),
    )
