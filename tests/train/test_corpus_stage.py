"""The corpus stage from files to training text, on small corpora made here."""

import gzip
import json
import os
import random
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hebench.config import build
from hebench.data.load import mini_records
from hebench.data.overlap import Item
from hebench.errors import ConfigError, DataError, HebenchError
from hebench.train.corpus import CorpusConfig, run, stage
from hebench.train.corpus.blocks import executors
from hebench.train.corpus.blocks.documents import ReadInputs
from hebench.train.corpus.inputs import input_parts
from hebench.train.corpus.tally import Tally
from hebench.train.plan import plan_stage
from hebench.train.texts import read_documents

HEBREW = [record["passage"] for record in mini_records("qa")]
HEBREW += [record["article"] for record in mini_records("summarization")]
ENGLISH = [text for record in mini_records("translation") for text in record["en"]]
QUESTION = next(
    record["question"] for record in mini_records("trivia") if len(record["question"].split()) >= 8
)


def write(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as stream:
        stream.write(lines)
    return path


def english(number: int, seed: int = 0) -> list[str]:
    """Documents of 60 English words, no two alike."""
    words = " ".join(ENGLISH).split()
    chosen = random.Random(seed)
    return [" ".join(chosen.choices(words, k=60)) for _ in range(number)]


def config(corpus: Path, **changes: Any) -> CorpusConfig:
    """A small configuration: `he` and `en` are folders in `corpus`."""
    content: dict[str, Any] = {
        "language": "he",
        "inputs": {
            "hebrew": {
                "language": "he",
                "path": str(corpus / "he"),
                "heldout_words": 200,
                "rules": {"min_frequent_share": 0.3},  # the reference is a few pages
            }
        },
        "benchmark_sets": ["mini-trivia"],
        "tasks": 2,
        "bands": 4,
        "rows": 5,
    }
    if (corpus / "en").exists():
        content["inputs"]["english"] = {
            "language": "en",
            "path": str(corpus / "en"),
            "heldout_words": 120,
        }
    return build(CorpusConfig, {**content, **changes}, "test")


def texts_of(folder: Path) -> list[str]:
    return [document.text for document in read_documents(folder)]


@pytest.fixture(scope="module")
def planted() -> dict[str, str]:
    """Documents that some rule must change or remove, by what is wrong with them."""
    words = HEBREW[3].split()
    words[20] = "אחרת"
    letters = random.Random(1)
    return {
        "exact copy": HEBREW[40],
        "near copy": " ".join(words),
        "benchmark": f"{HEBREW[0][:200]} {QUESTION} {HEBREW[1][:200]}",
        "English": english(1, seed=9)[0],
        "gibberish": " ".join(
            "".join(letters.choices("אבגדהוזחטיכלמנסעפצקרשת", k=6)) for _ in range(80)
        ),
        "markup": f"<p>{HEBREW[5][:300]}</p>&nbsp;<p>טלפון 050-1234567</p>",
        "nothing": "<br><br>",
        "evil": (
            f"| x |\n\n# כותרת &lt;script>alert(1)</script> \u202eהפוך `קוד` [קישור](x)\x1b[31m "
            f"*אדום* {HEBREW[7][:200]}"
        ),
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, planted: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write(folder / "he" / "passages.jsonl", HEBREW[:42])
    write(folder / "he" / "articles.jsonl.gz", [*HEBREW[42:], *planted.values()])
    write(folder / "en" / "made.jsonl", english(400))
    return folder


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "corpus"
    run(config(corpus, mix={"he": 0.5, "en": 0.5}), out=out)
    return out


def test_each_rule_takes_the_document_that_was_planted_for_it(
    made: Path, planted: dict[str, str]
) -> None:
    rules = json.loads((made / "report.json").read_text("utf-8"))["rules"]["he/articles"]
    removed = {rule: count["documents"] for rule, count in rules.items() if count["words"]}
    assert removed["script"] == 1
    assert removed["frequent words"] == 1
    assert removed["benchmark"] == 1
    assert rules["empty"]["documents"] == 1
    assert rules["markup"]["documents"] == 3
    assert rules["phone"]["changes"] == 1
    duplicates = json.loads((made / "report.json").read_text("utf-8"))["rules"]
    assert sum(each.get("duplicate", {}).get("documents", 0) for each in duplicates.values()) == 2
    training = texts_of(made / "train" / "he")
    for name in ("benchmark", "English", "gibberish"):
        assert planted[name] not in training
    assert sum("<phone>" in text for text in training) <= 1


def test_held_out_text_is_not_in_training(made: Path) -> None:
    training = "\n".join(texts_of(made / "train"))
    held = texts_of(made / "heldout")
    assert held
    assert not any(text in training for text in held)
    words = dict.fromkeys(("passages", "articles", "made"), 0)
    for document in read_documents(made / "heldout"):
        words[document.source] += len(document.text.split())
    assert 200 <= words["passages"] <= 300
    assert 200 <= words["articles"] <= 300
    assert 120 <= words["made"] <= 200


def test_the_mixture_is_half_hebrew_by_words_and_the_metrics_say_so(made: Path) -> None:
    metrics = json.loads((made / "stage.json").read_text("utf-8"))["metrics"]
    for code in ("he", "en"):
        words = sum(len(text.split()) for text in texts_of(made / "train" / code))
        assert metrics[f"{code}_train_words"] == words
    share = metrics["he_train_words"] / (metrics["he_train_words"] + metrics["en_train_words"])
    assert share == pytest.approx(0.5, abs=0.01)


def test_the_folder_holds_what_the_other_stages_read_and_nothing_else(made: Path) -> None:
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    files = {name for name in files if not name.startswith("logs/")}
    assert files == {
        ".lock",
        "stage.json",
        "report.json",
        "report.md",
        "train/he/passages.jsonl.gz",
        "train/he/articles.jsonl.gz",
        "train/en/made.jsonl.gz",
        "heldout/he/passages.jsonl",
        "heldout/he/articles.jsonl",
        "heldout/en/made.jsonl",
    }
    with gzip.open(made / "train" / "he" / "passages.jsonl.gz", "rt", encoding="utf-8") as stream:
        record = json.loads(stream.readline())
    assert record.keys() == {"id", "source", "language", "text"}
    assert (record["source"], record["language"]) == ("passages", "he")
    assert record["id"].startswith("passages.jsonl:")


def test_a_finished_stage_returns_its_record_at_once(
    corpus: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "execute", None)  # nothing may run
    record = run(config(corpus, mix={"he": 0.5, "en": 0.5}), out=made)
    assert record.metrics["he_read_documents"] == len(HEBREW) + 8
    with pytest.raises(ConfigError, match=r"config\.seed was 0, is 1"):
        run(config(corpus, mix={"he": 0.5, "en": 0.5}, seed=1), out=made)


@pytest.mark.slow
def test_the_number_of_tasks_and_workers_changes_nothing_but_names(
    corpus: Path, made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "corpus"
    run(config(corpus, mix={"he": 0.5, "en": 0.5}, tasks=3, workers=2), out=out)
    assert sorted(texts_of(out / "heldout")) == sorted(texts_of(made / "heldout"))
    assert sorted(texts_of(out / "train")) == sorted(texts_of(made / "train"))
    assert capfd.readouterr() == ("", "")  # datatrove's words are in the run folder
    assert "clean" in [path.name for path in (out / "logs").iterdir()]


def test_a_run_that_was_cut_off_goes_on_and_ends_the_same(
    corpus: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, done = executors.execute, []

    def cut_off(given: CorpusConfig, name: str, *rest: Any) -> None:
        if name == "kept":
            raise KeyboardInterrupt
        done.append(name)
        execute(given, name, *rest)

    monkeypatch.setattr(executors, "execute", cut_off)
    out = tmp_path / "corpus"
    with pytest.raises(KeyboardInterrupt):
        run(config(corpus, mix={"he": 0.5, "en": 0.5}), out=out)
    assert done == ["words", "clean", "pairs", "clusters"]
    completion = out / "logs" / "clean" / "completions" / "00000"
    completed = completion.stat().st_mtime_ns
    monkeypatch.setattr(executors, "execute", execute)
    again = run(config(corpus, mix={"he": 0.5, "en": 0.5}), out=out)
    assert again.finished
    assert completion.stat().st_mtime_ns == completed  # it was not cleaned again
    for path in sorted(made.rglob("*.jsonl*")):
        if "logs" not in path.parts:
            assert (out / path.relative_to(made)).read_bytes() == path.read_bytes()
    assert (out / "report.json").read_bytes() == (made / "report.json").read_bytes()


def test_the_formats_of_input_give_the_same_text(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    for kind in ("jsonl", "jsonl.gz", "parquet", "dataset"):
        folder = tmp_path / kind
        folder.mkdir()
        if kind.startswith("jsonl"):
            write(folder / f"docs.{kind}", HEBREW)
        else:
            pyarrow.parquet.write_table(pyarrow.table({"text": HEBREW}), folder / "docs.parquet")
        given = {"path": str(folder)}
        if kind == "dataset":
            given = {"dataset": str(folder), "revision": "local"}
        content = {"docs": {"language": "he", **given}}
        parts = input_parts(asked := config(tmp_path, inputs=content))
        found = []
        for rank in range(2):
            tally = Tally()
            documents = list(ReadInputs(asked.inputs, parts, tally).run(None, rank, 2))
            found += [document.text for document in documents]
            assert {document.metadata["source"] for document in documents} <= {"docs"}
        assert sorted(found) == sorted(HEBREW)


def test_a_dataset_without_the_field_or_the_split_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "data" / "docs.jsonl", HEBREW[:2])
    given = {"language": "he", "dataset": str(tmp_path / "data"), "revision": "local"}
    for changes, message in (
        ({"text_field": "body"}, "expected text in 'body', found only 'text'"),
        ({"split": "test"}, "expected revision local, split test, found"),
    ):
        asked = config(tmp_path, inputs={"docs": {**given, **changes}})
        with pytest.raises(DataError, match=message):
            list(ReadInputs(asked.inputs, input_parts(asked), Tally()).run())


def test_another_language_needs_another_configuration_and_no_other_code(tmp_path: Path) -> None:
    words = ["και", "το", "να", "της", "που", "με", "για", "στο", "είναι", "από", "τη", "θα"]
    chosen = random.Random(3)
    greek = [" ".join(chosen.choices(words, k=50)) for _ in range(30)]
    write(tmp_path / "el" / "made.jsonl", [*greek, HEBREW[0], f"{greek[0]} {HEBREW[1]}"])
    content = {"greek": {"language": "el", "path": str(tmp_path / "el"), "heldout_words": 100}}
    record = run(config(tmp_path, language="el", inputs=content, tasks=1), out=tmp_path / "out")
    assert record.metrics["el_clean_documents"] == 30
    assert record.metrics["el_train_words"] > 1000


def test_a_reference_says_which_words_are_frequent(tmp_path: Path) -> None:
    write(tmp_path / "he" / "docs.jsonl", HEBREW[:12])
    good, bad = tmp_path / "good", tmp_path / "bad.tsv"
    write(good / "docs.jsonl", HEBREW[:12])
    record = run(config(tmp_path, reference=str(good), tasks=1), out=tmp_path / "with-good")
    assert record.metrics["he_clean_documents"] == 12
    bad.write_text("מילה\t7\n", "utf-8")
    with pytest.raises(DataError, match="rule 'frequent words' removed 12"):
        run(config(tmp_path, reference=str(bad), tasks=1), out=tmp_path / "with-bad")
    with pytest.raises(DataError, match=r"absent\.tsv: expected a word list"):
        run(config(tmp_path, reference=str(tmp_path / "absent.tsv")), out=tmp_path / "out")


def test_thresholds_and_limits_are_those_of_the_source(tmp_path: Path) -> None:
    song = "\n".join(["לה לה לה"] * 3)
    for name in ("songs", "rest"):
        write(tmp_path / "he" / f"{name}.jsonl", [*HEBREW[:40], f"{HEBREW[41]}\n{song}"])
    shutil.copy(tmp_path / "he" / "songs.jsonl", tmp_path / "he" / "other.jsonl")
    given = {
        "language": "he",
        "path": str(tmp_path / "he"),
        "heldout_words": 0,
        "rules_by_source": {"songs": {"max_repeats": 3}},
        "max_words": 900,
    }
    run(config(tmp_path, inputs={"hebrew": given}, tasks=1), out=tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert "repeats" not in report["rules"]["he/songs"]
    assert report["rules"]["he/rest"]["repeats"]["changes"] == 1
    assert all(each.get("train_words", 0) <= 1200 for each in report["sources"].values())
    assert not (tmp_path / "out" / "heldout").exists()


def test_the_report_shows_a_strangers_text_harmlessly(made: Path) -> None:
    report = (made / "report.md").read_text("utf-8")
    assert "U+202E" in report
    assert "script" in report
    for harmful in ("<script", "\u202e", "\x1b", "`קוד`", "*אדום*", "](x)"):
        assert harmful not in report
    rows = [line for line in report.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5, 8}


# ------------------------------------------------------------------------------- bad input
def folder_of(texts: list[str]) -> Callable[[Path], None]:
    return lambda folder: write(folder / "he" / "docs.jsonl", texts) and None


def damaged(folder: Path) -> None:
    path = write(folder / "he" / "docs.jsonl.gz", HEBREW)
    path.write_bytes(path.read_bytes()[:-200])


def broken_line(folder: Path) -> None:
    path = write(folder / "he" / "docs.jsonl", HEBREW[:3])
    path.write_text(path.read_text("utf-8") + '{"text": \n', "utf-8")


def other_field(folder: Path) -> None:
    path = folder / "he" / "docs.jsonl"
    path.parent.mkdir()
    path.write_text('{"body": "שלום"}\n', "utf-8")


BAD = [
    (lambda folder: None, r"he: expected a file or a folder"),
    (lambda folder: (folder / "he").mkdir(), r"found no such file"),
    (folder_of([]), r"expected text of language 'he'"),
    (folder_of(["  ", "\n"]), r"expected text of language 'he'"),
    (folder_of(english(20)), r"expected text of language 'he', found not one word"),
    (
        folder_of([f"{text} אבג" for text in english(20)]),
        r"found none of 20 documents: rule 'script' removed 20",
    ),
    (damaged, r"docs\.jsonl\.gz line \d+ on: expected a readable file"),
    (broken_line, r"docs\.jsonl line 4: expected a JSON object"),
    (other_field, r"expected an object with text in field 'text', found only 'body'"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_a_corpus_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=message) as error:
        run(config(tmp_path, tasks=1), out=tmp_path / "out")
    assert "\n" not in str(error.value)


PATH = {"language": "he", "path": "x"}
BAD_CONFIGURATIONS = [
    ({"seeds": 1}, "unknown key 'seeds'; did you mean 'seed'"),
    ({"language": "xx"}, "language 'xx' is not described"),
    ({"inputs": {}}, "expected one in the target language 'he'"),
    ({"inputs": {"a": {"language": "he"}}}, "expected one of path and dataset"),
    ({"inputs": {"a": {**PATH, "dataset": "b"}}}, "expected one of path and dataset"),
    ({"inputs": {"a": {"language": "he", "dataset": "b"}}}, "expected a revision"),
    ({"inputs": {"a": {**PATH, "revision": "1a2b"}}}, "path x: expected no revision, subset or"),
    ({"inputs": {"a": {**PATH, "subset": "he"}}}, "path x: expected no revision, subset or split"),
    ({"inputs": {"a": {**PATH, "split": "test"}}}, "path x: expected no revision, subset or split"),
    ({"inputs": {"a": {**PATH, "source": "../b"}}}, "expected letters"),
    ({"inputs": {"a/b": PATH}}, "expected letters"),
    ({"inputs": {"reference": PATH}}, "reference names something else"),
    ({"inputs": {"a": {**PATH, "rules": {"min_script_share": 7}}}}, "expected a share in"),
    ({"mix": {"he": 0.5, "en": 0.5}}, "mix: expected shares of"),
    ({"mix": {"he": 0.9}}, "add up to 1"),
    ({"mix": {"he": float("nan")}}, "add up to 1"),
    ({"seed": -5}, "seed: expected 0 to"),
    ({"seed": 2**32 - 1}, "seed: expected 0 to"),
    ({"tasks": 0}, "tasks: expected a number from 1"),
    ({"executor": "slurm"}, "slurm_partition"),
    ({"executor": "cluster"}, "expected one of"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_CONFIGURATIONS)
def test_a_configuration_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, **changes)


def test_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    write(tmp_path / "he" / "passages.jsonl", HEBREW[:40])
    for name in ("law.jsonl.zst", os.fsdecode(b"\xf9\xec.doc")):
        (tmp_path / "he" / name).write_bytes(b"x")
    given = config(tmp_path, tasks=1)
    plan = plan_stage("corpus", given, inputs={}, out=tmp_path / "out")
    assert plan["inputs"]["hebrew"].endswith("; not read: law.jsonl.zst, ??.doc")
    run(given, out=tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert report["files_not_read"] == {"hebrew": ["law.jsonl.zst", "??.doc"]}
    assert "law.jsonl.zst" in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_a_source_is_any_file_and_there_may_be_more_than_can_be_open(tmp_path: Path) -> None:
    for number, text in enumerate(HEBREW[:30]):
        write(tmp_path / "he" / f"book{number}.jsonl", [text])
    write(tmp_path / "he" / os.fsdecode(b"\xf9\xec.jsonl"), HEBREW[30:32])
    given = config(tmp_path, tasks=1)
    given.inputs["hebrew"] = replace(given.inputs["hebrew"], heldout_words=0)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (len([*Path("/proc/self/fd").iterdir()]) + 20, before[1])
    )
    try:
        run(given, out=tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(list((tmp_path / "out" / "train" / "he").iterdir())) >= 25


def test_a_corpus_of_one_document_needs_no_word_of_another(tmp_path: Path) -> None:
    write(tmp_path / "he" / "one.jsonl", HEBREW[:1])
    given = config(tmp_path, tasks=1)
    rules = replace(given.inputs["hebrew"].rules, min_frequent_share=0.0)
    given.inputs["hebrew"] = replace(given.inputs["hebrew"], rules=rules, heldout_words=0)
    run(given, out=tmp_path / "out")
    assert len(texts_of(tmp_path / "out" / "train" / "he")) == 1


def test_a_text_of_two_sources_is_held_out_of_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "he" / f"{name}.jsonl", HEBREW[:30])
    run(config(tmp_path, tasks=1), out=tmp_path / "out")
    texts = texts_of(tmp_path / "out" / "heldout" / "he")
    assert len(texts) == len(set(texts)) > 0


def test_rules_for_a_source_that_is_not_there_are_refused(corpus: Path, tmp_path: Path) -> None:
    given = {"language": "he", "path": str(corpus / "he"), "rules_by_source": {"song": {}}}
    with pytest.raises(ConfigError, match="no source 'song'; known are articles, passages"):
        run(config(corpus, inputs={"a": given}), out=tmp_path / "out")
    given.pop("rules_by_source")
    with pytest.raises(ConfigError, match="inputs a and b both have a source 'articles'"):
        run(config(corpus, inputs={"a": given, "b": given}), out=tmp_path / "out")


def test_a_set_that_comes_into_the_cache_makes_no_other_corpus_of_what_was_begun(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(config(corpus), out=tmp_path / "done")
    with monkeypatch.context() as patch:
        patch.setattr(stage._Run, "_mix", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(config(corpus), out=tmp_path / "begun")
    given = stage.evaluation_items

    def more(names: tuple[str, ...]) -> Any:
        items, _ = given(names)
        return [*items, Item("new", "new-1", HEBREW[0])], ["new/test"]

    monkeypatch.setattr(stage, "evaluation_items", more)
    assert run(config(corpus), out=tmp_path / "done") == first
    went_on = run(config(corpus), out=tmp_path / "begun")
    assert went_on.inputs == first.inputs and went_on.metrics == first.metrics
    assert run(config(corpus), out=tmp_path / "new").inputs != first.inputs


def test_a_full_disk_is_one_clear_line(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(executors, "_run", full)
    with pytest.raises(HebenchError, match="phase 'words' stopped: .*No space left"):
        run(config(corpus), out=tmp_path / "out")
