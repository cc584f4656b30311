"""8x8 digits in one step from a teacher: distribution matching, DMD (arXiv:2405.14867).

python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits
python -m diffjax.train --config=configs/digits_dmd.py --workdir=runs/digits_dmd \
    --config.loss.teacher=runs/digits --resume_from=runs/digits

Generator and critic begin with the weights of the teacher. SiD is
`--config.loss.divergence=fisher`.
"""

import ml_collections

from ml_collections_configs import digits_vp, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        digits_vp.get_config().to_dict(),
        loss=dict(
            name="distribution_matching",
            teacher="runs/digits",
            divergence=dict(name="kl"),
            weight=dict(name="uniform_x0"),
            draw=dict(name="uniform"),
            critic_steps=5,
        ),
        optimizer=dict(learning_rate=2e-4),
        sampling=dict(steps=1),
        train=dict(steps=2500),
    )
