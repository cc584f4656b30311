"""8x8 digits in few steps from a teacher: the Lagrangian rule of flow maps, LMD (arXiv:2505.18825).

python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits
python -m diffjax.train --config=configs/digits_lmd.py --workdir=runs/digits_lmd \
    --config.loss.teacher=runs/digits --resume_from=runs/digits --resume_partial

The student begins with the weights of the teacher and a second time that is zero. With 500 steps of
64 images, other times and a falling learning rate, its Frechet distance in 1, 2, 4 and 8 steps is
2.05, 1.31, 1.13 and 1.06 times the floor; after three such runs in turn, one step is at 1.55
(experiments/few_step). Consistency distillation is `--config.loss.rule=discrete
--config.loss.pair=neighbours:first=32`.
"""

import ml_collections

from ml_collections_configs import digits_lsd, parts


def get_config() -> ml_collections.ConfigDict:
    base = digits_lsd.get_config().to_dict()
    taught = dict(
        name="flow_map_distillation", teacher="runs/digits", velocity=dict(name="teacher")
    )
    return parts.changed(
        base,
        loss={**base["loss"], **taught},
        optimizer=dict(learning_rate=1e-3),
        train=dict(steps=1200),
    )
