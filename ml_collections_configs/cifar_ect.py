"""CIFAR-10, unconditional, consistency tuning of EDM's network: ECT (arXiv:2406.14548).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_ect.py --workdir=runs/cifar_ect \
    --resume_from=edm-cifar10-32x32-uncond-vp.pkl --resume_partial

The settings are those of the published code (https://github.com/locuslab/ect, run_ecm.sh): EDM's
unconditional DDPM++ with a second time, which begins at zero, noise levels log-normal (-1.1, 2),
dropout 0.2 with one mask for both passes, no augmentation, RAdam at 1e-4 and EMA 0.9999; r / t = 1
- (1 + 8 sigmoid(-t)) / 2^k, and k grows by 1 every 25,000 steps. The loss is the root of the
squared error of x0 with EDM's weight; here `self_weight` divides the squared error by that root,
which has the same gradient up to a constant. 200,000 steps of 128 images; FID 3.86 in one step and
2.15 in two there (--steps=2 --grid="explicit:times=(1.0,0.3844)", which is sigma = 80 and 0.821).
The variant of one hour keeps r = t (1 - (1 + 8 sigmoid(-t)) / 256) and EMA 0.9993. Made for GPU
and TPU; no result was measured here.
"""

import ml_collections

from ml_collections_configs import networks, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        data=dict(flip=False),
        sde=dict(name="ve", t_min=1e-9, t_max=1.0, schedule=dict(name="karras")),
        parameterization=dict(name="edm", sigma_data=0.5, c_noise="quarter_log_sigma"),
        network=dict(networks.DDPMPP, dropout=0.2, conditions=dict(to=dict(size=1))),
        loss=dict(
            name="flow_map",
            rule=dict(name="discrete", gap=False),
            pair=dict(name="ratio", base=2.0, first=1, most=8, every=25_000),
            velocity=dict(name="conditional"),
            draw=dict(name="log_normal", mean=-1.1, std=2.0),
            weight=dict(name="edm", sigma_data=0.5, power=1.5),
            diagonal=0.0,
            self_weight=0.5,
            self_weight_floor=1e-12,
        ),
        optimizer=dict(name="radam", learning_rate=1e-4, warmup=0, clip=None),
        sampling=dict(sampler=dict(name="flow_map", gamma=1.0), steps=1),
        train=dict(steps=200_000, batch_size=128),
    )
