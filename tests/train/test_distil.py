import functools
import json
import math
import random
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hebench.config import build
from hebench.errors import CheckpointError, ConfigError, DataError
from hebench.train import device, distil
from hebench.train.checkpoints import read_checkpoint
from hebench.train.distil import DistilConfig
from hebench.train.embeddings import initial_rows, new_pieces
from hebench.train.frozen import open_model, open_tokenizer
from hebench.train.student import TeacherStates, aligned
from tests.train.grown_tokenizers import extend

WORDS = ["הילדה", "קוראת", "ספר", "בגן", "ליד", "הבית", "הגדול", "בבוקר", "הכלב", "ישן"]
QUICK = {"language": "he", "passages": 60, "passage_words": 6, "heldout_words": 60, "threads": 1}


@pytest.fixture(scope="module")
def given_folders(tiny_tokenizer, tiny_model_folder, tmp_path_factory):
    """A tied model, a tokenizer with new pieces for it, and a corpus: what the stage is given."""
    folder = tmp_path_factory.mktemp("distil")
    longer, _ = extend(tiny_tokenizer, [f" {word}" for word in WORDS])
    longer.save_pretrained(folder / "tokenizer")
    generator = random.Random(0)
    for part, documents in (("train", 40), ("heldout", 6)):
        path = folder / "corpus" / part / "he" / "news.jsonl"
        path.parent.mkdir(parents=True)
        texts = [" " + " ".join(generator.choices(WORDS, k=10)) + "." for _ in range(documents)]
        lines = [json.dumps({"text": text}) for text in texts]
        path.write_text("\n".join(lines), encoding="utf-8")
    return {
        "model": tiny_model_folder(folder / "base", tied=True),
        "tokenizer": folder / "tokenizer",
        "corpus": folder / "corpus",
    }


@pytest.fixture
def saving_each_step(monkeypatch):
    monkeypatch.setattr(distil, "Limits", functools.partial(distil.Limits, save_seconds=0))


def config(**changes):
    return DistilConfig(**QUICK | {"steps": 20} | changes)


def rows_of(folder: Path):
    model = open_model(folder, "fp32")
    return model.get_input_embeddings().weight, model.get_output_embeddings().weight


@settings(max_examples=60)
@given(st.lists(st.sampled_from([*WORDS, "ferry", "2026,", "״די!״", "\n", "é"]), min_size=1))
def test_teacher_and_student_have_read_the_same_text_at_every_place(given_folders, words):
    old, new = open_tokenizer(given_folders["model"]), open_tokenizer(given_folders["tokenizer"])
    text = " ".join(words)
    for mode in ("piece", "word", "sentence"):
        found = aligned(text, old, new, mode)
        for a, b in zip(found.old_places, found.new_places, strict=True):
            assert old.decode(found.old[1 : a + 1]) == new.decode(found.new[1 : b + 1])
    assert len(aligned(text, old, new, "word").new_places) == len(text.split())


def test_words_have_a_place_each_a_sentence_one_and_pieces_most(given_folders):
    old, new = open_tokenizer(given_folders["model"]), open_tokenizer(given_folders["tokenizer"])
    text = " הילדה קוראת אולי ספר."
    modes = ("sentence", "word", "piece")
    places = {mode: aligned(text, old, new, mode).new_places for mode in modes}
    assert len(places["sentence"]) == 1
    assert len(places["word"]) == 4
    assert places["sentence"] == places["word"][-1:]
    assert set(places["word"]) < set(places["piece"])
    assert places["piece"][-1] == len(aligned(text, old, new, "piece").new) - 1


def test_new_rows_come_near_the_teacher_and_old_rows_keep_their_bits(given_folders, tmp_path):
    record = distil.run(config(steps=150), **given_folders, out=tmp_path / "out")
    old = rows_of(given_folders["model"])
    new = rows_of(tmp_path / "out" / "model")
    count = len(old[0])
    assert torch.equal(new[0][:count], old[0])
    assert torch.equal(new[1][:count], old[1])
    assert len(new[0]) == len(new[1]) > count
    assert not torch.equal(new[0][count:], new[1][count:])
    assert record.metrics["relative_error"] < 0.7 * record.metrics["relative_error_initial"]
    assert record.metrics["cosine"] > record.metrics["cosine_initial"]
    assert record.metrics["bits_per_byte"] != record.metrics["bits_per_byte_mean_rows"]
    assert record.metrics["tokens_per_word"] < 3
    assert read_checkpoint(tmp_path / "out" / "model").stage == "distil"
    tokenizer = open_tokenizer(tmp_path / "out" / "model")
    assert len(tokenizer(" הילדה קוראת").input_ids) == 2
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {".lock", "stage.json", "model"}


