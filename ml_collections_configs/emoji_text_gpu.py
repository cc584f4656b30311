"""Text to image on the 32x32 emoji, for a GPU of 16 GB such as the T4 of Colab.

python -m diffjax.train --config=configs/emoji_text_gpu.py --workdir=runs/emoji

The recipe of emoji_text with 7.4 M parameters, patches of 2 x 2 pixels and batches of 256, in
float32: the tensor cores of a T4 have no bfloat16. On newer GPUs add
`--config.network.dtype=bfloat16`. The gradient of a batch takes 6.4 GB, and a step 2.0 TFLOP
(`python -m diffjax.tools.summary`), so 20,000 steps last at least 1.4 hours at the peak rate of a
T4, 8.1 TFLOP/s in float32. When a session ends, the same command resumes. No result was measured.
"""

import ml_collections

from ml_collections_configs import emoji_text, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        emoji_text.get_config().to_dict(),
        network=dict(width=192, depth=8, heads=6, patch=2),
        optimizer=dict(learning_rate=5e-4, warmup=500),
        train=dict(steps=20_000, batch_size=256, checkpoint_every=500),
    )
