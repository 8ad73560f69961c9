import itertools
import json
import random
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hebench.errors import CheckpointError, ConfigError, DataError
from hebench.train.bpe import Continuation, Spelling, acceptable, joiner
from hebench.train.languages import language
from hebench.train.tokenizer import TokenizerConfig, run
from hebench.train.tokenizer_files import write_tokenizer
from hebench.train.vocabulary import read_base

HEBREW = (
    "שלום לכולם, הילדים הולכים לבית הספר בבוקר וחוזרים הביתה בצהריים. ",
    "הילדה אכלה תפוח, והילד שתה מים. השלום חשוב לכל הילדים בבית הספר. ",
    "בְּרֵאשִׁית בָּרָא אֱלֹהִים אֵת הַשָּׁמַיִם וְאֵת הָאָרֶץ. שלום רב! ",
    "ראש הממשלה אמר בכנסת: ״לא נוותר״, וחברי הכנסת מחאו כפיים. ",
)
GREEK = (
    "Καλημέρα σε όλους, τα παιδιά πηγαίνουν στο σχολείο το πρωί. ",
    "Το κορίτσι έφαγε ένα μήλο και το αγόρι ήπιε νερό στο σχολείο. ",
)
ENGLISH = "The captain saw the light at 7:30, paid 12.50 euros and said: “naïve café 🙂”.\n\n  Done"
TOKENS = 40


def write_corpus(folder: Path, code: str, texts: tuple[str, ...]) -> Path:
    for part in ("train", "heldout"):
        for source in ("news", "blogs"):
            path = folder / part / code / f"{source}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps({"text": text * 2}, ensure_ascii=False) for text in texts]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    other = folder / "heldout" / "en" / "books.jsonl"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text(json.dumps({"text": ENGLISH}) + "\n", encoding="utf-8")
    return folder


def sentencepiece_folder(folder: Path, *, split: bool = False) -> Path:
    """A BPE over characters with ▁ for the space and byte fallback, as Llama 2 and Mistral have it.

    split: cut at spaces by a pre-tokeniser, instead of taking a text for one word.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    text = "▁the▁captain▁saw▁the▁light▁at▁seven▁and▁he▁said▁that▁the▁sea▁is▁in"
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    # Only some letters of the language are known as characters; the rest are bytes.
    pieces += sorted(set(text) | set("שלוםהיבת") | set("abcdefghijklmnopqrstuvwxyz0123456789.,"))
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("i", "n"), ("▁", "s"), ("▁", "▁"), ("ש", "ל")]
    pieces += ["".join(merge) for merge in merges]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    model = models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    if split:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]
        )
    else:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        tokenizer.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    fast.save_pretrained(folder)
    LlamaConfig(vocab_size=len(vocab)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def byte_level_model(
    tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return a function that saves a byte-level tokenizer with a configuration, without weights."""

    def save(rows: int | None = None) -> Path:
        from transformers import LlamaConfig

        folder = tmp_path_factory.mktemp("byte-level")
        tiny_tokenizer.save_pretrained(folder)
        LlamaConfig(vocab_size=rows or len(tiny_tokenizer)).save_pretrained(folder)
        return folder

    return save


Extended = tuple[Any, Any, Path]


@pytest.fixture(scope="module")
def extend(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Extended]:
    """Return a function that runs the stage: (tokenizer before, after, the stage's folder)."""

    def extend(model: Path, code: str = "he", texts: tuple[str, ...] = HEBREW) -> Extended:
        from transformers import AutoTokenizer

        folder = tmp_path_factory.mktemp("extended")
        corpus = write_corpus(folder / "corpus", code, texts)
        config = TokenizerConfig(language=code, tokens=TOKENS, curve_tokens=2 * TOKENS)
        run(config, model=model, corpus=corpus, out=folder / "out")
        load = AutoTokenizer.from_pretrained
        return load(model), load(folder / "out" / "tokenizer"), folder / "out"

    return cache(extend)


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece", "sentencepiece, split"])
def pair(
    request: pytest.FixtureRequest,
    byte_level_model: Callable[..., Path],
    extend: Callable[..., Extended],
    tmp_path_factory: pytest.TempPathFactory,
) -> Extended:
    """Each kind of tokenizer before and after its extension by 40 Hebrew pieces."""
    if request.param == "byte-level":
        return extend(byte_level_model())
    folder = tmp_path_factory.mktemp("sentencepiece")
    return extend(sentencepiece_folder(folder, split="split" in request.param))


def ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return found


def test_hebrew_takes_fewer_tokens_and_the_vocabulary_grows_by_what_was_asked(
    pair: Extended,
) -> None:
    before, after, _ = pair
    assert len(after) == len(before) + TOKENS
    text = "".join(HEBREW)
    assert len(ids(after, text)) < 0.75 * len(ids(before, text))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_text_without_the_language_is_tokenised_as_before(pair: Extended, text: str) -> None:
    before, after, _ = pair
    text = "".join(char for char in text if not language("he").own.match(char))
    assert ids(after, text) == ids(before, text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(st.sampled_from([*"אבשלוםהי תת", "ְ", "ָ", "🙂", "the ", "é", "12", "״"])))
def test_mixed_text_comes_back_from_its_tokens(pair: Extended, text: list[str]) -> None:
    _, after, _ = pair
    # A SentencePiece-style decoder takes one leading space away; a word in front keeps it.
    whole = "a" + "".join(text)
    assert after.decode(ids(after, whole), clean_up_tokenization_spaces=False) == whole


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(st.sampled_from([*"אבשלוםהי תת", "ְ", "ָ", "🙂", "the ", "é", "12", "״"])))
def test_new_pieces_never_make_a_text_longer(pair: Extended, text: list[str]) -> None:
    before, after, _ = pair
    whole = "".join(text)
    assert len(ids(after, whole)) <= len(ids(before, whole))


def test_every_new_piece_is_hebrew_and_reads_its_own_text_as_one_token(pair: Extended) -> None:
    before, after, _ = pair
    for number in range(len(before), len(after)):
        # After a full stop, since decoders take a space at the beginning away.
        text = after.decode([*ids(after, "."), number]).removeprefix(".")
        assert acceptable(text, language("he")), text
        assert ids(after, "." + text) == [*ids(after, "."), number]


def test_the_gain_curve_agrees_with_the_tokenizers_themselves(pair: Extended) -> None:
    before, after, out = pair
    curve = json.loads((out / "curve.json").read_text())
    metrics = json.loads((out / "stage.json").read_text())["metrics"]
    words = sum(len((text * 2).split()) for text in HEBREW)
    for tokenizer, tokens, name in ((before, 0, "before"), (after, TOKENS, "after")):
        rate = sum(len(ids(tokenizer, text * 2)) for text in HEBREW) / words
        point = next(point for point in curve if point["tokens"] == tokens)
        assert point["tokens_per_word"] == pytest.approx(rate)
        assert point["sources"] == {"blogs": pytest.approx(rate), "news": pytest.approx(rate)}
        assert metrics[f"tokens_per_word_{name}"] == pytest.approx(rate)
    rates = [point["tokens_per_word"] for point in curve]
    assert rates == sorted(rates, reverse=True)
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_chat_template_special_tokens_and_the_chat_survive(
    extend: Callable[..., Extended], byte_level_model: Callable[..., Path]
) -> None:
    before, after, _ = extend(byte_level_model())
    chat = [{"role": "user", "content": "good morning"}]
    assert after.special_tokens_map == before.special_tokens_map
    for tokenize in (True, False):
        rendered = [
            tokenizer.apply_chat_template(chat, tokenize=tokenize, add_generation_prompt=True)
            for tokenizer in (before, after)
        ]
        assert rendered[0] == rendered[1]


