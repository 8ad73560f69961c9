"""lm-eval's HF model, with the beginning that prompts share computed once: `--backend prefix`.

Few-shot prompts of a task are one block of demonstrations and a short item. The stock model
computes the block anew for every answer choice of every item; here its keys and values are kept
and the items branch off. Answers are the stock model's: in float32 log-likelihoods agree within
1e-4 and greedy generations are the same, which `tests/harness/test_prefix.py` shows.

One level is shared, the longest beginning that many requests have in common. Prompts that share
too little, running text, sampling, and models whose cache cannot be branched (sliding windows,
state-space layers, encoder-decoders) go the stock way.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils_hf import stop_sequences_criteria
from transformers import DynamicCache

SHORTEST = 32  # tokens: sharing less saves nothing
Tokens = tuple[int, ...]
Scored = tuple[float, bool]  # log-likelihood (nats), and whether it is the greedy answer
Request = tuple[Any, list[int], list[int]]  # key of the answer, context, continuation


@dataclass(frozen=True)
class _Branch:
    """One request: what the model reads, and how many of the last positions are scored."""

    place: int
    tokens: Tokens  # context and continuation, without the last token
    continuation: Tokens

    @property
    def sharable(self) -> int:
        """Return how many first tokens may be shared: those before any scored position."""
        return len(self.tokens) - len(self.continuation)


class PrefixLM(HFLM):  # type: ignore[misc]
    """An HF model of lm-eval that computes shared beginnings once."""

    _shared: tuple[Tokens, Any] | None = None  # the last beginning of generations, and its cache

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Scored]:
        """Return log-likelihood and greediness of each continuation, as the stock model does."""
        branches = [self._branch(place, request) for place, request in enumerate(requests)]
        found: dict[int, Scored] = {}
        alone: list[int] = []
        for prefix, group in _groups(branches):
            cache = self._prefill(prefix) if len(group) > 1 and len(prefix) >= SHORTEST else None
            if cache is None:
                alone += [branch.place for branch in group]
                continue
            for batch in _batches(_by_length(group), self._rows()):
                for branch, scored in zip(batch, self._score(prefix, cache, batch), strict=True):
                    found[branch.place] = scored
                    key = requests[branch.place][0]
                    if key is not None:  # None: a part of a running text
                        self.cache_hook.add_partial("loglikelihood", key, scored)
        if alone:
            stock = super()._loglikelihood_tokens(
                [requests[place] for place in alone], disable_tqdm, override_bs
            )
            found |= dict(zip(alone, stock, strict=True))
        return [found[place] for place in range(len(requests))]

    def _branch(self, place: int, request: Request) -> _Branch:
        _, context, continuation = request
        # Too long for the model: the beginning is cut, exactly as the stock model does.
        whole = (context + continuation)[-(self.max_length + 1) :]
        return _Branch(place, tuple(whole[:-1]), tuple(continuation))

    def _rows(self) -> int:
        return self.batch_size if isinstance(self.batch_size, int) else 8

    def _prefill(self, prefix: Tokens) -> Any | None:
        """Return the keys and values of a beginning, or None if they cannot be branched."""
        if self.backend != "causal" or not _reads_tail(self.model):
            return None
        with torch.inference_mode():
            ids = torch.tensor([prefix], device=self.device)
            cache = self.model(ids, use_cache=True, logits_to_keep=1).past_key_values
        plain = isinstance(cache, DynamicCache) and all(
            type(layer).__name__ == "DynamicLayer" and layer.keys.shape[-2] == len(prefix)
            for layer in cache.layers
        )
        return cache if plain else None

    def _score(self, prefix: Tokens, cache: Any, batch: Sequence[_Branch]) -> list[Scored]:
        """Return the scores of requests that begin with `prefix`, in one forward pass."""
        ids, mask = self._padded(len(prefix), [branch.tokens for branch in batch])
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, len(prefix) :]
        longest = max(len(branch.continuation) for branch in batch)
        with torch.inference_mode():
            logits = self.model(
                ids[:, len(prefix) :],
                attention_mask=mask,
                position_ids=positions,
                past_key_values=_copies(cache, len(batch)),
                use_cache=True,
                logits_to_keep=longest,
            ).logits
        found = []
        for branch, row in zip(batch, logits, strict=True):
            own = row[-len(branch.continuation) :].log_softmax(dim=-1, dtype=self.softmax_dtype)
            gold = torch.tensor(branch.continuation, device=own.device)
            total = float(own.gather(1, gold[:, None]).sum())
            found.append((total, bool((own.argmax(dim=1) == gold).all())))
        return found

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **options: Any
    ) -> torch.Tensor:
        """Return context and continuation of a batch, as the stock model does."""
        mask = options["attention_mask"].bool()
        rows = [tuple(row[kept].tolist()) for row, kept in zip(context, mask, strict=True)]
        prefix, cache = self._beginning(rows)
        greedy = not options.get("do_sample") and options.get("temperature", 0.0) == 0.0
        if cache is None or not greedy:
            return super()._model_generate(context, max_length, stop, **options)
        ids, mask = self._padded(len(prefix), rows)
        with torch.inference_mode():
            written = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=_copies(cache, len(rows)),
                max_length=max_length,
                stopping_criteria=stop_sequences_criteria(self.tokenizer, stop, *ids.T.shape),
                pad_token_id=self.tokenizer.pad_token_id,
                do_sample=False,
                use_cache=True,
            )
        return torch.cat([context, written[:, ids.shape[1] :]], dim=1)

    def _beginning(self, rows: Sequence[Tokens]) -> tuple[Tokens, Any | None]:
        """Return a beginning of all rows and its cache: the last one again, if it still serves."""
        length = min(_common(rows[0], row) for row in rows)
        length = min(length, *(len(row) - 1 for row in rows))
        if self._shared and len(self._shared[0]) <= length <= 2 * len(self._shared[0]):
            prefix, cache = self._shared
            if rows[0][: len(prefix)] == prefix:
                return prefix, cache
        prefix = rows[0][:length]
        cache = self._prefill(prefix) if length >= SHORTEST else None
        if cache is not None:
            self._shared = prefix, cache
        return prefix, cache

    def _padded(self, shared: int, rows: Sequence[Tokens]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and mask, (rows, longest); padding stands behind the shared beginning.

        The last tokens of all rows stand in one column so, and no padded position is left
        without anything to attend to.
        """
        width = max(map(len, rows))
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            gap = width - len(row)
            ids[place, :shared] = torch.tensor(row[:shared])
            ids[place, shared + gap :] = torch.tensor(row[shared:])
            mask[place, :shared] = mask[place, shared + gap :] = 1
        return ids.to(self.device), mask.to(self.device)


