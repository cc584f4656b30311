"""ImageNet at 64 x 64, class-conditional: EDM2-S (arXiv:2312.02696, tab. 5).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/imagenet64_edm2.py --workdir=runs/edm2

The magnitude-preserving U-Net of 280 M parameters, log-normal noise levels (-0.8, 1.6), EDM's
preconditioning and weight with learned uncertainty, Adam at 0.01 with beta2 = 0.99, batches of
2,048; 1,073 Mimg there, and FID 1.58 with 63 passes of Heun. The power-function average has a width
of 0.10. The learning rate is constant after its warm-up, where the paper lets it decay as 1 /
sqrt(t) after 70,000 steps. Made for many GPUs or TPUs; no result was measured here.
"""

import ml_collections

from ml_collections_configs import networks, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        data=dict(name="tfds:imagenet_resized/64x64", flip=True, labels=True),
        sde=dict(name="ve", t_min=1e-9, t_max=1.0, schedule=dict(name="karras")),
        parameterization=dict(name="edm", sigma_data=0.5, c_noise="quarter_log_sigma"),
        network=networks.EDM2S,
        loss=dict(
            weight=dict(name="edm", sigma_data=0.5),
            draw=dict(name="log_normal", mean=-0.8, std=1.6),
            uncertainty=True,
            condition_dropout=0.1,
        ),
        optimizer=dict(learning_rate=0.01, warmup=5000, b2=0.99),
        ema=dict(name="power", std=0.10),
        sampling=dict(sampler=dict(name="heun"), steps=32),
        train=dict(steps=524_288, batch_size=2048),
    )