def test_padding_rows_and_tokens_beside_the_vocabulary_keep_their_ids(
    tiny_tokenizer: Any,
    byte_level_model: Callable[..., Path],
    extend: Callable[..., Extended],
    tmp_path: Path,
) -> None:
    from transformers import AutoTokenizer

    folder = byte_level_model(rows=448)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|im_end|>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    before, after, _ = extend(folder)
    assert before.convert_tokens_to_ids("<|im_end|>") == len(tiny_tokenizer) == 400
    assert after.convert_tokens_to_ids("<|im_end|>") == 400
    assert ids(after, "good<|im_end|>") == ids(before, "good<|im_end|>")
    assert len(after) == 448 + TOKENS
    assert min(set(ids(after, "".join(HEBREW))) - set(range(400))) >= 448


def test_another_language_is_another_code_and_nothing_else(
    extend: Callable[..., Extended], byte_level_model: Callable[..., Path]
) -> None:
    before, after, _ = extend(byte_level_model(), "el", GREEK)
    assert len(ids(after, GREEK[0])) < 0.75 * len(ids(before, GREEK[0]))
    assert ids(after, HEBREW[0]) == ids(before, HEBREW[0])


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("של", "he", True),
        (" של", "he", True),
        ("  של", "he", False),
        ("ל ש", "he", False),
        ("ְּ", "he", True),  # a point alone: pre-tokenisers cut pointed words at each of them
        ("a", "he", False),
        ("ש2", "he", False),
        ("", "he", False),
        (" ", "he", False),
        ("ή", "el", True),
        ("η\u0301", "el", True),
        ("\u0301", "el", False),  # French has it, too
    ],
)
def test_a_new_piece_is_the_languages_own_text_with_one_space_at_most(
    text: str, code: str, expected: bool
) -> None:
    assert acceptable(text, language(code)) is expected


def bpe_by_the_book(
    words: dict[str, int], wanted: int, join: Callable[[str, str], str | None]
) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Count every pair anew before each merge: slow and plain."""
    split = {word: list(word) for word in words}
    learned = []
    for _ in range(wanted):
        counts: Counter[tuple[str, str]] = Counter()
        for word, parts in split.items():
            for pair in itertools.pairwise(parts):
                if join(*pair):
                    counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        learned.append(best)
        for parts in split.values():
            place = 0
            while place < len(parts) - 1:
                if (parts[place], parts[place + 1]) == best:
                    parts[place : place + 2] = ["".join(best)]
                place += 1
    return learned, list(split.values())


@given(st.dictionaries(st.text("▁שלוםx", min_size=1, max_size=8), st.integers(1, 20), max_size=12))
def test_incremental_counts_learn_what_counting_anew_learns(words: dict[str, int]) -> None:
    join = joiner(Spelling(byte_level=False), language("he"))
    growth = Continuation(map(list, words), list(words.values()), merges=[], join=join)
    steps = []
    while (step := growth.step()) and len(steps) < 12:
        steps.append((step.left, step.right))
        expected, segmented = bpe_by_the_book(words, len(steps), join)
        assert steps == expected
        assert growth.words == segmented


def segmented(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Return a word's pieces: the merge of lowest rank first, from the left, one after another."""
    parts = list(word)
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    while ranked := [
        (ranks[pair], place)
        for place, pair in enumerate(itertools.pairwise(parts))
        if pair in ranks
    ]:
        place = min(ranked)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


@given(st.lists(st.text("אבג", min_size=1, max_size=14), min_size=1, max_size=6))
def test_older_merges_apply_again_where_a_new_one_makes_their_parts(words: list[str]) -> None:
    merges = [("א", "ב"), ("אב", "ג"), ("ג", "אב")]
    join = joiner(Spelling(byte_level=False), language("he"))
    begun = [segmented(word, merges) for word in words]
    growth = Continuation(begun, [1] * len(words), merges=merges, join=join)
    while (step := growth.step()) and len(merges) < 12:
        merges.append((step.left, step.right))
        assert growth.words == [segmented(word, merges) for word in words]


def test_a_run_of_letters_takes_time_in_proportion_to_its_length() -> None:
    """Calls stand for time: of what is asked for each pair of neighbours."""
    join, calls = joiner(Spelling(byte_level=False), language("he")), [0]

    def counted(left: str, right: str) -> str | None:
        calls[0] += 1
        return join(left, right)

    growth = Continuation([["ח"] * 4000], [1], merges=[], join=counted)
    for _ in range(6):
        growth.step()
    assert calls[0] < 20 * 4000
    assert growth.words == [["ח" * 64] * 62 + ["ח" * 32]]