def _reads_tail(model: Any) -> bool:
    """Return whether a model can compute the logits of its last positions alone."""
    return "logits_to_keep" in inspect.signature(type(model).forward).parameters


def _groups(branches: Sequence[_Branch]) -> Iterator[tuple[Tokens, list[_Branch]]]:
    """Yield groups of requests with the beginning that each shares.

    In the order of their tokens, neighbours share most; a group ends where a neighbour would
    halve what it shares.
    """
    group: list[_Branch] = []
    prefix: Tokens = ()
    for branch in sorted(branches, key=lambda branch: branch.tokens):
        own = branch.tokens[: max(0, branch.sharable)]
        length = _common(prefix, own)
        if group and (length < SHORTEST or 2 * length < len(prefix)):
            yield prefix, group
            group, length, prefix = [], len(own), own
        elif not group:
            length, prefix = len(own), own
        group.append(branch)
        prefix = prefix[:length]
    if group:
        yield prefix, group


def _by_length(group: Sequence[_Branch]) -> list[_Branch]:
    return sorted(group, key=lambda branch: -len(branch.tokens))


def _batches(group: Sequence[_Branch], rows: int) -> Iterator[Sequence[_Branch]]:
    for start in range(0, len(group), rows):
        yield group[start : start + rows]


def _common(a: Tokens, b: Tokens) -> int:
    """Return how many first tokens two sequences share."""
    for place, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return place
    return min(len(a), len(b))


def _copies(cache: Any, rows: int) -> Any:
    """Return a cache of `rows` equal rows; the one-row cache stays as it is."""
    found = DynamicCache()
    for place, layer in enumerate(cache.layers):
        found.update(
            layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), place
        )
    return found
