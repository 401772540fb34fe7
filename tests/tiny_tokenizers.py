"""Small real tokenizers: byte-level BPE, as GPT-2's, and characters."""

from functools import cache

import tokenizers
import transformers

from minift.text.huggingface import HuggingFaceTokenizer

TEXT = (
    "the cat sat on the mat. stop the cats! the dog stopped here, and the end. \n\n"
    "naïve café déjà vu — 日本語 😀 👍🏽 über straße. the the the cat cat "
)


@cache
def byte_level(vocabulary: int = 320) -> HuggingFaceTokenizer:
    """Byte-level BPE trained on ``TEXT``: characters beyond ASCII are often several tokens."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    return _wrapped(tokenizer, eos_token="<|end|>")


@cache
def characters() -> HuggingFaceTokenizer:
    """One token for each character of ``TEXT``."""
    vocabulary = {character: i for i, character in enumerate(sorted(set(TEXT)))}
    model = tokenizers.models.WordLevel({**vocabulary, "<unk>": len(vocabulary)}, "<unk>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = tokenizers.decoders.Fuse()
    return _wrapped(tokenizer, unk_token="<unk>")


def _wrapped(tokenizer, **special):
    hf = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    return HuggingFaceTokenizer(hf)
