"""Conformers of small molecules given their elements and bonds, by an equivariant network.

pip install "diffjax[molecules]"
python -m diffjax.train --config=configs/conformers.py --workdir=runs/conformers
python -m diffjax.evaluate --workdir=runs/conformers --metrics=conformers --num=512 --guidance=1
python -m diffjax.sample --workdir=runs/conformers --num=16 --out=c.sdf --out=c.html

Samples are conformers of held-out molecules, with the bonds of these. Training took 32 minutes on a
busy CPU. The median deviation of samples from the nearest held-out conformer is 0.51 angstrom,
where two held-out conformers of a molecule differ by 0.38 (experiments/molecules).
"""

import ml_collections

from ml_collections_configs import molecules, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        molecules.get_config().to_dict(),
        data=dict(name="conformers", atoms=20, conditions=("elements", "bonds"), labels=False),
        network=dict(features=0),
        sampling=dict(sampler=dict(name="dpmpp_2m"), steps=40),
        train=dict(steps=8000, batch_size=16, checkpoint_every=500, sample_every=8000, samples=16),
    )
