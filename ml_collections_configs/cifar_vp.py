"""CIFAR-10, unconditional, as DDPM was trained (arXiv:2006.11239, app. B): 35.7 M parameters.

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_vp.py --workdir=runs/cifar

Linear beta in continuous time, eps-prediction, flips, Adam at 2e-4 after 5,000 steps of warm-up,
EMA 0.9999, 800,000 steps of 128 images. Made for GPU and TPU (`--config.network.dtype=bfloat16`);
DDPM reports an FID of 3.17 with 1,000 ancestral steps (`--sampler=ancestral --steps=1000`), which
was not measured here. Compiled for one H100 in bfloat16, the step needs 3.8 GB (docs/devices.md).
It runs on a CPU too, to try it: `--config.train.steps=20` took 12.6 GB and
58 minutes on one of two cores beside other work. `--config.train.accumulate=4` lowers the memory of
the compiled step from 10.3 to 2.7 GB.
Other images: `--config.data.name=folder:PATH --config.data.size=64`.
"""

import ml_collections

from ml_collections_configs import parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar()
