"""A tiny random model with a tokenizer of its own: what recipes and pipelines are tried on.

Two layers of a Llama and a byte-level BPE tokenizer trained on a text of the caller's. It knows
nothing; it loads, trains, saves and answers like a real one, in seconds.

    >>> make(Path("runs/tiny/base"), texts=["The old ferry left the harbour at seven."])
    PosixPath('runs/tiny/base')
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<s>' + message['role'] + '\n' + message['content'] + "
    "'</s>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)


def tokenizer_of(texts: Iterable[str], *, pieces: int) -> Any:
    """Return a byte-level BPE fast tokenizer of at most `pieces` pieces, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=pieces,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    padding, begin, end = SPECIAL_TOKENS
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=padding, bos_token=begin, eos_token=end
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make(folder: Path, texts: Iterable[str], *, pieces: int = 500, seed: int = 0) -> Path:
    """Write the model (hidden size 64, about 106,000 parameters) to `folder` and return it.

    texts: what the tokenizer is trained on. pieces: of its vocabulary, at most. The same texts
    and seed give the same model.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    fast = tokenizer_of(texts, pieces=pieces)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
