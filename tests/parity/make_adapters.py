"""Write adapters of PEFT, diffusers and LyCORIS, for test_adapters_parity.py; run by hand.

    pip install torch peft diffusers lycoris-lora
    python tests/parity/make_adapters.py tests/parity/adapters.npz

Made with torch 2.13.0 (CPU), peft 0.21.2, diffusers 0.42.1, lycoris-lora 4.1.3 and numpy 2.4.6.

Each case is an adapter of layers that are not square, with every tensor redrawn: a layer (7, 5) and
a convolution (6, 4, 3, 3). The file holds the weights, the adapter as the library stores it, and
the merged weights. LyCORIS writes the format of kohya. Its `dora_in` has a magnitude of each input.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open

RANK, ALPHA = 2, 3
PEFT = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"conv": 3}, "alpha_pattern": {"conv": 1.5}},
}
LYCORIS = {
    "kohya_lora": {},
    "kohya_dora": {"weight_decompose": True, "wd_on_out": True},
    "kohya_dora_in": {"weight_decompose": True, "wd_on_out": False},
}


class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lin, self.conv = torch.nn.Linear(5, 7), torch.nn.Conv2d(4, 6, 3)

    def forward(self, x):
        return x


def redraw(module, seed):
    """Redraw every parameter; magnitudes are positive and far from those of the weight."""
    rng = np.random.default_rng(seed)
    for name, parameter in sorted(module.named_parameters()):
        values = rng.normal(size=parameter.shape) * 0.5
        positive = "magnitude" in name or "dora_scale" in name
        values = 0.5 + np.abs(values) * 3 if positive else values
        parameter.data.copy_(torch.from_numpy(values.astype(np.float32)))


def arrays(prefix, tensors):
    return {f"{prefix}/{name}": np.asarray(t.detach().float()) for name, t in tensors.items()}


def read(file):
    with safe_open(file, "pt") as stored:
        return {k: stored.get_tensor(k) for k in sorted(stored.keys())}, stored.metadata() or {}


def peft(name, settings):
    model = Layers()
    redraw(model, 1)
    base = {"lin": model.lin.weight.clone(), "conv": model.conv.weight.clone()}
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["lin", "conv"], **settings)
    adapted = get_peft_model(model, config)
    redraw(torch.nn.ModuleList([m for n, m in adapted.named_modules() if n.endswith(ENDS)]), 2)
    with tempfile.TemporaryDirectory() as folder:
        adapted.save_pretrained(folder)
        tensors, metadata = read(f"{folder}/adapter_model.safetensors")
        about = json.loads(Path(folder, "adapter_config.json").read_text())
    merged = adapted.merge_and_unload()
    after = {"lin": merged.lin.weight, "conv": merged.conv.weight}
    facts = {"metadata": metadata, "config": about}
    return {**case(name, base, tensors, after), f"{name}/facts": json.dumps(facts)}


ENDS = ("lora_A.default", "lora_B.default", "lora_magnitude_vector.default")


def case(name, base, tensors, after):
    return {
        **arrays(f"{name}/base", base),
        **arrays(f"{name}/file", tensors),
        **arrays(f"{name}/merged", after),
    }


def lycoris(name, settings):
    from lycoris.modules.locon import LoConModule

    model = Layers()
    redraw(model, 1)
    base, tensors, after = {}, {}, {}
    for layer in ("lin", "conv"):
        org = getattr(model, layer)
        base[layer] = org.weight.clone()
        module = LoConModule(f"lora_unet_{layer}", org, 1.0, RANK, ALPHA, **settings)
        redraw(module, 3)
        if settings:
            generator = np.random.default_rng(4)
            moved = 0.5 + np.abs(generator.normal(size=module.dora_scale.shape)) * 2
            module.dora_scale.data.copy_(torch.from_numpy(moved.astype(np.float32)))
        state = {f"lora_unet_{layer}.{k}": v for k, v in module.custom_state_dict().items()}
        tensors |= state
        after[layer] = module.get_merged_weight(multiplier=1.0)[0]
    return {**case(name, base, tensors, after), f"{name}/facts": json.dumps({})}


def diffusers(name):
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.training_utils import _collate_lora_metadata

    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=2,
        out_channels=2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=6,
        attention_head_dim=2,
        norm_num_groups=2,
    )
    chosen = ["conv_in", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"]
    chosen.append("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0")
    weights = lambda: {n: unet.get_submodule(n).weight for n in chosen}
    redraw(unet, 5)
    base = {n: w.detach().clone() for n, w in weights().items()}
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=chosen))
    redraw(torch.nn.ModuleList([m for n, m in unet.named_modules() if n.endswith(ENDS)]), 6)
    with tempfile.TemporaryDirectory() as folder:
        StableDiffusionPipeline.save_lora_weights(
            folder,
            unet_lora_layers=get_peft_model_state_dict(unet),
            **_collate_lora_metadata({"unet": unet}),
        )
        tensors, metadata = read(f"{folder}/pytorch_lora_weights.safetensors")
    unet.fuse_lora()
    unet.unload_lora()
    facts = {"metadata": metadata}
    return {**case(name, base, tensors, weights()), f"{name}/facts": json.dumps(facts)}


if __name__ == "__main__":
    found = {}
    for name, settings in PEFT.items():
        found |= peft(name, settings)
    for name, settings in LYCORIS.items():
        found |= lycoris(name, settings)
    found |= diffusers("diffusers")
    np.savez_compressed(sys.argv[1], **found)
    for name, value in found.items():
        print(name, np.shape(value))
