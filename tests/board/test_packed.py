"""Packed scores: what the browser gets is what the records hold."""

import base64
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.board.build import load_site
from hebench.board.difficulty import MIN_MODELS, item_facts
from hebench.board.documents import documents, fields_of, lead, search_text
from hebench.board.packed import files, pack_codes, pack_scores, script
from hebench.board.page import Site
from tests.board.made import made_board

nan = math.nan


def unpack_scores(packed: str, n: int) -> np.ndarray:
    """The scores as packed.js reads them."""
    raw = base64.b64decode(packed[1:], validate=True)
    if packed[0] == "b":
        bits = np.frombuffer(raw, dtype=np.uint8)
        return np.unpackbits(bits, count=n, bitorder="little").astype(np.float64)
    assert packed[0] == "f" and len(raw) == 4 * n
    return np.round(np.frombuffer(raw, dtype="<f4").astype(np.float64), 7)


def unpack_codes(packed: str | None, n: int) -> np.ndarray:
    """The clusters as packed.js and compare.js read them."""
    if packed is None:
        return np.arange(n)
    raw = base64.b64decode(packed[1:], validate=True)
    assert len(raw) == int(packed[0]) * n
    return np.frombuffer(raw, dtype=f"<u{packed[0]}").astype(np.int64)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return load_site(made_board(tmp_path_factory.mktemp("packed"), hostile=True))


@pytest.fixture(scope="module")
def data(site: Site) -> dict[str, object]:
    """The payloads of the data files by path."""
    return {path: payload(content) for path, content in files(site)}


def payload(content: bytes) -> object:
    text = content.decode("utf-8")
    assert text.startswith('hebenchData("') and text.endswith(");\n")
    return json.loads(text.partition(",")[2][:-3])


@pytest.mark.parametrize(
    ("scores", "packed"),
    [
        ([1, 0, 1], "bBQ=="),
        ([0] * 8 + [1], "bAAE="),
        ([1.0, 0.5], "fAACAPwAAAD8="),
        ([1.0, nan], "fAACAPwAAwH8="),
    ],
)
def test_scores_are_packed_as_the_browser_reads_them(scores: list[float], packed: str) -> None:
    assert pack_scores(np.array(scores)) == packed


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=70))
def test_bits_come_back(scores: list[float]) -> None:
    packed = pack_scores(np.array(scores))
    assert packed[0] == "b"
    assert unpack_scores(packed, len(scores)).tolist() == scores


@given(st.lists(st.integers(0, 10**7) | st.just(None), min_size=1, max_size=40))
def test_scores_of_seven_decimals_come_back_exactly(scores: list[int | None]) -> None:
    values = np.array([nan if score is None else score / 10**7 for score in scores])
    np.testing.assert_array_equal(unpack_scores(pack_scores(values), len(values)), values)


@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=40))
def test_clusters_come_back(labels: list[int]) -> None:
    codes = np.array(labels)
    assert unpack_codes(pack_codes(codes), len(codes)).tolist() == labels


def test_items_that_stand_alone_need_no_clusters() -> None:
    assert pack_codes(np.arange(5)) is None


def test_every_run_is_there_models_checkpoints_baselines_and_partial_ones(
    site: Site, data: dict[str, object]
) -> None:
    for slug in site.board.models:
        found = data[f"data/scores/{slug}.js"]
        assert isinstance(found, dict)
        own = [column for column in site.board.columns.values() if slug in column.scores]
        assert list(found) == [column.key for column in own]
        for column in own:
            unpacked = unpack_scores(found[column.key], len(column.items))
            np.testing.assert_allclose(unpacked, column.scores[slug], atol=1e-7)
            if not column.complete(slug):
                assert np.isnan(unpacked).sum() == len(column.items) - column.ran[slug]


def test_columns_say_what_the_browser_needs(site: Site, data: dict[str, object]) -> None:
    found = data["data/columns.js"]
    assert isinstance(found, list)
    for told, column in zip(found, site.board.columns.values(), strict=True):
        codes = unpack_codes(told.pop("codes"), len(column.items))
        np.testing.assert_array_equal(codes, column.codes)
        assert told == {
            "key": column.key,
            "task": column.task,
            "track": column.track,
            "n": len(column.items),
            "units": column.units,
        }


def test_items_have_ids_texts_and_difficulty(site: Site, data: dict[str, object]) -> None:
    for key, column in site.board.columns.items():
        found = data[f"data/items/{key}.js"]
        assert isinstance(found, dict)
        assert tuple(found["ids"]) == column.items
        assert len(found["text"]) == len(found["lead"]) == len(column.items)
        mean = np.nanmean([column.scores[slug] for slug in site.board.ranked(key)], axis=0)
        np.testing.assert_allclose(unpack_scores(found["mean"], len(mean)), mean, atol=1e-7)


