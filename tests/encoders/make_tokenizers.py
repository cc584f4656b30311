"""Write small tokenizers and the tokens of transformers, for test_tokenizers.py; run by hand.

    pip install transformers tokenizers sentencepiece protobuf
    python tests/encoders/make_tokenizers.py tests/encoders/tokenizers

Made with transformers 5.24.0, tokenizers 0.23.3 and sentencepiece 0.2.3.

Each folder holds the files that a published folder of its kind holds, trained on TEXTS, and
ids.json with the tokens and the mask of TEXTS by transformers, and the tokens cut to CUT.
"""

import json
import sys
from pathlib import Path

LENGTH, CUT = 32, 6
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
TEXTS = ["red apple, noto style", "Two CATS don't sit in 1984", "", "café — naïve!", "zebra quartz"]


def clip(folder: Path) -> None:
    """The byte pairs of CLIP, as tokenizer.json."""
    from transformers import CLIPTokenizer

    alphabet, merges = pairs()
    single = [*alphabet, *(f"{c}</w>" for c in alphabet)]
    tokens = [*single, *("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: k for k, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)


def merges(folder: Path) -> None:
    """The same as merges.txt and vocab.json, padded with token 0 as the second one of SDXL."""
    clip(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())["model"]
    lines = ["#version: 0.2", *(" ".join(pair) for pair in tokenizer["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(tokenizer["vocab"]))
    (folder / "tokenizer.json").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"pad_token": "!"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def pairs() -> tuple[list[str], list[tuple[str, str]]]:
    """The alphabet of bytes in CLIP's order, and a few pairs."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from diffjax.io import bpe

    found = ["r e", "re d</w>", "a p", "ap p", "l e</w>", "app le</w>", "s t", "c a", "t s</w>"]
    first, *rest = (tuple(pair.split()) for pair in found)
    return list(bpe.alphabet().values()), [first, *rest]  # type: ignore[list-item]


def bert(folder: Path) -> None:
    """The word pieces of BERT."""
    from transformers import BertTokenizer

    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789,'!"]
    words = ["red", "apple", "style", "cats", "##s", "##o", "no", *letters]
    words += [f"##{c}" for c in letters if c.isalnum() and c not in "so"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    BertTokenizer(vocab={token: k for k, token in enumerate(tokens)}).save_pretrained(folder)


def t5(folder: Path) -> None:
    """The pieces of T5, as tokenizer.json."""
    from transformers import AutoTokenizer

    pieces(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    (folder / "spiece.model").unlink()


def pieces(folder: Path) -> None:
    """The same as spiece.model, as the folder of PixArt holds it."""
    import sentencepiece

    folder.mkdir(exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS[:2], *TEXTS[4:], *CHARACTERS]),
        model_prefix=str(folder / "spiece"),
        vocab_size=80,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        normalization_rule_name="identity",
    )
    (folder / "spiece.vocab").unlink()
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "pad_token": "<pad>"}
    config |= {"eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def main() -> None:
    from transformers import AutoTokenizer

    for make in (clip, merges, bert, t5, pieces):
        folder = Path(sys.argv[1]) / make.__name__
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)
        kinds = {"merges": "clip", "pieces": "t5"}
        model = kinds.get(make.__name__, make.__name__)
        (folder / "config.json").write_text(json.dumps({"model_type": model}))
        theirs = AutoTokenizer.from_pretrained(folder)
        out = theirs(TEXTS, padding="max_length", max_length=LENGTH)
        (folder / "config.json").unlink()
        cut = theirs(TEXTS, padding="max_length", max_length=CUT, truncation=True)
        rows = {"ids": out["input_ids"], "mask": out["attention_mask"], "cut": cut["input_ids"]}
        (folder / "ids.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
