"""A tokenizer on disk in the form that transformers 4.55 and 5 both read.

What transformers 5 writes, 4.55 does not load: the class is named `TokenizersBackend`, which it
does not know, and the extra special tokens are a list where it wants a mapping. Both names of
the older form are still read by the newer one, so a checkpoint is written with those.

    write_tokenizer(tokenizer, folder)  # AutoTokenizer.from_pretrained(folder) in either version
"""

import json
from pathlib import Path
from typing import Any

from hebench.files import write_atomically

CONFIG_NAME = "tokenizer_config.json"
# tokenizer.json says it all; these hold the vocabulary a second time, for other loaders.
_SECOND_COPIES = ("vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json")
_OF_THE_SESSION = ("backend", "is_local", "local_files_only", "name_or_path")


def write_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a fast tokenizer, chat template included, as tokenizer.json and what goes with it."""
    tokenizer.save_pretrained(folder)
    for name in _SECOND_COPIES:
        (folder / name).unlink(missing_ok=True)
    path = folder / CONFIG_NAME
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in _OF_THE_SESSION:
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    write_atomically(path, json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True) + "\n")
