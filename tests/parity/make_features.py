"""Write the outputs of published feature networks, for test_features.py; run by hand.

    pip install torch torchvision pytorch-fid torch-fidelity transformers scikit-learn
    git clone https://github.com/facebookresearch/dinov2      b8931f7
    PYTHONPATH=dinov2 python tests/parity/make_features.py tests/parity/features.npz

Made with torch 2.13.0 (CPU), torchvision 0.28.0, pytorch-fid 0.3.0, torch-fidelity 0.4.0,
transformers 5.23.0 and numpy 2.4.6.

The file holds no weights: `drawn` draws each tensor from a generator seeded by its name, and the
test repeats that. It holds the names and shapes of tensors, the images, and the largest value of
each layer with some others, chosen by `some`.
"""

import json
import sys
import zlib
from unittest import mock

import numpy as np

KEPT = 16


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of this name, float32; layers with it keep the size of their input."""
    made = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    if name.endswith(("running_var", "bn.weight")):
        return np.exp(made / 4)
    return made / 4 if len(shape) == 1 else made * np.float32(np.sqrt(2 / np.prod(shape[1:])))


def some(x: np.ndarray) -> np.ndarray:
    """The largest value, and `KEPT` that are spread over the array."""
    flat = x.ravel()
    index = np.linspace(0, flat.size - 1, KEPT).astype(int)
    return np.r_[np.abs(flat).max(), flat[index]].astype(np.float32)


def redraw(module) -> str:
    """Replace all floating tensors by those of their names; names and shapes as JSON."""
    import torch

    shapes = {}
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            shapes[name] = list(tensor.shape)
            tensor.copy_(torch.from_numpy(np.asarray(drawn(name, tuple(tensor.shape)))))
    return json.dumps(shapes)


MEAN = {"dinov2": (0.485, 0.456, 0.406), "clip": (0.48145466, 0.4578275, 0.40821073)}
DEVIATION = {"dinov2": (0.229, 0.224, 0.225), "clip": (0.26862954, 0.26130258, 0.27577711)}


def noise(size: int) -> np.ndarray:
    """Two uint8 images."""
    return np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)


def normalised(kind: str, size: int):
    """`noise` as the network is given it."""
    import torch

    x = (noise(size) / 255 - MEAN[kind]) / DEVIATION[kind]
    return torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2)


def photo() -> np.ndarray:
    """A part of a photograph of a temple, uint8 (48, 64, 3)."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg")[100:196:2, 200:328:2]


def inception() -> dict[str, np.ndarray]:
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    names = ["2048", "logits_unbiased"]
    with mock.patch("torch.load"), mock.patch.object(torch.nn.Module, "load_state_dict"):
        net = FeatureExtractorInceptionV3("inception-v3-compat", names, "none").eval()
    made = {"shapes": redraw(net), "photo": photo()}
    layers, spatial = {}, []

    def keep(name):
        def hook(module, given, x):
            layers[name] = some(x.permute(0, 2, 3, 1).numpy())

        return hook

    for name, module in net.named_modules():
        if type(module).__name__ == "BasicConv2d":
            module.register_forward_hook(keep(name))
    branch = net.Mixed_6d.branch1x1
    branch.register_forward_hook(lambda _, __, x: spatial.append(x.permute(0, 2, 3, 1)))
    image = torch.from_numpy(photo()).permute(2, 0, 1)[None]
    pool, logits = net(image)
    made |= {f"layer/{k}": v for k, v in layers.items()}
    made |= {"pool": pool[0].numpy(), "logits": logits[0].numpy()}
    return made | {"spatial": spatial[0][..., :7].reshape(-1).numpy()}


def pytorch_fid() -> dict[str, np.ndarray]:
    """The same weights, and the image as pytorch-fid resizes it."""
    import torch
    from pytorch_fid import inception as module

    with (
        mock.patch.object(module, "load_state_dict_from_url"),
        mock.patch.object(torch.nn.Module, "load_state_dict"),
    ):
        whole = module.fid_inception_v3()
    redraw(whole)
    with mock.patch.object(module, "fid_inception_v3", return_value=whole):
        net = module.InceptionV3().eval()
    (pool,) = net(torch.from_numpy(photo()).permute(2, 0, 1)[None] / 255)
    return {"pool": pool.numpy().ravel()}


def hidden(blocks, layers: dict) -> None:
    """Keep `some` of what each block makes."""

    def keep(i):
        def hook(module, given, x):
            x = x[0] if isinstance(x, tuple) else x
            layers[f"layer/{i}"] = some(x.numpy())

        return hook

    for i, block in enumerate(blocks):
        block.register_forward_hook(keep(i))


def dinov2() -> dict[str, np.ndarray]:
    """Positions of 37 x 37 patches, as published, on 16 x 16."""
    from dinov2.models.vision_transformer import DinoVisionTransformer

    form = {"embed_dim": 128, "depth": 3, "num_heads": 2, "patch_size": 14, "img_size": 518}
    net = DinoVisionTransformer(**form, init_values=1.0, block_chunks=0).eval()
    made = {"shapes": redraw(net)}
    hidden(net.blocks, made)
    return made | {"pool": net(normalised("dinov2", 224)).numpy()}


def clip() -> dict[str, np.ndarray]:
    import torch
    from transformers import CLIPConfig, CLIPModel

    vision = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2}
    vision |= {"num_hidden_layers": 3, "patch_size": 14, "image_size": 56}
    text = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1}
    text |= {"num_hidden_layers": 2, "vocab_size": 100, "eos_token_id": 99, "bos_token_id": 98}
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=32)
    net = CLIPModel(config).eval()
    made = {"shapes": redraw(net)}
    hidden(net.vision_model.encoder.layers, made)
    pool = net.get_image_features(normalised("clip", 56))
    tokens = np.full((2, 77), 99)
    tokens[0, :5], tokens[1, :3] = [98, 3, 7, 7, 12], [98, 50, 2]
    said = {}
    hidden(net.text_model.encoder.layers, said)
    text = net.get_text_features(torch.from_numpy(tokens))
    made |= {f"text/{k}": v for k, v in said.items()} | {"tokens": tokens}
    flat = lambda a: getattr(a, "pooler_output", a).numpy()
    return made | {"pool": flat(pool), "text/pool": flat(text)}


def main(path: str) -> None:
    import torch

    torch.set_grad_enabled(False)
    arrays = {}
    for make in (inception, pytorch_fid, dinov2, clip):
        arrays |= {f"{make.__name__}/{k}": v for k, v in make().items()}
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
