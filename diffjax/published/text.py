"""Names and layouts of transformers of text of Hugging Face: CLIP, BERT, T5, Gemma and Qwen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import Params
from diffjax.io.contents import Contents
from diffjax.nets.text import TextSettings, text
from diffjax.published.tables import Table, blocks, converted, fitting, matrix, same

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "tanh_gelu",
    "gelu_pytorch_tanh": "tanh_gelu",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
}
"""Our activations by their names in config.json."""


class Published(NamedTuple):
    """A transformer of text: its settings, its parameters, and the fields of its config.json.

    project: the matrix (width, D) of a projection of the pooled state, None without one.
    """

    settings: TextSettings
    params: Params
    config: Mapping[str, Any]
    project: np.ndarray | None = None


def read(contents: Contents) -> Published:
    """Return the transformer in a folder of Hugging Face, by the `model_type` of its config.json.

    Raises ValueError for a folder without config.json, for another model, and for tensors that do
    not fit the config.
    """
    if not contents.config:
        raise ValueError("has no config.json beside its tensors")
    config = dict(contents.config)
    config = config.get("text_config") or config
    kind = config.get("model_type", "")
    if kind not in READERS:
        known = ", ".join(READERS)
        raise ValueError(f"config.json: model_type={kind!r}: unknown; known: {known}")
    try:
        return READERS[kind](contents.tensors, config)
    except KeyError as error:
        raise ValueError(f"config.json: has no field {error}") from error


def sized(config: Mapping[str, Any], **more: Any) -> TextSettings:
    """Return settings with the sizes that CLIP and BERT state by the same names."""
    width, heads = config["hidden_size"], config["num_attention_heads"]
    return TextSettings(
        vocabulary=config["vocab_size"],
        width=width,
        depth=config["num_hidden_layers"],
        heads=heads,
        head=width // heads,
        hidden=config["intermediate_size"],
        activation=activation(config["hidden_act"]),
        length=config["max_position_embeddings"],
        **more,
    )


def clip(tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Published:
    """Return the text tower of CLIP (arXiv:2103.00020), alone or within the whole model."""
    above = "text_model." if any(name.startswith("text_model.") for name in tensors) else ""
    settings = sized(
        config,
        causal=True,
        epsilon=config.get("layer_norm_eps", 1e-5),
    )
    at = f"{above}encoder.layers.{{i}}."
    block = {
        **{ours: f"{at}self_attn.{ours}_proj" for ours in "qkv"},
        **{"out": f"{at}self_attn.out_proj", "mlp_in": f"{at}mlp.fc1", "mlp_out": f"{at}mlp.fc2"},
    }
    norms = {"norm_1": f"{at}layer_norm1", "norm_2": f"{at}layer_norm2"}
    table = {
        "words/embedding": (same, f"{above}embeddings.token_embedding.weight"),
        "positions": (one, f"{above}embeddings.position_embedding.weight"),
        **stacked(settings, block, norms),
        **normed("last", f"{above}final_layer_norm"),
    }
    return assembled(settings, table, tensors, config, "text_projection.weight")


def bert(tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Published:
    """Return BERT (arXiv:1810.04805), without its pooling layer."""
    above = "bert." if any(name.startswith("bert.") for name in tensors) else ""
    settings = sized(
        config,
        types=config["type_vocab_size"],
        after=True,
        epsilon=config.get("layer_norm_eps", 1e-12),
    )
    at, first = f"{above}encoder.layer.{{i}}.", f"{above}embeddings."
    words = {"q": "query", "k": "key", "v": "value"}
    block = {ours: f"{at}attention.self.{theirs}" for ours, theirs in words.items()}
    block |= {"out": f"{at}attention.output.dense"}
    block |= {"mlp_in": f"{at}intermediate.dense", "mlp_out": f"{at}output.dense"}
    norms = {"norm_1": f"{at}attention.output.LayerNorm", "norm_2": f"{at}output.LayerNorm"}
    table = {
        "words/embedding": (same, f"{first}word_embeddings.weight"),
        "positions": (one, f"{first}position_embeddings.weight"),
        "types/embedding": (same, f"{first}token_type_embeddings.weight"),
        **normed("first", f"{first}LayerNorm"),
        **stacked(settings, block, norms),
    }
    return assembled(settings, table, tensors, config)


def t5(tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Published:
    """Return the encoder of T5 1.0 and 1.1 (arXiv:1910.10683), or of UMT5 (arXiv:2304.09151)."""
    form, _, kind = config["feed_forward_proj"].rpartition("-")
    settings = TextSettings(
        vocabulary=config["vocab_size"],
        width=config["d_model"],
        depth=config["num_layers"],
        heads=config["num_heads"],
        head=config["d_kv"],
        hidden=config["d_ff"],
        # Their "gated-gelu" stands for the approximation by tanh.
        activation=activation("gelu_new" if (form, kind) == ("gated", "gelu") else kind),
        rms=True,
        biases=False,
        divisor=1.0,
        buckets=config["relative_attention_num_buckets"],
        far=config.get("relative_attention_max_distance", 128),
        each=config["model_type"] == "umt5",
        gated=form == "gated",
        epsilon=config.get("layer_norm_epsilon", 1e-6),
    )
    at = "encoder.block.{i}.layer."
    block = {ours: f"{at}0.SelfAttention.{ours}" for ours in "qkv"}
    block |= {"out": f"{at}0.SelfAttention.o", "mlp_out": f"{at}1.DenseReluDense.wo"}
    if settings.gated:
        block |= {"mlp_in": f"{at}1.DenseReluDense.wi_0", "mlp_gate": f"{at}1.DenseReluDense.wi_1"}
    else:
        block |= {"mlp_in": f"{at}1.DenseReluDense.wi"}
    norms = {"norm_1": f"{at}0.layer_norm", "norm_2": f"{at}1.layer_norm"}
    table = stacked(settings, block, norms)
    bias = f"{at}0.SelfAttention.relative_attention_bias.weight"
    if settings.each:
        table |= blocks({"blocks/relative/embedding": (same, bias)}, settings.depth)
    else:
        table |= {"relative/embedding": (same, bias.format(i=0))}
    words = "shared.weight" if "shared.weight" in tensors else "encoder.embed_tokens.weight"
    table |= {"words/embedding": (same, words), "last/scale": (same, FINAL)}
    return assembled(settings, table, tensors, config)


def language(config: Mapping[str, Any], **more: Any) -> TextSettings:
    """Return the settings that Gemma and Qwen state by the same names."""
    return TextSettings(
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        depth=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        head=config["head_dim"],
        hidden=config["intermediate_size"],
        groups=config["num_key_value_heads"],
        turned=base(config),
        causal=True,
        rms=True,
        biases=False,
        gated=True,
        epsilon=config["rms_norm_eps"],
        **more,
    )


def base(config: Mapping[str, Any]) -> float:
    """Return the base of rotary positions; raise ValueError for positions that are stretched."""
    stated = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = stated.get("rope_type", stated.get("type", "default"))
    if kind != "default":
        raise ValueError(f"config.json: rope_type={kind!r}: unknown; known: default")
    return float(stated.get("rope_theta") or config["rope_theta"])


def gemma2(tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Published:
    """Return Gemma 2 (arXiv:2408.00118), whose norms multiply by 1 + weight.

    Every other block sees a window of tokens alone, which a caption never fills.
    """
    settings = language(
        config,
        activation=activation(config.get("hidden_activation") or config["hidden_act"]),
        divisor=float(config["query_pre_attn_scalar"]),
        rooted=True,
        doubled=True,
        cap=float(config.get("attn_logit_softcapping") or 0),
    )
    norms = {
        "norm_1": "input_layernorm",
        "after_1": "post_attention_layernorm",
        "norm_2": "pre_feedforward_layernorm",
        "after_2": "post_feedforward_layernorm",
    }
    return decoder(settings, norms, tensors, config, above_one)


def qwen3(tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Published:
    """Return Qwen 3 (arXiv:2505.09388)."""
    if config.get("attention_bias"):
        raise ValueError("config.json: attention_bias=True: unknown; known: False")
    settings = language(config, activation=activation(config["hidden_act"]), unit=True)
    norms = {
        "norm_1": "input_layernorm",
        "norm_2": "post_attention_layernorm",
        "norm_q": "self_attn.q_norm",
        "norm_k": "self_attn.k_norm",
    }
    return decoder(settings, norms, tensors, config, same)


def decoder(
    settings: TextSettings,
    norms: Mapping[str, str],
    tensors: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    scale: Any,
) -> Published:
    """Return a language model without its head. scale: a weight of a norm as a factor."""
    above = "model." if any(name.startswith("model.") for name in tensors) else ""
    at = f"{above}layers.{{i}}."
    names = {ours: f"self_attn.{ours}_proj" for ours in "qkv"} | {"out": "self_attn.o_proj"}
    # The activation follows the layer that they call the gate.
    names |= {"mlp_in": "mlp.gate_proj", "mlp_gate": "mlp.up_proj", "mlp_out": "mlp.down_proj"}
    block: Table = {
        f"blocks/{ours}/kernel": (matrix, f"{at}{name}.weight") for ours, name in names.items()
    }
    block |= {f"blocks/{ours}/scale": (scale, f"{at}{name}.weight") for ours, name in norms.items()}
    table = blocks(block, settings.depth)
    table |= {
        "words/embedding": (same, f"{above}embed_tokens.weight"),
        "last/scale": (scale, f"{above}norm.weight"),
    }
    return assembled(settings, table, tensors, config)


def above_one(w: np.ndarray) -> np.ndarray:
    """Return the factor of a norm that stores its difference from 1."""
    return 1 + w


FINAL = "encoder.final_layer_norm.weight"
READERS = {
    "clip_text_model": clip,
    "bert": bert,
    "t5": t5,
    "umt5": t5,
    "gemma2": gemma2,
    "qwen3": qwen3,
}
"""Readers by `model_type`: (tensors, config) -> Published."""
UNUSED = ("decoder.", "lm_head.", "pooler.", "visual_projection.", "vision_model.", "cls.")
"""Beginnings of the names of tensors that the states of tokens do not depend on."""


def activation(name: str) -> str:
    """Return our name of an activation; raise ValueError for an unknown one."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r}: unknown; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def one(w: np.ndarray) -> np.ndarray:
    """Return an array with a first axis of one."""
    return w[None]


