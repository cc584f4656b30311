"""CIFAR-10, unconditional, one-step distillation of EDM's network: SiD (arXiv:2404.04057).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_sid.py --workdir=runs/cifar_sid \
    --config.loss.teacher=edm-cifar10-32x32-uncond-vp.pkl \
    --resume_from=edm-cifar10-32x32-uncond-vp.pkl --resume_partial

Generator and critic begin with the weights of the teacher, without its labels of augmentation. a =
1.2 and the division by the error of each sample are published, with an FID of 1.92 in one step. The
published generator maps noise of sigma = 2.5, and generator and critic take turns; here it maps
noise of sigma = 80, and takes a step for each five of the critic. `--config.loss.divergence=kl` is
DMD (arXiv:2405.14867). Rates and batch size were chosen here. Made for GPU and TPU; no result was
measured here.
"""

import ml_collections

from ml_collections_configs import networks, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        data=dict(flip=False),
        sde=dict(name="ve", t_min=1e-9, t_max=1.0, schedule=dict(name="karras")),
        parameterization=dict(name="edm", sigma_data=0.5, c_noise="quarter_log_sigma"),
        network=dict(networks.DDPMPP, dropout=0.0),
        loss=dict(
            name="distribution_matching",
            teacher="runs/cifar_edm",
            divergence=dict(name="fisher", a=1.2),
            weight=dict(name="uniform_x0"),
            draw=dict(name="uniform", importance=False),
            critic_steps=5,
            normalise=True,
        ),
        optimizer=dict(name="adam", learning_rate=1e-5, b1=0.0, warmup=0, clip=None),
        sampling=dict(sampler=dict(name="ddim"), steps=1),
        train=dict(steps=400_000, batch_size=256),
    )
