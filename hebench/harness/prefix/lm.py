"""The model of lm-eval that reads trees; see the package for what it is and does."""

import contextlib
import functools
import itertools
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from numpy.typing import NDArray
from tqdm import tqdm

from hebench.errors import ConfigError, TaskError
from hebench.files import sha256_of_json
from hebench.harness.prefix.branches import Branches, branched
from hebench.harness.prefix.budget import Budget
from hebench.harness.prefix.decode import Limits, NotANumber, answers
from hebench.harness.prefix.likelihood import Question, Scored, score
from hebench.harness.prefix.rows import can_write

Request = tuple[Any, list[int], list[int]]  # key of the answer, context, continuation

_LOGGER = logging.getLogger(__name__)
_ROWS = 64  # answers written side by side; the slots bound what that takes
_REMEMBERED = 64  # encoded contexts; the answers to one question follow each other
_AT_ONCE = 512  # texts that are encoded by all cores together
# Settings of generation that change no greedy answer; with any other the stock model answers.
_HARMLESS = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "use_cache"),
    *("_from_model_config", "cache_implementation", "output_attentions", "output_hidden_states"),
    "max_length",  # which lm-eval gives for each answer
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p"),
    *("epsilon_cutoff", "eta_cutoff"),
}


@register_model("hebench_prefix")
class PrefixLM(HFLM):  # type: ignore[misc]
    """An HF model of lm-eval that computes what requests begin with once."""

    def __init__(self, **options: Any) -> None:
        """Take the options of lm-eval's HF model."""
        super().__init__(**options)
        accelerator = getattr(self, "accelerator", None)
        if accelerator is not None:  # lm-eval shares out the requests among GPUs only
            self._rank, self._world_size = accelerator.process_index, accelerator.num_processes
        self._budget = Budget(self.device)
        # The context of a question is encoded again with each of its answers.
        self._encode = functools.lru_cache(_REMEMBERED)(super().tok_encode)
        self._encoded: dict[str, NDArray[np.int32]] = {}  # of the requests at hand

    @functools.cached_property
    def branches(self) -> Branches | None:
        """The model as a reader of trees, or None if it cannot be one: a warning says why."""
        found: Branches | str
        if self.backend != "causal":
            found = "it is an encoder-decoder"
        elif self.mixed_precision_dtype is not None:
            found = "mixed precision is asked for"
        else:
            found = branched(self.model)
        if isinstance(found, Branches):
            return found
        _LOGGER.warning("shared beginnings are computed again for each request: %s", found)
        return None

    @functools.cached_property
    def _writes(self) -> bool:
        """Whether answers can be written side by side; a warning says it if not."""
        found = self.branches is not None and can_write(self.branches)
        if self.branches is not None and not found:
            _LOGGER.warning("free answers share nothing: the model's attention is of its own kind")
        return found

    @functools.cached_property
    def _changing(self) -> set[str]:
        """Names of the model's own settings of generation that change greedy answers."""
        found = set(self.model.generation_config.to_diff_dict()) - _HARMLESS
        if found:
            _LOGGER.warning(
                "free answers share nothing, since the model's generation_config.json sets %s",
                ", ".join(sorted(found)),
            )
        return found

    def tok_encode(self, string: str, *rest: Any, **options: Any) -> list[int]:
        """Return the token ids of a text, as the stock model does."""
        if rest or options:
            return list(super().tok_encode(string, *rest, **options))
        if string in self._encoded:
            return list(self._encoded[string].tolist())
        return list(self._encode(string))

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Scored]:
        """Return the log-likelihood of each continuation and whether it is the greedy one."""
        for request in requests:
            if not request.args[1]:
                raise TaskError(f"{_named(request)}: expected a text to score, found an empty one")
        self._encode_ahead([request.args for request in requests])
        try:
            return list(super().loglikelihood(requests, disable_tqdm=disable_tqdm))
        finally:
            self._encoded = {}

    def _encode_ahead(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Encode what lm-eval will ask for one by one, on all cores; as `tok_encode` does it."""
        if not getattr(self.tokenizer, "is_fast", False) or self.backend != "causal":
            return
        asked = ((pair[0] + pair[1], pair[0].rstrip()) for pair in pairs if pair[0])
        texts = list(dict.fromkeys(itertools.chain.from_iterable(asked)))
        first = self.tokenizer.decode(self.prefix_token_id)
        usual = {} if self.add_bos_token is None else {"add_special_tokens": self.add_bos_token}
        for begun in (False, True):
            options = {"add_special_tokens": False} if begun else usual
            own = [text for text in texts if has_bos_prefix(text, first) == begun]
            for start in range(0, len(own), _AT_ONCE):
                part = own[start : start + _AT_ONCE]
                found = self.tokenizer(part, return_attention_mask=False, **options)["input_ids"]
                # As arrays: lists take several times the memory.
                arrays = (np.array(ids, dtype=np.int32) for ids in found)
                self._encoded |= dict(zip(part, arrays, strict=True))

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Scored]:
        """Return the scores of encoded requests in their order."""
        self._encoded = {}  # all is encoded
        self._require_scorable(requests)
        found: dict[int, Scored] = {}
        with self._bar(len(requests), "loglikelihood", disable_tqdm) as bar:
            for place, scored in self._scores(requests):
                found[place] = scored
                self.cache_hook.add_partial("loglikelihood", requests[place][0], scored)
                bar.update()
        rest = [place for place in range(len(requests)) if place not in found]
        if rest:
            asked = [requests[place] for place in rest]
            stock = super()._loglikelihood_tokens(asked, disable_tqdm, override_bs)
            found |= dict(zip(rest, stock, strict=True))
        return [found[place] for place in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood (nats) of each running text; each token is predicted once."""
        if self.branches is None:
            return list(super().loglikelihood_rolling(requests, disable_tqdm))
        windows: list[Request] = []
        owners: list[int] = []
        firsts = [0]  # window of each text
        for place, request in enumerate(requests):
            own = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            added = [(None, *make_disjoint_window(pair)) for pair in own]
            windows += added
            owners += [place] * len(added)
            firsts.append(len(windows))
        missing, found = Counter(owners), [0.0] * len(windows)
        totals = [0.0] * len(requests)
        with self._bar(len(windows), "loglikelihood_rolling", disable_tqdm) as bar:
            for place, (value, _) in self._scores(windows, whole=True):
                owner, found[place] = owners[place], value
                missing[owner] -= 1
                bar.update()
                if not missing[owner]:
                    totals[owner] = sum(found[firsts[owner] : firsts[owner + 1]])
                    key = requests[owner].args
                    self.cache_hook.add_partial("loglikelihood_rolling", key, totals[owner])
        return totals

    def _scores(
        self, requests: Sequence[Request], *, whole: bool = False
    ) -> Iterator[tuple[int, Scored]]:
        """Yield (place, score) of encoded requests as they come.

        NaN is left out, unless `whole`: through the common row it may be another branch's.
        """
        if self.branches is None or not requests:
            return
        questions = [
            # Too long for the model: the beginning is cut off, as the stock model does.
            Question(
                tokens=(context + continuation)[-(self.max_length + 1) : -1],
                continuation=continuation,
            )
            for _, context, continuation in requests
        ]
        for place, scored in score(self.branches, questions, self._budget, self.softmax_dtype):
            if not math.isnan(scored[0]):
                yield place, scored
            elif whole:
                yield place, super()._loglikelihood_tokens([requests[place]], True)[0]

    def _require_scorable(self, requests: Sequence[Request]) -> None:
        for key, context, continuation in requests:
            if not context or not 0 < len(continuation) <= self.max_length:
                raise TaskError(
                    f"expected 1 to {self.max_length} tokens to score, found {len(continuation)} "
                    f"in {key[1] if key else 'a running text'!r}: the tokenizer joins it with the "
                    "end of its context, or it is longer than the model's context"
                )

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Return the text that the model writes after each prompt."""
        groups: dict[str, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            groups[sha256_of_json(request.args[1])].append(place)
        found: dict[int, str] = {}
        with self._bar(len(requests), "generate_until", disable_tqdm) as bar:
            for places in groups.values():
                group = [requests[place] for place in places]
                for number, text in self._texts(group):
                    found[places[number]] = text
                    self.cache_hook.add_partial("generate_until", group[number].args, text)
                    bar.update()
        rest = [place for place in range(len(requests)) if place not in found]
        if rest:
            stock = super().generate_until([requests[place] for place in rest], disable_tqdm)
            found |= dict(zip(rest, stock, strict=True))
        return [found[place] for place in range(len(requests))]

    def _texts(self, group: Sequence[Any]) -> Iterator[tuple[int, str]]:
        """Yield (place, text) of prompts under one set of options; some are left to stock."""
        options = normalize_gen_kwargs(group[0].args[1], self.max_gen_toks)
        eos = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        until = handle_stop_sequences(options.pop("until", None), eos=eos)
        tokens = options.pop("max_gen_toks")
        room = self.max_length - tokens
        if room < 1:
            raise ConfigError(
                f"{_named(group[0])} lets answers have {tokens} tokens, and the whole context of "
                f"the model has {self.max_length}; limit them with --max-tokens"
            )
        if self.branches is None or any(options.values()) or self._changing or not self._writes:
            return
        prompts = [
            self.tok_batch_encode(
                [request.args[0]], left_truncate_len=room, truncation=self.truncation
            )[0][0].tolist()
            for request in group
        ]
        limits = Limits(
            tokens=tokens,
            is_end=self._ending(until),
            rows=_ROWS,
            slots=self._budget.slots(self.model, self.branches.empty),
        )
        if not all(prompts):
            return
        with contextlib.suppress(NotANumber):
            for place, found in answers(self.branches, prompts, limits, self._budget):
                yield place, self._text(found, until)

    def _ending(self, until: Sequence[str]) -> Callable[[list[int]], bool]:
        """Return what tells whether an answer is over, looking at its last few tokens only."""
        ends = self.model.generation_config.eos_token_id
        stops = set(ends if isinstance(ends, list) else [ends])
        # A stop text may come in other tokens than it is encoded in: two more, as in lm-eval.
        encoded = [self.tokenizer.encode(text, add_special_tokens=False) for text in until]
        back = max(map(len, encoded)) + 2

        def is_over(tokens: list[int]) -> bool:
            if tokens[-1] in stops:
                return True
            tail = self.tokenizer.decode(tokens[-back:])
            return any(text in tail for text in until)

        return is_over

    def _text(self, tokens: list[int], until: list[str]) -> str:
        """Return the text of an answer without what stops it and what was only thought."""
        thought = self.think_end_token
        if isinstance(thought, int) and thought in tokens:
            tokens = tokens[len(tokens) - tokens[::-1].index(thought) :]
        text = self.tok_decode(tokens)
        return str(
            postprocess_generated_text(
                generation=text.lstrip() if isinstance(thought, int) else text,
                stop=until,
                think_end_token=thought if isinstance(thought, str) else None,
            )
        )

    def _bar(self, total: int, title: str, disabled: bool) -> "tqdm[Any]":
        # None: a bar on a terminal, nothing in a log file.
        return tqdm(total=total, desc=title, disable=True if disabled or self.rank else None)


def _named(request: Any) -> str:
    return f"item {request.doc_id} of {request.task_name}"
