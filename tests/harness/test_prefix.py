"""Shared beginnings give the stock model's answers, and are computed once."""

import importlib.metadata
import itertools
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from tokenizers.processors import TemplateProcessing
from transformers import Llama4ForCausalLM, Llama4TextConfig, MambaConfig, MambaForCausalLM

from hebench.errors import ConfigError, TaskError
from hebench.harness.prefix import (
    PrefixLM,
    branches,
    budget,
    decode,
    guesses,
    likelihood,
    rows,
)
from hebench.harness.prefix import lm as prefix_lm
from hebench.harness.prefix.tree import build
from hebench.harness.tasks import load_tasks
from tests.conftest import DEVICE
from tests.harness import tiny_models
from tests.harness.tiny_models import ARCHITECTURES

MOST = budget._CPU_TOKENS if DEVICE == "cpu" else budget._MOST_TOKENS  # tokens of a pass
SHOTS = "סיווג ביקורות. כתבו: חיובי, שלילי או מעורב.\nביקורת: הספר נהדר, קראתי אותו בלילה אחד.\n"
REVIEWS = ("השירות היה איטי והאוכל קר.", "הגענו מוקדם. הגן היה יפה, אבל יקר.", "לא רע.")
ANSWERS = (" חיובי", " שלילי ומאכזב מאוד", " מעורב")


def scored(context: str, answer: str) -> Any:
    return SimpleNamespace(args=(context, answer), task_name="reviews", doc_id=0)


def free(context: str, tokens: int = 12, **more: Any) -> Any:
    options = {"until": ["\n"], "max_gen_toks": tokens, "do_sample": False} | more
    return SimpleNamespace(args=(context, options), task_name="reviews", doc_id=0)


PROMPTS = [f"{SHOTS}ביקורת: {review}\nתשובה:" for review in REVIEWS]
CHOICES = [scored(prompt, answer) for prompt in PROMPTS for answer in ANSWERS]
CHOICES += [scored("", " משפט בלי הקשר"), scored(SHOTS.strip(), " המשך"), CHOICES[0]]
FREE = [free(prompt) for prompt in (*PROMPTS, SHOTS.strip(), PROMPTS[0])]


@pytest.fixture
def pair(tiny_model: Path) -> Callable[..., tuple[Any, Any]]:
    """Return the stock model and ours around one random model of an architecture."""

    def made(architecture: str = "llama", **more: Any) -> tuple[Any, Any]:
        model = tiny_models.build(architecture, **more)
        return tuple(
            kind(pretrained=model, tokenizer=tiny_models.tokenizer_of(tiny_model), batch_size=4)
            for kind in (HFLM, PrefixLM)
        )

    return made


def assert_same_scores(stock: Any, ours: Any, requests: list[Any]) -> None:
    expected = stock.loglikelihood(requests, disable_tqdm=True)
    found = ours.loglikelihood(requests, disable_tqdm=True)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [value for value, _ in found] == pytest.approx(
        [value for value, _ in expected], abs=1e-4, nan_ok=True
    )


# --------------------------------------------------------------------------------- the tree


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=12))
def test_a_tree_holds_each_beginning_once_and_every_way_back(sequences: list[list[int]]) -> None:
    tree = build(sequences, [len(sequence) for sequence in sequences])
    beginnings = {tuple(row[: n + 1]) for row in sequences for n in range(len(row))}
    assert len(tree) == len(beginnings)
    for sequence, path in zip(sequences, tree.tails, strict=True):
        assert tree.tokens[path].tolist() == sequence
        assert tree.depths[path].tolist() == list(range(len(sequence)))
        leaf = path[-1]
        nodes = np.arange(len(tree))
        assert nodes[(nodes <= leaf) & (leaf < tree.ends)].tolist() == path.tolist()
    leaves = [tree.tails[place][-1] for place in tree.order]
    assert leaves == sorted(leaves)


# --------------------------------------------------------------------------- the same answers


