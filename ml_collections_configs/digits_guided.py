"""8x8 digits with guidance in one pass per step: guidance distillation (arXiv:2210.03142).

python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits
python -m diffjax.train --config=configs/digits_guided.py --workdir=runs/digits_guided \
    --config.loss.teacher=runs/digits --resume_from=runs/digits --resume_partial

The network begins with the weights of the teacher and receives the guidance weight, from 1 to 4, as
a condition: `sample --guidance=2.5`. `python -m diffjax.tools.distill --workdir=runs/digits_guided`
then halves its steps, again for all weights.
"""

import ml_collections

from ml_collections_configs import digits_vp, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        digits_vp.get_config().to_dict(),
        network=dict(conditions=dict(guidance=dict(size=1))),
        loss=dict(name="guidance_distillation", teacher="runs/digits", weights=(1.0, 4.0)),
        optimizer=dict(learning_rate=1e-3),
    )