def test_the_optimiser_holds_the_new_rows_and_nothing_else(given_folders, tmp_path, monkeypatch):
    kept = {}
    monkeypatch.setattr(distil.Descent, "forget", lambda self: kept.update(vars(self)))
    distil.run(config(steps=2), **given_folders, out=tmp_path / "out")
    rows = [len(open_tokenizer(given_folders[name])) for name in ("model", "tokenizer")]
    state = torch.load(tmp_path / "out" / "progress.pt")
    ((group,),) = (each.param_groups for each in kept["optimisers"])
    assert [tuple(part.shape) for part in group["params"]] == [(rows[1] - rows[0], 64)]
    assert group["params"][0] is kept["tables"]["rows"]
    ((moments,),) = (each["state"].values() for each in state["optimisers"])
    shapes = {tuple(value.shape) for value in moments.values() if value.dim()}
    assert shapes == {(rows[1] - rows[0], 64)}


def test_a_run_that_was_cut_off_ends_as_the_unbroken_one(
    given_folders, tmp_path, monkeypatch, saving_each_step
):
    monkeypatch.setattr(device, "_multiplies_faster_in_bf16", lambda: True)
    settings = config(precision="auto")
    whole = distil.run(settings, **given_folders, out=tmp_path / "whole")
    learn = distil.Descent.learn

    def cut(self, *batch):
        if self.step == 11:
            raise KeyboardInterrupt
        learn(self, *batch)

    monkeypatch.setattr(distil.Descent, "learn", cut)
    with pytest.raises(KeyboardInterrupt):
        distil.run(settings, **given_folders, out=tmp_path / "cut")
    monkeypatch.setattr(distil.Descent, "learn", learn)
    # In the precision that it was begun in, whatever a trial says now.
    monkeypatch.setattr(device, "_multiplies_faster_in_bf16", lambda: False)
    again = distil.run(settings, **given_folders, out=tmp_path / "cut")
    for a, b in zip(
        rows_of(tmp_path / "whole" / "model"), rows_of(tmp_path / "cut" / "model"), strict=True
    ):
        assert torch.equal(a, b)
    assert again.metrics["relative_error"] == whole.metrics["relative_error"]
    assert again.metrics["precision"] == "bf16"


def test_a_finished_run_returns_at_once(given_folders, tmp_path, monkeypatch):
    record = distil.run(config(steps=2), **given_folders, out=tmp_path / "out")
    monkeypatch.delattr(distil, "open_model")
    assert distil.run(config(steps=2), **given_folders, out=tmp_path / "out") == record


def test_teacher_states_are_computed_once_and_found_again_on_disk(given_folders, tmp_path):
    old, new = open_tokenizer(given_folders["model"]), open_tokenizer(given_folders["tokenizer"])
    texts = [aligned(text, old, new, "word") for text in (" הילדה קוראת ספר", " הבית", " הכלב ישן")]

    class Teacher:
        calls = 0
        model = torch.zeros(1)
        reading = type("Reading", (), {"new": torch.zeros(1, 4)})

        def teacher_states(self, some):
            self.calls += 1
            return torch.cat([torch.full((len(t.old_places), 4), float(len(t.old))) for t in some])

    teacher = Teacher()
    states = TeacherStates(tmp_path / "teacher", texts, teacher)
    assert states.of([2, 0])[:, 0].tolist() == [float(len(texts[i].old)) for i in (2, 2, 0, 0, 0)]
    again = TeacherStates(tmp_path / "teacher", texts, teacher)
    assert torch.equal(again.of([0, 2]), states.of([0, 2]))
    assert teacher.calls == 1
    again.of([1])
    assert teacher.calls == 2


def test_known_states_of_the_teacher_are_given_with_the_new_token_after_each(
    given_folders, tmp_path
):
    old, new = open_tokenizer(given_folders["model"]), open_tokenizer(given_folders["tokenizer"])
    first, unknown, last = (
        aligned(text, old, new, "piece") for text in (" הילדה אולי", " הבית", " הכלב ישן בגן")
    )

    class Teacher:
        model = torch.zeros(1)
        reading = type("Reading", (), {"new": torch.zeros(1, 4)})

        def teacher_states(self, some):
            places = [float(place) for text in some for place in text.new_places]
            return torch.tensor(places)[:, None].expand(-1, 4)

    states = TeacherStates(tmp_path / "teacher", [first, unknown, last], Teacher())
    assert states.followed(100).states.shape == (0, 4)
    states.of([2, 0])
    found = states.followed(100)
    rows = [first.new, last.new]
    expected = [
        (place, row[place + 1])
        for row, text in zip(rows, (first, last), strict=True)
        for place in text.new_places[:-1]
    ]
    assert [(int(a), int(b)) for a, b in zip(found.states[:, 0], found.following, strict=True)] == (
        expected
    )
    assert len(states.followed(1).following) == len(first.new_places) - 1
    assert states.followed(0).states.shape == (0, 4)