def test_the_same_records_give_the_same_bytes(site: Site) -> None:
    assert list(files(site)) == list(files(site))


def test_no_path_leaves_the_data_folder(site: Site) -> None:
    for path, _ in files(site):
        assert path.startswith("data/") and ".." not in path and Path(path).suffix == ".js"


def test_a_lone_surrogate_becomes_its_escape() -> None:
    assert script("x", ["\ud800א"]) == 'hebenchData("x",["\\ud800א"]);\n'.encode()


# ------------------------------------------------------------------------------ difficulty


def test_the_mean_leaves_out_what_was_not_judged() -> None:
    facts = item_facts(np.array([[1, nan, nan], [0, 1, nan]]))
    assert facts.models == 2
    np.testing.assert_array_equal(facts.mean, [0.5, 1, nan])


@pytest.mark.parametrize(
    ("scores", "binary"),
    [([nan, 1.0, 0.0], True), ([nan, 1.0, 0.5], False), ([nan, nan, nan], False)],
)
def test_a_column_is_binary_if_all_that_was_judged_is_right_or_wrong(
    site: Site, scores: list[float], binary: bool
) -> None:
    column = site.board.columns["hebench_mini_nli"]
    found = dataclasses.replace(column, scores={"a": np.array(scores)})
    assert found.binary == binary


def test_no_models_give_no_facts() -> None:
    facts = item_facts(np.zeros((0, 3)))
    assert facts.models == 0 and np.isnan(facts.mean).all() and not facts.suspect.any()


def test_discrimination_is_the_correlation_with_the_other_items() -> None:
    scores = (np.random.default_rng(1).random((9, 30)) < 0.6).astype(float)
    found = item_facts(scores).discrimination
    for item in range(30):
        rest = np.delete(scores, item, axis=1).mean(axis=1)
        assert found[item] == pytest.approx(np.corrcoef(scores[:, item], rest)[0, 1])


def test_an_item_that_only_weak_models_hit_is_suspected() -> None:
    strong = np.linspace(0, 1, 12)[:, None]
    scores = (np.random.default_rng(0).random((12, 200)) < strong).astype(float)
    scores[:, 7] = strong[:, 0] < 0.5
    scores[:, 8] = 1
    facts = item_facts(scores)
    assert facts.suspect[7] and facts.discrimination[7] < -0.6
    assert np.isnan(facts.discrimination[8]) and not facts.suspect[8]
    assert facts.suspect.sum() <= 3


def test_few_models_suspect_nothing() -> None:
    scores = np.array([[0, 1, 1], [0, 1, 1], [1, 0, 0], [1, 0, 0]], dtype=float)
    assert len(scores) < MIN_MODELS
    assert not item_facts(scores).suspect.any()


# ------------------------------------------------------------------------------- documents


@pytest.mark.parametrize(
    ("doc", "names"),
    [
        ({"id": "x", "cluster": "x", "label": 1, "choices": ["א", "ב"]}, ["choices"]),
        ({"question": "ש", "golds": ["ת"], "target": "ת"}, ["question", "golds"]),
        ({"question": "ש", "passage": "ק"}, ["passage", "question"]),
        ({"question": "ש", "answer": "3", "target": "1 ועוד 2"}, ["question", "answer", "target"]),
        ({"unheard_of": "ט", "text": "ט", "topic": ""}, ["text", "unheard_of"]),
    ],
)  # fmt: skip
def test_fields_come_in_the_order_of_reading(doc: dict[str, object], names: list[str]) -> None:
    assert [field.name for field in fields_of(doc)] == names


def test_the_right_choice_is_marked_and_labels_for_programs_are_code() -> None:
    doc = {"choices": ["a", "b"], "label": 1, "phenomenon": "subject_verb", "topic": "תנ״ך"}
    found = {field.name: field for field in fields_of(doc)}
    assert found["choices"].right == 1 and not found["choices"].code
    assert found["phenomenon"].code and not found["topic"].code


def test_a_search_sees_what_a_hebrew_reader_calls_the_same() -> None:
    assert search_text({"text": 'בְּבֵית־סֵפֶר של צה"ל, שלום!'}) == "בבית ספר של צהל שלומ"


def test_a_lead_is_one_bounded_line() -> None:
    assert lead({"question": "א\nב" + "ג" * 200}).startswith("א ב")
    assert len(lead({"question": "ג" * 200})) == 90
    assert lead({}) == ""


def test_texts_are_shown_only_of_packaged_sets_in_the_version_that_was_run(site: Site) -> None:
    column = site.board.columns["hebench_mini_qa"]
    assert documents(column)
    assert not documents(dataclasses.replace(column, version="0.9"))
    assert not documents(dataclasses.replace(column, record_key="hebench_mini_qa.validation"))
    assert not documents(dataclasses.replace(column, record_key="hebench_heq"))
    assert not documents(dataclasses.replace(column, record_key="someone_elses"))