def test_the_letters_of_bytes_are_those_of_the_tokenizers_library() -> None:
    from tokenizers import pre_tokenizers

    spelling = Spelling(byte_level=True)
    for text in ("שלום", " בְּרֵאשִׁית", "a\u00ad\u0000~é🙂"):
        words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        ((written, _),) = words.pre_tokenize_str(text)
        assert spelling.piece(text) == written
        assert spelling.raw(written) == text.encode()


def test_a_finished_stage_is_returned_and_another_configuration_is_refused(
    byte_level_model: Callable[..., Path], tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus", "he", HEBREW)
    paths = {"model": byte_level_model(), "corpus": corpus, "out": tmp_path / "out"}
    config = TokenizerConfig(language="he", tokens=5, curve_tokens=5)
    first = run(config, **paths)
    assert run(config, **paths) == first
    with pytest.raises(ConfigError, match=r"config\.tokens was 5, is 4"):
        run(TokenizerConfig(language="he", tokens=4, curve_tokens=5), **paths)


@pytest.mark.parametrize("texts", [("Only English here.",), ("שלום and good bye",)])
def test_a_corpus_without_the_language_is_refused_with_the_number_of_pairs_found(
    texts: tuple[str, ...], byte_level_model: Callable[..., Path], tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus", "he", texts)
    config = TokenizerConfig(language="he", tokens=TOKENS)
    with pytest.raises(DataError, match=r"expected text with 40 mergeable pairs.*found \d in"):
        run(config, model=byte_level_model(), corpus=corpus, out=tmp_path / "out")
    assert not (tmp_path / "out" / "tokenizer").exists()


def test_weights_of_sources_that_do_not_exist_are_refused(
    byte_level_model: Callable[..., Path], tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus", "he", HEBREW)
    config = TokenizerConfig(language="he", tokens=5, weights={"newz": 2.0})
    with pytest.raises(ConfigError, match="no source newz; there are blogs, news"):
        run(config, model=byte_level_model(), corpus=corpus, out=tmp_path / "out")


def test_a_heavier_source_decides_what_is_learned(
    byte_level_model: Callable[..., Path], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    corpus = write_corpus(tmp_path / "corpus", "he", HEBREW)
    lines = json.dumps({"text": "קקקק " * 9}) + "\n"
    (corpus / "train" / "he" / "blogs.jsonl").write_text(lines)
    model = byte_level_model()
    counts = []
    for weight in (0.0, 1.0):
        config = TokenizerConfig(language="he", tokens=8, curve_tokens=8, weights={"blogs": weight})
        out = tmp_path / f"out-{weight}"
        run(config, model=model, corpus=corpus, out=out)
        counts.append(len(ids(AutoTokenizer.from_pretrained(out / "tokenizer"), "קקקק")))
    assert counts == [8, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": 0}, "tokens: expected at least 1, found 0"),
        ({"tokens": -3}, "tokens: expected at least 1, found -3"),
        ({"words": 0}, "words: expected at least 1, found 0"),
        ({"curve_tokens": 10}, "curve_tokens: expected at least tokens=1000, found 10"),
        ({"weights": {"law": -1.0}}, "weights.law: expected 0 or more"),
        ({"weights": {"law": float("nan")}}, "weights.law: expected 0 or more"),
        ({"language": "xx"}, "language 'xx' is not described"),
    ],
)
def test_impossible_sizes_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TokenizerConfig(**{"language": "he", **arguments})


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].update(merges=[]), "expected merges to continue, found none"),
        (lambda c: c["model"].update(type="Unigram"), "expected a BPE tokenizer, found Unigram"),
        (lambda c: c["model"].update(type="WordPiece"), "expected a BPE tokenizer, found WordPie"),
        (lambda c: c["model"].update(dropout=0.1), "its option dropout=0.1 is not supported"),
        (
            lambda c: c["model"].update(continuing_subword_prefix="##"),
            "its option continuing_subword_prefix='##' is not supported",
        ),
        (
            lambda c: c["model"].update(end_of_word_suffix="</w>"),
            "its option end_of_word_suffix='</w>' is not supported",
        ),
        (lambda c: c.pop("model"), "expected a fast tokenizer, found KeyError"),
        (
            lambda c: c.update(pre_tokenizer={"type": "Whitespace"}),
            "found one that marks spaces in neither way",
        ),
    ],
)
def test_a_tokenizer_that_cannot_be_extended_is_refused_with_the_reason(
    change: Callable[[dict[str, Any]], object],
    message: str,
    byte_level_model: Callable[..., Path],
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_base(edit(byte_level_model(), change))


def test_sentencepiece_without_byte_fallback_is_refused(tmp_path: Path) -> None:
    folder = edit(sentencepiece_folder(tmp_path), lambda c: c["model"].update(byte_fallback=False))
    with pytest.raises(CheckpointError, match="expected byte fallback, found none"):
        read_base(folder)


def test_a_vocabulary_larger_than_the_embedding_is_refused(
    byte_level_model: Callable[..., Path],
) -> None:
    with pytest.raises(CheckpointError, match="within the embedding's 390 rows, found id 399"):
        read_base(byte_level_model(rows=390))


def test_a_folder_without_tokenizer_json_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"found no such file; load the tokenizer"):
        read_base(tmp_path)