def test_text_in_other_languages_is_heard_for_the_head_and_known_to_the_record(
    given_folders, tmp_path
):
    corpus = tmp_path / "corpus"
    shutil.copytree(given_folders["corpus"], corpus)
    (corpus / "train" / "en").mkdir()
    lines = [json.dumps({"text": " the ferry left the island at noon"})] * 9
    (corpus / "train" / "en" / "news.jsonl").write_text("\n".join(lines), encoding="utf-8")
    tables = []
    for name, folders in (("he", given_folders), ("both", given_folders | {"corpus": corpus})):
        record = distil.run(config(steps=2), **folders, out=tmp_path / name)
        assert ("train/en" in record.inputs) == (name == "both")
        tables.append(rows_of(tmp_path / name / "model"))
    assert torch.equal(tables[0][0], tables[1][0])
    assert not torch.equal(tables[0][1], tables[1][1])


@pytest.mark.parametrize(("mode", "initial"), [("word", "mean"), ("sentence", "random")])
def test_the_other_modes_learn_as_well(given_folders, tmp_path, mode, initial):
    asked = config(mode=mode, initial=initial, shallow_share=0.0, steps=60)
    record = distil.run(asked, **given_folders, out=tmp_path / "out")
    assert record.metrics["relative_error"] < record.metrics["relative_error_initial"]


def test_the_head_s_new_rows_are_worked_out_or_mean_and_the_rest_is_the_same(
    given_folders, tmp_path
):
    records, tables = [], []
    for writing in ("mean", "teacher"):
        out = tmp_path / writing
        records.append(distil.run(config(writing=writing), **given_folders, out=out))
        tables.append(rows_of(out / "model"))
    (reading, head), (same_reading, other_head) = tables
    count = len(rows_of(given_folders["model"])[0])
    assert torch.equal(reading, same_reading)
    assert torch.equal(head[:count], other_head[:count])
    old, new = open_tokenizer(given_folders["model"]), open_tokenizer(given_folders["tokenizer"])
    assert torch.equal(head[count:], initial_rows(head[:count], new_pieces(old, new, count)))
    bits = [record.metrics["bits_per_byte"] for record in records]
    assert bits[1] < bits[0] - 0.03


def test_a_head_that_is_no_plain_one_is_not_worked_out_but_may_get_mean_rows(
    given_folders, tiny_tokenizer, tmp_path
):
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = json.loads((given_folders["model"] / "config.json").read_text())
    (folder := tmp_path / "model").mkdir()
    kept = {name: settings[name] for name in settings if "type" not in name and "arch" not in name}
    granite = AutoConfig.for_model("granite", **kept, logits_scaling=8.0)
    AutoModelForCausalLM.from_config(granite).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    folders = given_folders | {"model": folder}
    with pytest.raises(CheckpointError, match="distil with writing: teacher cannot train its head"):
        distil.run(config(), **folders, out=tmp_path / "teacher")
    distil.run(config(steps=1, writing="mean"), **folders, out=tmp_path / "mean")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_plain_head_is_known_for_one_in_either_precision(given_folders, precision):
    tokenizers = [open_tokenizer(given_folders[name]) for name in ("model", "tokenizer")]
    distil.open_student(config(precision=precision), given_folders["model"], tokenizers)


def test_a_tokenizer_that_is_no_extension_is_refused(given_folders, tmp_path):
    same = given_folders | {"tokenizer": given_folders["model"]}
    with pytest.raises(DataError, match="found no new piece"):
        distil.run(config(), **same, out=tmp_path / "out")


def test_a_loss_that_is_no_number_names_the_passages(given_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(
        distil.Student, "states", lambda student, some: student.reading.new[:1] * math.nan
    )
    monkeypatch.setattr(distil.Student, "nearness", lambda self, texts: None)
    with pytest.raises(DataError, match=r"step 0, passages \[\d+, \d+\]: expected a finite loss"):
        distil.run(config(shallow_share=0.0), **given_folders, out=tmp_path / "out")


def test_a_body_without_a_list_of_layers_cannot_be_matched_early():
    from transformers import GPT2Config, GPT2LMHeadModel

    from hebench.train.frozen import first_layers

    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9))
    with pytest.raises(CheckpointError, match="set shallow_share to 0"), first_layers(model, 1):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "neither steps nor seconds"),
        ({"passages": 0}, "passages: expected at least 1, found 0"),
        ({"shallow_share": 1.0}, "shallow_share: expected from 0 to 1"),
        ({"language": "xx"}, "language 'xx' is not described"),
        ({"mode": "letter"}, "mode: expected one of"),
        ({"writing": "random"}, "writing: expected one of"),
        ({"threads": 0}, "threads: expected at least 1"),
        ({"lerning_rate": 1e-3}, "did you mean 'learning_rate'"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(DistilConfig, QUICK | {"steps": 3} | changes, "recipe.yaml: distil")