def normed(ours: str, theirs: str) -> Table:
    """Return the table of a norm with scale and bias."""
    return {f"{ours}/scale": (same, f"{theirs}.weight"), f"{ours}/bias": (same, f"{theirs}.bias")}


def stacked(settings: TextSettings, layers: Mapping[str, str], norms: Mapping[str, str]) -> Table:
    """Return the table of all blocks, from the names of the layers and norms of block {i}."""
    block: Table = {}
    for ours, theirs in layers.items():
        block[f"blocks/{ours}/kernel"] = (matrix, f"{theirs}.weight")
        if settings.biases:
            block[f"blocks/{ours}/bias"] = (same, f"{theirs}.bias")
    for ours, theirs in norms.items():
        table = normed(f"blocks/{ours}", theirs)
        block |= {k: v for k, v in table.items() if not (settings.rms and k.endswith("bias"))}
    return blocks(block, settings.depth)


def assembled(
    settings: TextSettings,
    table: Table,
    tensors: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    project: str = "",
) -> Published:
    """Return the transformer of these tensors; raise ValueError where they do not fit."""
    used = {name for _, *names in table.values() for name in names}
    spare = [name for name in tensors if ignored(name) or name == project]
    params = converted(table, tensors, [*spare, *(set(spare) - used)])
    ids = jnp.zeros((1, 2), jnp.int32)
    wanted = jax.eval_shape(text(settings).init, jax.random.key(0), ids)
    matrix_ = np.asarray(tensors[project], np.float32).T if project in tensors else None
    return Published(settings, fitting(params, wanted), config, matrix_)


def pooled(published: Published, ids: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return one vector per text (N, D): CLIP's state at the first END, after its projection.

    ids: the tokens (N, L). last: their states after the last norm (N, L, width). Configs with the
    number 2 for END are older than the field; the END is then the largest number of a text.
    """
    end = published.config.get("eos_token_id", 2)
    at = ids.argmax(1) if end == 2 else (ids == end).argmax(1)
    states = np.asarray(last)[np.arange(len(ids)), at]
    return states if published.project is None else states @ published.project


def ignored(name: str) -> bool:
    """Return whether the states of tokens do not depend on a tensor of this name."""
    plain = name.removeprefix("bert.")
    ends = ("position_ids", "logit_scale", "encoder.embed_tokens.weight", "text_projection.weight")
    return plain.startswith(UNUSED) or plain.endswith(ends)