def test_a_whole_word_in_the_vocabulary_may_be_read_without_merges(
    byte_level_model: Callable[..., Path], extend: Callable[..., Extended]
) -> None:
    # Llama 3 has this option; the English must come out the same there, too.
    folder = edit(byte_level_model(), lambda c: c["model"].update(ignore_merges=True))
    before, after, _ = extend(folder)
    assert ids(after, ENGLISH) == ids(before, ENGLISH)
    assert len(ids(after, HEBREW[0])) < 0.75 * len(ids(before, HEBREW[0]))


def test_the_saved_form_names_what_both_versions_of_transformers_know(
    byte_level_model: Callable[..., Path], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(byte_level_model())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool>"]})
    (tmp_path / "tokenizer.model").write_bytes(b"stale")
    write_tokenizer(tokenizer, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    # 4.55 knows no other class for it, and no list under `extra_special_tokens`.
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["additional_special_tokens"] == ["<tool>"]
    assert not {"extra_special_tokens", "is_local", "name_or_path"} & config.keys()
    assert not (tmp_path / "tokenizer.model").exists()
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.extra_special_tokens == tokenizer.extra_special_tokens == ["<tool>"]
    assert again.chat_template == tokenizer.chat_template


@pytest.mark.slow
def test_a_thousand_pieces_for_the_demo_model_leave_english_books_as_they_were(
    shared: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    from hebench.models.demo import obtain
    from hebench.train.texts import read_documents

    corpus = tmp_path / "corpus"
    texts = {
        source: [document.text for document in read_documents(shared / "data" / source)]
        for source in ("corpus-en", "corpus-he/wikipedia.jsonl.gz")
    }
    random.Random(0).shuffle(texts["corpus-he/wikipedia.jsonl.gz"])
    for part, kept in (("train", slice(50, None)), ("heldout", slice(50))):
        path = corpus / part / "he" / "wiki.jsonl"
        path.parent.mkdir(parents=True)
        lines = [json.dumps({"text": text}) for text in texts["corpus-he/wikipedia.jsonl.gz"][kept]]
        path.write_text("\n".join(lines) + "\n")
    model = obtain()
    config = TokenizerConfig(language="he", tokens=1000, curve_tokens=1000)
    record = run(config, model=model, corpus=corpus, out=tmp_path / "out")
    assert record.metrics["tokens_per_word_after"] < 0.5 * record.metrics["tokens_per_word_before"]
    before = AutoTokenizer.from_pretrained(model)
    after = AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    for text in texts["corpus-en"][:400]:
        if not language("he").own.search(text):
            assert ids(after, text) == ids(before, text)
