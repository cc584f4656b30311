"""Write adapters of encoders of text and their outputs, for test_text_adapters.py; run by hand.

    pip install torch transformers peft diffusers
    python tests/parity/make_text_adapters.py tests/parity/text_adapters.npz

Made with torch 2.13.0 (CPU), transformers 5.24.0, peft 0.21.2, diffusers 0.42.1 and numpy 2.4.6.

The networks are those of make_text.py, whose weights are drawn again. Every tensor of an adapter is
redrawn, and the file holds the adapter as its library stores it, with the states of the tokens:
PEFT for BERT and T5, diffusers and kohya for CLIP.
"""

import json
import sys
import tempfile

import numpy as np
import torch
import transformers
from make_features import drawn, redraw
from make_text import CASES, IDS, MASK, TIED
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open

RANK, ALPHA = 2, 3
CLIP = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
ADAPTERS = {
    "clip/diffusers": (CLIP, {}),
    "clip/kohya": (CLIP, {}),
    "bigg/diffusers": (["q_proj", "fc1"], {}),
    "bert/peft": (["query", "value", "dense"], {"use_dora": True}),
    "t5/peft": (["q", "v", "o", "wi", "wo"], {}),
    "t5 1.1/peft": (["k", "wi_0", "wo"], {"use_rslora": True}),
}
ENDS = ("lora_A.default", "lora_B.default", "lora_magnitude_vector.default")


def network(name):
    model, config, fields = CASES[name]
    net = getattr(transformers, model)(getattr(transformers, config)(**fields)).eval()
    shapes = json.loads(redraw(net))
    if shapes.pop(TIED, None):
        words = torch.from_numpy(drawn("shared.weight", tuple(shapes["shared.weight"])))
        net.shared.weight.copy_(words)
    return net


def moved(net, seed):
    """Redraw all parameters of an adapter; magnitudes are positive."""
    rng = np.random.default_rng(seed)
    for name, module in sorted(net.named_modules()):
        for own, parameter in module.named_parameters() if name.endswith(ENDS) else ():
            values = 0.3 * rng.normal(size=parameter.shape)
            values = 0.5 + np.abs(values) if "magnitude" in name + own else values
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))


def stored(folder, file):
    with safe_open(f"{folder}/{file}", "pt") as opened:
        tensors = {k: opened.get_tensor(k).numpy() for k in sorted(opened.keys())}
        return tensors, opened.metadata() or {}


def written(form, adapted, folder):
    if form == "peft":
        adapted.save_pretrained(folder)
        tensors, metadata = stored(folder, "adapter_model.safetensors")
        with open(f"{folder}/adapter_config.json") as file:
            return tensors, {"metadata": metadata, "config": json.load(file)}
    from diffusers import StableDiffusionPipeline
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya

    state = get_peft_model_state_dict(adapted)
    if form == "kohya":
        plain = {k.removeprefix("base_model.model."): v for k, v in state.items()}
        kohya = convert_state_dict_to_kohya(plain)
        prefixed = {f"lora_te_{k.removeprefix('lora_te_')}": v for k, v in kohya.items()}
        alphas = {k: torch.tensor(float(ALPHA)) for k in prefixed if k.endswith(".alpha")}
        return {k: v.numpy() for k, v in (prefixed | alphas).items()}, {"metadata": {}}
    plain = {k.removeprefix("base_model.model."): v for k, v in state.items()}
    StableDiffusionPipeline.save_lora_weights(
        folder,
        text_encoder_lora_layers=convert_state_dict_to_diffusers(plain),
        **_collate_lora_metadata({"text_encoder": adapted}),
    )
    tensors, metadata = stored(folder, "pytorch_lora_weights.safetensors")
    return tensors, {"metadata": metadata}


def case(key, targets, settings):
    name, form = key.split("/")
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, **settings)
    adapted = get_peft_model(network(name), config).eval()
    moved(adapted, len(key))
    ids = torch.from_numpy(IDS)
    mask = {} if "CLIP" in CASES[name][0] else {"attention_mask": torch.from_numpy(MASK)}
    with tempfile.TemporaryDirectory() as folder:
        tensors, facts = written(form, adapted, folder)
    last = adapted.base_model.model(ids, **mask).last_hidden_state.numpy()
    return {
        **{f"{key}/file/{k}": v for k, v in tensors.items()},
        f"{key}/facts": json.dumps(facts, default=sorted),
        f"{key}/last": last,
    }


if __name__ == "__main__":
    found = {}
    with torch.no_grad():
        for key, (targets, settings) in ADAPTERS.items():
            found |= case(key, targets, settings)
    np.savez_compressed(sys.argv[1], **found)
    for key, value in found.items():
        print(key, np.shape(value))
