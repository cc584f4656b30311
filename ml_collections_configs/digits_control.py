"""8x8 digits: a ControlNet draws digits along given edges (arXiv:2302.05543).

python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits
python -m diffjax.train --config=configs/digits_control.py --workdir=runs/edges \
    --resume_from=runs/digits

The first network knows classes alone. The ControlNet beside it is trained, on the edges of each
image; the label is dropped, the edges are not. For the thickness of strokes:
`--config.data.maps="('thickness',)" --config.adapter.condition=thickness`.
`python -m diffjax.sample --workdir=runs/edges` draws digits along the edges of held-out ones, and
`--control=three.png` along those of your own; experiments/adapters measures them.
"""

import ml_collections

from ml_collections_configs import digits_vp, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        digits_vp.get_config().to_dict(),
        data=dict(maps=("edges",)),
        adapter=dict(name="control_net", condition="edges"),
        loss=dict(condition_dropout=dict(label=0.1)),
        optimizer=dict(learning_rate=2e-3, warmup=20),
        train=dict(steps=200, sample_every=200, checkpoint_every=100),
    )
