"""Write the outputs of published transformers of text, for test_text_parity.py; run by hand.

    pip install torch transformers
    python tests/parity/make_text.py tests/parity/text.npz

Made with torch 2.13.0 (CPU), transformers 5.24.0 and numpy 2.4.6.

The file holds no weights: `drawn` of `make_features.py` draws each tensor from a generator seeded
by its name, and the test repeats that. It holds the configs, names and shapes of tensors, and the
states of the tokens IDS with the mask MASK, after the last block and before it. A text of CLIP ends
at the largest number where the config states the END 2, as old configs do, else at the first END.
"""

import json
import sys
from typing import Any

import numpy as np
from make_features import drawn, redraw

IDS = np.array([[5, 17, 2, 40, 41, 8, 3, 0], [7, 9, 3, 3, 3, 3, 3, 3]])
MASK = np.array([[1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0, 0]])
SMALL = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 3}
SMALL |= {"num_attention_heads": 3, "max_position_embeddings": 10}
T5 = {"vocab_size": 50, "d_model": 24, "d_kv": 6, "d_ff": 36, "num_layers": 3, "num_heads": 3}
T5 |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 6}
LANGUAGE = SMALL | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
LANGUAGE |= {"max_position_embeddings": 64, "rope_theta": 10_000.0}
GEMMA = LANGUAGE | {"query_pre_attn_scalar": 24, "sliding_window": 64}
GEMMA |= {"attn_logit_softcapping": 2.0, "attn_implementation": "eager"}
TIED = "encoder.embed_tokens.weight"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "clip": ("CLIPTextModel", "CLIPTextConfig", SMALL | {"eos_token_id": 2}),
    "bigg": (
        "CLIPTextModelWithProjection",
        "CLIPTextConfig",
        SMALL | {"hidden_act": "gelu", "projection_dim": 20, "eos_token_id": 3},
    ),
    "bert": ("BertModel", "BertConfig", SMALL),
    "t5": ("T5EncoderModel", "T5Config", T5 | {"feed_forward_proj": "relu"}),
    "t5 1.1": ("T5EncoderModel", "T5Config", T5 | {"feed_forward_proj": "gated-gelu"}),
    "umt5": ("UMT5EncoderModel", "UMT5Config", T5 | {"feed_forward_proj": "gated-gelu"}),
    "gemma2": ("Gemma2Model", "Gemma2Config", GEMMA),
    "qwen3": ("Qwen3Model", "Qwen3Config", LANGUAGE),
}


def case(model: str, config: str, fields: dict[str, Any]) -> dict[str, Any]:
    import torch
    import transformers

    made = getattr(transformers, config)(**fields)
    net = getattr(transformers, model)(made).eval()
    shapes = json.loads(redraw(net))
    if shapes.pop(TIED, None):  # files hold the first name of this tensor alone
        words = torch.from_numpy(drawn("shared.weight", tuple(shapes["shared.weight"])))
        net.shared.weight.copy_(words)
    stored = {"shapes": json.dumps(shapes), "config": json.dumps(made.to_dict())}
    # Pipelines with CLIP pass no mask: a token sees those before it.
    mask = {} if model.startswith("CLIP") else {"attention_mask": torch.from_numpy(MASK)}
    out = net(torch.from_numpy(IDS), **mask, output_hidden_states=True)
    stored["last"] = out.last_hidden_state.numpy()
    stored["before"] = out.hidden_states[-2].numpy()
    if model.startswith("CLIP"):
        projected = model.endswith("Projection")
        stored["pooled"] = (out.text_embeds if projected else out.pooler_output).numpy()
    return stored


def main() -> None:
    import torch

    with torch.no_grad():
        arrays = {
            f"{name}/{key}": value
            for name, entry in CASES.items()
            for key, value in case(*entry).items()
        }
    np.savez_compressed(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