@pytest.mark.parametrize(
    ("tokens", "call", "common"),
    [(MOST, 64, 128), (MOST, 7, 128), (24, 7, 5)],
    ids=["one pass", "small calls", "common slots"],
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_gives_the_answers_of_the_stock_model(  # noqa: PLR0913, PLR0917
    pair: Callable[..., tuple[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    tokens: int,
    call: int,
    common: int,
) -> None:
    monkeypatch.setattr(branches, "_CALL_TOKENS", dict.fromkeys(("cpu", "cuda"), (call,)))
    monkeypatch.setattr(branches, "_CALL_COST", {4: 0.0})
    monkeypatch.setattr(branches, "_COMMON_SLOTS", common)
    in_two = Mock(wraps=branches._in_two)
    monkeypatch.setattr(branches, "_in_two", in_two)
    stock, ours = pair(architecture)
    ours._budget.tokens = tokens
    assert_same_scores(stock, ours, CHOICES)
    expected = stock.generate_until(FREE, disable_tqdm=True)
    assert ours.generate_until(FREE, disable_tqdm=True) == expected and any(expected)
    assert ours.branches is not None  # and not because the stock code answered
    # A GPU takes them by 16, which are not left of a short window.
    assert in_two.called == (tokens == 24 and (DEVICE == "cpu" or architecture != "mistral"))


def test_a_window_shorter_than_the_prompt_matters(pair: Callable[..., tuple[Any, Any]]) -> None:
    narrow, wide = pair("mistral")[1], pair("mistral", sliding_window=4096)[1]
    assert narrow.branches._window == {"sliding_attention": 48}
    one, two = (lm.loglikelihood(CHOICES[:1], disable_tqdm=True)[0][0] for lm in (narrow, wide))
    assert abs(one - two) > 0.01


def test_attention_without_sdpa_gives_the_same(pair: Callable[..., tuple[Any, Any]]) -> None:
    stock, ours = pair(attn_implementation="eager")
    assert_same_scores(stock, ours, CHOICES)
    assert ours.branches is not None and ours.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("context", [24, 40, 64])
def test_what_is_too_long_is_cut_as_the_stock_model_cuts_it(
    pair: Callable[..., tuple[Any, Any]], context: int
) -> None:
    stock, ours = pair(context=context)
    assert_same_scores(stock, ours, CHOICES)
    assert ours.generate_until(FREE, disable_tqdm=True) == stock.generate_until(
        FREE, disable_tqdm=True
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_tokenizer_that_cuts_cuts_as_the_stock_models_does(
    pair: Callable[..., tuple[Any, Any]], side: str
) -> None:
    whole = pair()[1].generate_until(FREE, disable_tqdm=True)
    texts = []
    for lm in pair():
        lm.truncation = True
        lm.tokenizer.model_max_length, lm.tokenizer.truncation_side = 40, side
        texts.append(lm.generate_until(FREE, disable_tqdm=True))
    assert texts[0] == texts[1] != whole


@pytest.mark.parametrize("context", [8192, 30])
def test_running_text_is_predicted_once_each_token(
    pair: Callable[..., tuple[Any, Any]], context: int
) -> None:
    stock, ours = pair(context=context)
    texts = [SimpleNamespace(args=(text,)) for text in (PROMPTS[0] * 2, "", *REVIEWS)]
    expected = stock.loglikelihood_rolling(texts, disable_tqdm=True)
    found = ours.loglikelihood_rolling(texts, disable_tqdm=True)
    assert found == pytest.approx(expected, abs=1e-3) and found[0] < -1 and found[1] == 0


def test_the_tasks_of_the_package_come_out_alike(pair: Callable[..., tuple[Any, Any]]) -> None:
    stock, ours = pair()
    tasks = load_tasks(("hebench_mini", "hebench_select_bpb"))["tasks"]
    for task in tasks.values():
        task.build_all_requests(limit=3, rank=0, world_size=1)
        kind = task.get_config("output_type")
        if kind == "loglikelihood_rolling":
            values = [lm.loglikelihood_rolling(task.instances, True) for lm in (stock, ours)]
            assert values[1] == pytest.approx(values[0], rel=1e-5)
        elif kind == "generate_until":
            for request in task.instances:
                request.args[1]["max_gen_toks"] = 12
            texts = [lm.generate_until(task.instances, disable_tqdm=True) for lm in (stock, ours)]
            assert texts[1] == texts[0], task.config.task
        else:
            assert_same_scores(stock, ours, task.instances)
    assert len(tasks) == 12 and ours.branches is not None


def test_a_chat_template_goes_before_the_model_as_in_lm_eval(
    pair: Callable[..., tuple[Any, Any]],
) -> None:
    stock, ours = pair()
    template = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    prompts = []
    for lm in (stock, ours):
        lm.tokenizer.chat_template = template
        prompts.append(lm.apply_chat_template([{"role": "user", "content": REVIEWS[0]}]))
    assert prompts[0] == prompts[1] and prompts[0].startswith("<s>user")
    requests = [free(prompts[0]), free(prompts[0] + "assistant:")]
    assert ours.generate_until(requests, disable_tqdm=True) == stock.generate_until(
        requests, disable_tqdm=True
    )


@pytest.mark.parametrize("add_bos", [None, False, True])
def test_texts_encoded_together_are_those_encoded_one_by_one(
    pair: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch, add_bos: bool | None
) -> None:
    monkeypatch.setattr(prefix_lm, "_AT_ONCE", 3)
    ends = (f"{PROMPTS[0]} \n ", f"<s>{PROMPTS[0]}", " ")  # spaces move to the answer
    asked = [*CHOICES, *(scored(context, "לא") for context in ends)]
    encoded: list[Any] = []

    def note(found: Any, **_: Any) -> list[Any]:
        encoded.append(found)
        return []

    for lm in pair():
        processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        lm.tokenizer.backend_tokenizer.post_processor = processor
        lm.add_bos_token = add_bos
        monkeypatch.setattr(lm, "_loglikelihood_tokens", note)
        if isinstance(lm, PrefixLM):
            monkeypatch.setattr(lm, "_encode", lambda text: pytest.fail(f"{text!r} by itself"))
        lm.loglikelihood(asked, disable_tqdm=True)
    assert encoded[0] == encoded[1] and len(encoded[0]) == len(asked)
    begun = [context[0] == 0 for _, context, _ in encoded[0][: len(PROMPTS) * len(ANSWERS)]]
    assert all(begun) if add_bos is not False else not any(begun)


# ------------------------------------------------------------------------------- computed once


def test_each_node_of_the_tree_is_computed_once(pair: Callable[..., tuple[Any, Any]]) -> None:
    _, ours = pair()
    ours.branches.tokens_needed = 0
    ours.loglikelihood(CHOICES, disable_tqdm=True)
    encoded = [ours._encode_pair(*request.args) for request in CHOICES if request.args[0]]
    rows = [context + answer[:-1] for context, answer in encoded]
    rows.append([ours.prefix_token_id, *ours.tok_encode(" משפט בלי הקשר")[:-1]])
    assert ours.branches.tokens_needed == len(build(rows, [1] * len(rows)))
    assert ours.branches.tokens_needed < sum(map(len, rows)) / 4
    assert len(ours.branches) == 0  # and nothing stays


def test_rows_that_are_done_cost_nothing(pair: Callable[..., tuple[Any, Any]]) -> None:
    _, ours = pair()
    asked = [free(prompt, 60) for prompt in PROMPTS]
    whole = ours.generate_until(asked, disable_tqdm=True)
    read = ours.branches.tokens_needed
    stops = [text[3:5] for text in whole[:2]]  # all rows but one end after a few tokens
    short = [free(prompt, 60, until=[*stops, "\n"]) for prompt in PROMPTS]
    found = ours.generate_until(short, disable_tqdm=True)
    for text, before in zip(found, whole, strict=True):
        assert text == before[: min((before + stop).index(stop) for stop in stops)]
    assert ours.branches.tokens_needed - read < read - 40


def test_guesses_save_passes_and_change_nothing(
    pair: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, passes = [], []
    for fixed in (0, 28):  # a pass that costs what its tokens do leaves none for guesses
        monkeypatch.setattr(guesses, "_FIXED_TOKENS", {DEVICE: fixed})
        _, ours = pair("gemma3")  # which says the same again and again
        counted: list[int] = []
        forward = ours.model.forward
        monkeypatch.setattr(
            ours.model,
            "forward",
            lambda *rest, forward=forward, counted=counted, **more: (
                counted.append(1) or forward(*rest, **more)
            ),
        )
        texts.append(ours.generate_until([free(PROMPTS[0], 40)], disable_tqdm=True))
        passes.append(len(counted))
    assert texts[0] == texts[1] and len(texts[0][0]) >= 40
    assert passes[1] < passes[0] / 2


FILLER = "\n".join(f"ביקורת: {place} {REVIEWS[place % 3]}\nתשובה: חיובי" for place in range(8))
# Two levels of what is shared, each long enough for a block, and answers of several lengths.
SHARING = [
    free(f"{SHOTS}{FILLER}{passage}\nביקורת: {review}\nתשובה:", 24, until=["\n", " ה"])
    for passage in ("", " לסיכום, לא היה רע." * 12, " אחר כך הלכנו הביתה." * 12)
    for review in REVIEWS
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("rows_at_a_time", "slots"), [(64, 10**6), (2, 10**6), (64, 150)])
def test_rows_come_and_go_and_share_blocks(
    pair: Callable[..., tuple[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    rows_at_a_time: int,
    slots: int,
) -> None:
    added: list[int] = []
    add = rows.Rows.add
    monkeypatch.setattr(
        rows.Rows,
        "add",
        lambda self, path, parts: (added.append(len(parts)), add(self, path, parts)),
    )
    monkeypatch.setattr(prefix_lm, "_ROWS", rows_at_a_time)
    monkeypatch.setattr(decode, "_WORTH_A_BLOCK", 20)
    monkeypatch.setattr(decode, "_ROOM_WORTH_A_BLOCK", {})
    monkeypatch.setattr(budget.Budget, "slots", lambda *_: slots)
    stock, ours = pair(architecture)
    expected = stock.generate_until(SHARING, disable_tqdm=True)
    assert ours.generate_until(SHARING, disable_tqdm=True) == expected and any(expected)
    assert len(added) >= len(SHARING)
    assert max(added) == (2 if rows_at_a_time > 1 else 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_that_share_no_block_are_attended_to_in_one_call(
    pair: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    asked: list[int] = []
    fused = rows.Rows._fused

    def watched(now: Any, *rest: Any) -> Any:
        asked.append(len(now.groups[0].padded))
        return fused(now, *rest)

    monkeypatch.setattr(rows.Rows, "_fused", staticmethod(watched))
    monkeypatch.setattr(rows, "_FUSED", (DEVICE,))
    monkeypatch.setattr(decode, "_ROOM_WORTH_A_BLOCK", {DEVICE: 0.25})
    monkeypatch.setattr(budget.Budget, "slots", lambda *_: 10**6)
    stock, ours = pair(architecture)
    expected = stock.generate_until(SHARING, disable_tqdm=True)
    assert ours.generate_until(SHARING, disable_tqdm=True) == expected and any(expected)
    assert max(asked) >= len(SHARING) - 1  # one may end with its first token


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parts_are_put_together_where_no_call_says_what_they_weigh(
    pair: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    monkeypatch.setattr(rows, "_WEIGHED", ())
    monkeypatch.setattr(decode, "_WORTH_A_BLOCK", 20)
    stock, ours = pair(architecture)
    expected = stock.generate_until(SHARING, disable_tqdm=True)
    assert ours.generate_until(SHARING, disable_tqdm=True) == expected and any(expected)


def test_answers_longer_than_reckoned_are_put_off_and_go_on(
    pair: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    start = decode._Decoder.__init__

    def counted(self: Any, branches: Any, own: dict[Any, list[int]], *rest: Any) -> None:
        begun.extend(map(len, own.values()))
        start(self, branches, own, *rest)

    monkeypatch.setattr(decode._Decoder, "__init__", counted)
    monkeypatch.setattr(decode._Decoder, "_reckoned", lambda self: 1)
    monkeypatch.setattr(budget.Budget, "slots", lambda *_: 300)
    stock, ours = pair()
    asked = [free(f"{REVIEWS[place % 3]} {place}", 60) for place in range(12)]
    found = ours.generate_until(asked, disable_tqdm=True)
    assert found == stock.generate_until(asked, disable_tqdm=True)
    assert len([own for own in begun if own > 0]) > 2  # and what was written is not lost


@pytest.mark.skipif(DEVICE != "cpu", reason="a GPU gives a quarter of what is free")
@pytest.mark.parametrize(("small", "share"), [(576 * 2**20, 2), (0, 0.5)])
def test_answers_of_a_small_model_may_take_twice_the_memory_of_its_weights(
    pair: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch, small: int, share: float
) -> None:
    monkeypatch.setattr(budget, "_CPU_SLOTS_BYTES", small)
    ours = pair()[1]
    states = ours.branches.empty
    a_token = sum(2 * x.shape[0] * x.shape[-1] * 4 for x, _ in states)
    weights = sum(4 * weight.numel() for weight in ours.model.parameters())
    assert ours._budget.slots(ours.model, states) == int(share * weights / a_token) > 0


@given(st.lists(st.tuples(st.integers(1, 17), st.integers(0, 90)), min_size=1, max_size=8))
def test_rows_are_grouped_as_the_best_of_all_ways_to_cut_them(sides: list[tuple[int, int]]) -> None:
    counts = [count for count, _ in sides]
    slots = [count + used for count, used in sides]

    def taken(groups: Iterable[tuple[int, int]]) -> float:
        return sum(200 + (b - a) * max(counts[a:b]) * max(slots[a:b]) for a, b in groups)

    inner = range(1, len(sides))
    every = [
        list(itertools.pairwise([0, *cuts, len(sides)]))
        for number in range(len(sides))
        for cuts in itertools.combinations(inner, number)
    ]
    found = rows.grouped(counts, slots, 200)
    assert found in every and taken(found) == min(map(taken, every))
    assert rows.grouped(counts, slots, math.inf) == [(0, len(sides))]


@pytest.mark.parametrize(("shape", "used"), [((3, 7), (3, 5)), ((9, 2), (4, 2)), ((2, 9), (2, 3))])
def test_rows_of_another_length_stay_in_their_memory_and_keep_what_they_hold(
    shape: tuple[int, int], used: tuple[int, int]
) -> None:
    states = rows._moved(torch.zeros(0, 2, 0, 3), 4, 5, (0, 0), 30)
    states.copy_(torch.arange(4 * 2 * 5 * 3.0).view(4, 2, 5, 3))
    before = states.clone()
    found = rows._moved(states, *shape, used, 30)
    assert found.shape == (shape[0], 2, shape[1], 3) and found.is_contiguous()
    kept = found[: used[0], :, : used[1]]
    assert kept.equal(before[: used[0], :, : used[1]])
    assert found.data_ptr() == states.data_ptr()
    larger = rows._moved(found, 8, 8, used, 30)
    assert larger.data_ptr() != found.data_ptr() and larger[: used[0], :, : used[1]].equal(kept)
    assert not larger[used[0] :].any() and larger.isfinite().all()
    assert rows._zeros(states, 4, 10**15).tolist() == [0] * 4  # more than any machine promises


def test_answers_in_the_making_take_no_more_room_than_they_may(
    pair: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms: list[int] = []
    reserve = rows.Rows.reserve

    def watched(self: Any, *sizes: int) -> None:
        reserve(self, *sizes)
        rooms.append(self._room[0] * self._room[1])

    monkeypatch.setattr(decode._Decoder, "_reckoned", lambda self: 1)  # so that they outgrow it
    monkeypatch.setattr(budget.Budget, "slots", lambda *_: 300)
    stock, ours = pair()
    assert ours._writes
    monkeypatch.setattr(rows.Rows, "reserve", watched)
    asked = [free(f"{REVIEWS[place % 3]} {place}", 60) for place in range(12)]
    found = ours.generate_until(asked, disable_tqdm=True)
    assert found == stock.generate_until(asked, disable_tqdm=True)
    # A pass reads a few guesses more than it keeps.
    assert max(rooms) <= 300 + 300 // 8 + 17 * 12 and len(rooms) > 4


PART = rows._part


def other_weights(*parts: Any) -> Any:
    return PART(*parts)[0], PART(*parts)[1] * 0


def other_shapes(query: Any, keys: Any, *rest: Any) -> Any:
    return PART(query, keys[..., 1:], *rest)  # as where what is held is not what is attended to


@pytest.mark.parametrize("part", [other_weights, other_shapes])
def test_attention_that_cannot_be_put_together_goes_the_stock_way(
    pair: Callable[..., tuple[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: Callable[..., Any],
) -> None:
    monkeypatch.setattr(rows, "_part", part)
    stock, ours = pair()
    with caplog.at_level(logging.WARNING, logger="hebench"):
        found = [ours.generate_until(FREE, disable_tqdm=True) for _ in range(2)]
    assert found[0] == found[1] == stock.generate_until(FREE, disable_tqdm=True)
    assert caplog.text.count("free answers share nothing") == 1


@given(
    st.lists(st.tuples(st.floats(0.01, 0.99), st.integers(0, 16)), min_size=1, max_size=40),
    st.integers(1, 200),
    st.sampled_from(["cpu", "cuda"]),
)
def test_guesses_are_read_from_the_likeliest_on_and_within_the_pass(
    rows_guessed: list[tuple[float, int]], most: int, device: str
) -> None:
    chances, rooms = zip(*rows_guessed, strict=True)
    found = guesses.worth_reading(chances, rooms, most, device)
    assert all(0 <= count <= room for count, room in zip(found, rooms, strict=True))
    assert len(found) + sum(found) <= max(most, len(found))
    read = [chance**count for chance, count in zip(chances, found, strict=True) if count]
    left = [
        chance ** (count + 1)
        for chance, count, room in zip(chances, found, rooms, strict=True)
        if count < min(room, max(found))
    ]
    assert not read or not left or min(read) >= max(left) - 1e-9
    if device == "cuda":
        assert (max(found) + 1) * len(found) <= 2 * (sum(found) + len(found))
    assert guesses.worth_reading(chances, rooms, most, "tpu") == [0] * len(chances)


def test_a_guess_goes_on_as_the_text_did_and_learns_whether_it_was_right() -> None:
    text = guesses.Guesses([5, 6, 7, 8, 5, 6])
    assert text.next()[:6] == [7, 8, 5, 6, 7, 8] and text.chance == 0.5
    text.learn([7, 8], [7, 8])
    surer = text.chance
    text.learn([7, 8], [9])
    assert surer > 0.5 and text.chance < surer
    text.append(9)
    assert text.next() == []


def test_lack_of_memory_is_answered_by_less_at_a_time(
    pair: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, ours = pair()
    forward, refused = branches.Branches.forward, []

    def scarce(self: Any, tokens: Any, *rest: Any) -> Any:
        if len(tokens) > 20:
            refused.append(len(tokens))
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return forward(self, tokens, *rest)

    assert ours._writes  # which tries it
    monkeypatch.setattr(branches.Branches, "forward", scarce)
    assert_same_scores(stock, ours, CHOICES)
    assert refused and max(refused) > 20 >= ours._budget.tokens
    assert ours.generate_until(FREE, disable_tqdm=True) == stock.generate_until(
        FREE, disable_tqdm=True
    )


@pytest.mark.parametrize(
    ("owner", "name", "failing"),
    [
        (likelihood._Answers, "note", {1}),
        (decode, "_best", {1, 4}),  # behind a pass over prompts, and over answers
        (branches, "_roomier", {2}),  # of the first layer's values, and no longer its keys
        (rows, "_moved", {7}),  # of the second layer's keys, as answers outgrow their room
    ],
)
def test_lack_of_memory_around_a_pass_leaves_no_token_twice(
    pair: Callable[..., tuple[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    failing: set[int],
) -> None:
    stock, ours = pair()
    monkeypatch.setattr(decode._Decoder, "_reckoned", lambda self: 1)
    calls, allocate = [0], getattr(owner, name)

    def scarce(*rest: Any) -> Any:
        calls[0] += 1
        if calls[0] in failing:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return allocate(*rest)

    assert ours._writes
    needed = []
    for patched in (allocate, scarce):
        monkeypatch.setattr(owner, name, patched)
        ours.branches.tokens_needed = 0
        assert_same_scores(stock, ours, CHOICES)
        assert ours.generate_until(FREE, disable_tqdm=True) == stock.generate_until(
            FREE, disable_tqdm=True
        )
        needed.append(ours.branches.tokens_needed)
    assert calls[0] >= max(failing) and ours._budget.tokens < MOST
    assert needed[0] == needed[1]


def test_lack_of_memory_for_rows_is_answered_by_fewer_at_a_time(
    pair: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, refused = rows._moved, []

    def scarce(states: Any, count: int, *rest: Any) -> Any:
        if count > 2:
            refused.append(count)
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return moved(states, count, *rest)

    stock, ours = pair()
    assert ours._writes
    monkeypatch.setattr(budget.Budget, "slots", lambda *_: 10**6)
    monkeypatch.setattr(rows, "_moved", scarce)
    found = ours.generate_until(SHARING, disable_tqdm=True)
    assert found == stock.generate_until(SHARING, disable_tqdm=True)
    assert refused[:2] == [len(SHARING), len(SHARING) // 2]
    assert ours._budget.tokens == MOST  # a pass may be as long as before


def test_a_row_that_finds_no_memory_waits_and_leaves_nothing(
    pair: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    add, refused = rows.Rows.add, []

    def scarce(self: Any, path: Any, parts: Any) -> None:
        states = self._branches.states

        def last(labels: Any) -> Any:  # what the row shares finds room, its own part does not
            if labels[-1] == path[-1] and len(self._rows) > 1:
                refused.append(len(self._rows))
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
            return states(labels)

        before = {node: block.users for node, block in self._blocks.items()}
        with monkeypatch.context() as patch:
            patch.setattr(self._branches, "states", last)
            try:
                add(self, path, parts)
            except RuntimeError:
                assert {node: block.users for node, block in self._blocks.items()} == before
                raise

    monkeypatch.setattr(decode, "_WORTH_A_BLOCK", 20)
    monkeypatch.setattr(decode, "_ROOM_WORTH_A_BLOCK", {})
    monkeypatch.setattr(rows.Rows, "add", scarce)
    stock, ours = pair()
    found = ours.generate_until(SHARING, disable_tqdm=True)
    assert found == stock.generate_until(SHARING, disable_tqdm=True)
    assert len(refused) > 2


def test_half_precision_differs_by_rounding_only(
    pair: Callable[..., tuple[Any, Any]],
) -> None:
    stock, ours = pair()
    stock.model.to(torch.bfloat16)
    assert ours.branches is not None
    expected = [value for value, _ in stock.loglikelihood(CHOICES, disable_tqdm=True)]
    found = [value for value, _ in ours.loglikelihood(CHOICES, disable_tqdm=True)]
    assert found == pytest.approx(expected, rel=0.02)


# ---------------------------------------------------------------------------- left to stock


def test_a_cache_that_cannot_be_branched_is_said_once_and_goes_the_stock_way(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=1024, hidden_size=32, num_hidden_layers=1, state_size=4)
    model = MambaForCausalLM(config).eval()
    stock, ours = (
        kind(pretrained=model, tokenizer=tiny_models.tokenizer_of(tiny_model), max_length=512)
        for kind in (HFLM, PrefixLM)
    )
    with caplog.at_level(logging.WARNING, logger="hebench"):
        assert_same_scores(stock, ours, CHOICES[:2])
        assert_same_scores(stock, ours, CHOICES[2:4])
    said = [record for record in caplog.records if record.name.startswith("hebench")]
    assert len(said) == 1 and "MambaForCausalLM takes no" in said[0].getMessage()


def test_layers_with_a_cache_of_another_kind_go_the_stock_way(
    pair: Callable[..., tuple[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(branches, "_SLIDING", int)
    stock, ours = pair("mistral")
    with caplog.at_level(logging.WARNING, logger="hebench"):
        assert_same_scores(stock, ours, CHOICES[:2])
    assert ours.branches is None and "SlidingWindowLayer cannot be branched" in caplog.text


ROTARY = {
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "longrope": {
        "rope_type": "longrope",
        "short_factor": [1.0] * 8,
        "long_factor": [2.0] * 8,
        "original_max_position_embeddings": 64,
    },
    "linear": {"rope_type": "linear", "factor": 2.0},
}


@pytest.mark.parametrize("kind", ROTARY)
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])  # of each layer type its own
def test_frequencies_that_depend_on_the_length_of_a_pass_go_the_stock_way(
    pair: Callable[..., tuple[Any, Any]], architecture: str, kind: str
) -> None:
    rotary = {"rope_theta": 1e4} | ROTARY[kind]
    if architecture == "gemma3":
        plain = {"rope_type": "default", "rope_theta": 1e4}
        rotary = {"sliding_attention": plain, "full_attention": rotary}
    stock, ours = pair(architecture, context=64, rope_parameters=rotary)
    found = branches.branched(ours.model)
    if kind == "linear":
        assert isinstance(found, branches.Branches)
    else:
        assert found == "its rotary frequencies depend on the length of a pass"
    assert_same_scores(stock, ours, CHOICES)


def test_a_model_with_masks_of_its_own_kind_goes_the_stock_way(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    more = {"head_dim": 16, "intermediate_size_mlp": 64, "num_local_experts": 2}
    layers = {"layer_types": ["chunked_attention", "full_attention"], "attention_chunk_size": 32}
    config = Llama4TextConfig(**(tiny_models.SIZES | more | layers))
    model = Llama4ForCausalLM(config).eval()
    stock, ours = (
        kind(pretrained=model, tokenizer=tiny_models.tokenizer_of(tiny_model), max_length=512)
        for kind in (HFLM, PrefixLM)
    )
    with caplog.at_level(logging.WARNING, logger="hebench"):
        assert_same_scores(stock, ours, CHOICES[:2])
    assert "it does not read a small tree: KeyError: 'chunked_attention'" in caplog.text
    assert ours.branches is None


def test_a_transformers_without_layers_of_its_caches_goes_the_stock_way(
    pair: Callable[..., tuple[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As Gaudi's environment has it; the whole of it is in tests/real/test_gaudi.py."""
    monkeypatch.setattr(branches, "_SLIDING", None)
    stock, ours = pair("llama")
    with caplog.at_level(logging.WARNING, logger="hebench"):
        assert_same_scores(stock, ours, CHOICES[:2])
    assert "does not tell its layers' caches apart" in caplog.text and ours.branches is None


def test_lack_of_memory_is_no_reason_to_go_the_stock_way(
    pair: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def scarce(*_: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(branches.Branches, "forward", scarce)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        branches.branched(pair()[1].model)


def test_a_model_that_loses_the_mask_is_found_out(
    pair: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = branches.Branches._masks
    monkeypatch.setattr(
        branches.Branches,
        "_masks",
        lambda self, *rest: {
            window: torch.zeros_like(mask) for window, mask in masks(self, *rest).items()
        },
    )
    assert branches.branched(pair()[1].model) == "its answers to a small tree are not its own"


@pytest.mark.parametrize(
    "more", [{"do_sample": True, "temperature": 0.7}, {"repetition_penalty": 1.3}]
)
def test_sampling_and_penalties_go_the_stock_way(
    pair: Callable[..., tuple[Any, Any]], more: dict[str, Any]
) -> None:
    stock, ours = pair()
    texts = []
    for lm in (stock, ours):
        torch.manual_seed(0)
        texts.append(lm.generate_until([free(PROMPTS[0], **more)], disable_tqdm=True))
    assert texts[0] == texts[1] and ours.branches.tokens_needed == 0


def test_a_folder_that_sets_a_penalty_gets_it_and_a_warning(
    pair: Callable[..., tuple[Any, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    stock, ours = pair("gemma3")  # which says the same again and again
    plain = stock.generate_until(FREE, disable_tqdm=True)
    ours.model.generation_config.repetition_penalty = 1.3
    with caplog.at_level(logging.WARNING, logger="hebench"):
        texts = [lm.generate_until(FREE, disable_tqdm=True) for lm in (stock, ours)]
    assert texts[0] == texts[1] != plain and "sets repetition_penalty" in caplog.text


def test_a_folder_that_sets_the_length_of_an_answer_shares_as_any_other(
    pair: Callable[..., tuple[Any, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    stock, ours = pair()
    ours.model.generation_config.max_length = 4096  # lm-eval gives one for each answer
    with caplog.at_level(logging.WARNING, logger="hebench"):
        texts = [lm.generate_until(FREE, disable_tqdm=True) for lm in (stock, ours)]
    assert (
        texts[0] == texts[1]
        and "share nothing" not in caplog.text
        and ours.branches.tokens_needed > 0
    )


def test_nan_stays_with_the_request_that_has_it(pair: Callable[..., tuple[Any, Any]]) -> None:
    stock, ours = pair()
    (poison,) = set(ours.tok_encode(" קר")[-1:])
    with torch.no_grad():
        ours.model.get_input_embeddings().weight[poison] = math.nan
    assert_same_scores(stock, ours, CHOICES)
    values = [value for value, _ in ours.loglikelihood(CHOICES, disable_tqdm=True)]
    assert 0 < sum(map(math.isnan, values)) < len(values)
    assert ours.generate_until(FREE, disable_tqdm=True) == stock.generate_until(
        FREE, disable_tqdm=True
    )
    texts = [SimpleNamespace(args=(text,)) for text in (*PROMPTS, "גשם")]
    expected = stock.loglikelihood_rolling(texts, disable_tqdm=True)
    assert 0 < sum(map(math.isnan, expected)) < len(texts)
    found = ours.loglikelihood_rolling(texts, disable_tqdm=True)
    assert found == pytest.approx(expected, abs=1e-3, nan_ok=True)


# ---------------------------------------------------------------------------------- bad input


def test_an_answer_without_a_token_of_its_own_is_an_error(
    pair: Callable[..., tuple[Any, Any]],
) -> None:
    _, ours = pair()
    with pytest.raises(TaskError, match="item 0 of reviews: expected a text to score"):
        ours.loglikelihood([scored("הוא גר ב", "")], disable_tqdm=True)
    whole = ours.tok_encode("הוא גר ביום")
    with pytest.raises(TaskError, match="found 0 in 'ם'.*the tokenizer joins it"):
        ours._loglikelihood_tokens([(("הוא גר ביו", "ם"), whole, [])])


def test_an_answer_longer_than_the_context_is_an_error(
    pair: Callable[..., tuple[Any, Any]],
) -> None:
    _, ours = pair(context=16)
    with pytest.raises(TaskError, match="expected 1 to 16 tokens"):
        ours.loglikelihood([scored("כן", " מילה" * 40)], disable_tqdm=True)
    with pytest.raises(ConfigError, match="--max-tokens"):
        ours.generate_until([free("כן", 16)], disable_tqdm=True)


def test_once_imported_the_model_goes_by_its_name() -> None:
    assert get_model("hebench_prefix") is PrefixLM


def test_a_harness_that_reads_entry_points_finds_the_model() -> None:
    (found,) = importlib.metadata.entry_points(group="lm_eval.models", name="hebench_prefix")
    assert found.load() is PrefixLM
