"""Emoji in a new style: a word and an adapter of the blocks are learned from ten drawings.

python -m diffjax.train --config=configs/emoji_text.py --workdir=runs/emoji
python -m diffjax.train --config=configs/emoji_style.py --workdir=runs/duotone \
    --resume_from=runs/emoji

The first network knows the styles noto, fluent and twemoji. The drawings show ten concepts in two
colours, `duotone` (data/emoji.py), and `python -m diffjax.sample --workdir=runs/emoji
--adapter=runs/duotone --prompt="red apple, duotone style"` draws others. The word `duotone` is new
in the vocabulary, which begins with that of runs/emoji, and begins as the mean of all words
(textual inversion, arXiv:2208.01618); `--config.adapter=rows:where=words_text` trains it alone,
and nothing else then changes. experiments/adapters measures both.
"""

import ml_collections

from ml_collections_configs import emoji_text, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        emoji_text.get_config().to_dict(),
        data=dict(drawn="duotone", vocabulary="runs/emoji"),
        adapter=dict(
            style=dict(name="lora", where="blocks", rank=8),
            word=dict(name="rows", where="words_text"),
        ),
        optimizer=dict(learning_rate=2e-3, warmup=20),
        train=dict(steps=300, batch_size=32, sample_every=300, checkpoint_every=100, samples=20),
    )
