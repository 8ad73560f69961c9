"""DPO: the loss, its reference, the packing of pairs, and a run from data to model."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from hebench.config import build
from hebench.errors import ConfigError, DataError
from hebench.train import dpo
from hebench.train.chat_data import encode
from hebench.train.device import Backend, collate
from hebench.train.dpo import DpoConfig, preference_objective
from hebench.train.packing import Piece
from hebench.train.pairs import PairRows, answer_logs, read_references, write_references
from hebench.train.preferences import read_preferences
from hebench.train.stage import read_stage
from tests.conftest import DEVICE

TRAINING = {
    "backend": DEVICE,
    "row_tokens": 320,
    "micro_rows": 2,
    "global_rows": 4,
    "steps": 4,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "save_every": 2,
    "threads": 1,
    "export_dtype": "fp32",
}
CPU = Backend(name="cpu", attention="sdpa", convention="bool")
ROWS = [
    {
        "prompt": f"Where is the captain on day {day}?",
        "chosen": "At the pier, with the ferry.",
        "rejected": f"Nobody knew that in winter {'and winter ' * (day % 3)}.",
    }
    for day in range(16)
]


class Cut(TrainerCallback):  # type: ignore[misc]
    """Ends the process's work after a step, as a kill would."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt


def config(**changes: Any) -> DpoConfig:
    content: dict[str, Any] = {
        "beta": 0.1,
        "training": TRAINING | changes.pop("training", {}),
        **changes,
    }
    return build(DpoConfig, content, "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Callable[..., Path]) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model") / "tiny", tied=False)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model: Path, data: Path) -> Path:
    out = tmp_path_factory.mktemp("run") / "dpo"
    dpo.run(config(), model=model, data=data, out=out)
    return out


@pytest.fixture(scope="module")
def rows(data: Path, tiny_tokenizer: Any) -> PairRows:
    return packed(data, tiny_tokenizer, 320)


def packed(data: Path, tokenizer: Any, row_tokens: int) -> PairRows:
    pairs = []
    for item in read_preferences(data):
        chosen, rejected = (encode(tokenizer, talk, last_only=True) for talk in item.talks)
        pairs.append((chosen, rejected))
    return PairRows(pairs, row_tokens=row_tokens, padding_id=0)


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]


def alone(network: Any, piece: Piece) -> float:
    """The log-probability of an answer by itself, by the definition."""
    with torch.no_grad():
        logits = network(torch.tensor(piece.tokens)[None], use_cache=False).logits[0]
    logs = logits[:-1].log_softmax(-1)
    targets = torch.tensor(piece.tokens[1:])
    each = logs[torch.arange(len(targets)), targets]
    return float(each[torch.tensor(piece.trained[1:])].sum())


def test_packed_answers_get_the_log_probabilities_that_they_get_alone(
    rows: PairRows, model: Path, tmp_path: Path
) -> None:
    network = AutoModelForCausalLM.from_pretrained(model)
    training = config().training
    write_references(tmp_path, rows, network, CPU, training)
    found = read_references(tmp_path, rows)
    expected = [[alone(network, piece) for piece in pair] for pair in rows.pairs]
    assert np.allclose(found, expected, atol=1e-4)
    assert max(len(row) for row in rows.rows) > 1, "the test needs a row with several pairs"


def test_references_are_computed_once_and_again_where_a_file_is_missing(
    rows: PairRows, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hebench.train.pairs._ROWS_OF_A_FILE", 2)
    network = AutoModelForCausalLM.from_pretrained(model)
    training = config().training
    write_references(tmp_path, rows, network, CPU, training)
    files = sorted(tmp_path.iterdir())
    assert len(files) == math.ceil(len(rows) / 2) > 1
    before, expected = files[0].stat().st_mtime_ns, read_references(tmp_path, rows)
    files[1].unlink()
    write_references(tmp_path, rows, network, CPU, training)
    assert files[0].stat().st_mtime_ns == before
    assert np.array_equal(read_references(tmp_path, rows), expected)


def test_processes_share_the_references_whatever_the_others_have_done(
    rows: PairRows, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hebench.train.pairs._ROWS_OF_A_FILE", 1)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    network = AutoModelForCausalLM.from_pretrained(model)
    for process in (0, 1):  # the second finds what the first has written
        monkeypatch.setattr("torch.distributed.get_rank", lambda process=process: process)
        write_references(tmp_path, rows, network, CPU, config().training)
        written = len(list(tmp_path.iterdir()))
        assert written == (len(rows) if process else math.ceil(len(rows) / 2))


def test_both_answers_of_a_pair_are_in_one_row_with_their_reference(rows: PairRows) -> None:
    reference = np.arange(2 * len(rows.pairs), dtype=np.float32).reshape(-1, 2)
    rows.reference = reference
    seen = []
    for index in range(len(rows)):
        row = rows[index]
        present = ~np.isnan(row["reference"][:, 0])
        assert present.sum() * 2 == row["document_ids"].max() + 1
        for place, number in enumerate(rows.rows[index]):
            assert np.array_equal(row["reference"][place], reference[number])
            for side in (0, 1):
                inside = row["document_ids"] == 2 * place + side
                assert np.array_equal(row["input_ids"][inside], rows.pairs[number][side].tokens)
            seen.append(number)
    assert sorted(seen) == list(range(len(rows.pairs)))
    rows.reference = np.zeros_like(reference)


def test_documents_that_are_not_there_and_padding_count_nothing() -> None:
    logits = torch.randn(1, 5, 7)
    batch = {
        "labels": torch.tensor([[-100, 3, -100, 2, -100]]),
        "document_ids": torch.tensor([[0, 0, 1, 1, -1]]),
    }
    logs = answer_logs(logits, batch, 4)
    expected = logits.log_softmax(-1)
    assert logs[0].tolist() == pytest.approx(
        [expected[0, 0, 3].item(), expected[0, 2, 2].item(), 0, 0]
    )


def test_the_loss_is_that_of_the_definition(rows: PairRows, model: Path) -> None:
    """Rafailov et al. 2023, equation 7, on two models and answers scored alone."""
    network = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(1)
    rows.reference = np.array(
        [[alone(network, piece) for piece in pair] for pair in rows.pairs], dtype=np.float32
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    beta, losses, margins = 0.3, [], []
    for pair, reference in zip(rows.pairs, rows.reference, strict=True):
        chosen, rejected = (
            beta * (alone(network, piece) - before)
            for piece, before in zip(pair, reference.tolist(), strict=True)
        )
        margins.append(chosen - rejected)
        losses.append(math.log1p(math.exp(-(chosen - rejected))))
    objective = preference_objective(beta)
    batch = collate([rows[index] for index in range(len(rows))])
    total, logged = objective.total(network, batch, CPU)
    assert objective.count(batch) == len(rows.pairs)
    assert total.item() == pytest.approx(sum(losses), rel=1e-4)
    assert logged["margin"].item() == pytest.approx(sum(margins), rel=1e-3)
    assert logged["accuracy"].item() == sum(margin > 0 for margin in margins)
    rows.reference = np.zeros_like(rows.reference)


def test_training_begins_at_the_reference_and_learns_the_preference(done: Path) -> None:
    lines = log(done)
    assert lines[0]["loss_nats"] == pytest.approx(math.log(2), abs=1e-5)
    assert lines[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["loss_nats"] < 0.5 and lines[-1]["accuracy"] == 1
    assert lines[-1]["margin"] == pytest.approx(
        lines[-1]["chosen_reward"] - lines[-1]["rejected_reward"], abs=1e-5
    )
    record = read_stage(done)
    assert record and record.metrics["pairs"] == 16 and record.metrics["language_pairs"] == 0
    assert record.metrics["first_loss_nats"] == lines[0]["loss_nats"]
    assert record.metrics["last_accuracy"] == 1


def test_the_exported_model_prefers_what_it_was_taught(
    done: Path, model: Path, rows: PairRows
) -> None:
    before, after = (
        AutoModelForCausalLM.from_pretrained(folder) for folder in (model, done / "model")
    )
    assert AutoTokenizer.from_pretrained(done / "model").chat_template
    for chosen, rejected in rows.pairs[:4]:
        gain = alone(after, chosen) - alone(before, chosen)
        assert gain > alone(after, rejected) - alone(before, rejected)


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8, "dropout": 0.0}])
def test_a_run_cut_off_goes_on_to_the_same_numbers(
    lora: Any, done: Path, model: Path, data: Path, tmp_path: Path
) -> None:
    cut, wanted = tmp_path / "cut", config(lora=lora)
    with pytest.raises(KeyboardInterrupt):
        dpo.run(wanted, model=model, data=data, out=cut, callbacks=[Cut()])
    (cut / "reference" / ".rows-00000000.npy.abc.tmp").write_text("half")
    dpo.run(wanted, model=model, data=data, out=cut)
    assert [path.name for path in (cut / "reference").iterdir()] == ["rows-00000000.npy"]
    found = [line["loss_nats"] for line in log(cut)]
    if lora is None:
        # Bit for bit on a processor; a GPU does not add up in the same order each time.
        same = pytest.approx(
            [line["loss_nats"] for line in log(done)], abs=0 if DEVICE == "cpu" else 1e-6
        )
        assert found == same
    else:
        # The reference is the model without its adapters, after the interruption as before.
        assert found[0] == pytest.approx(math.log(2), abs=1e-5)
        assert found == sorted(found, reverse=True)


def test_language_pairs_are_counted_and_thinned(model: Path, tmp_path: Path) -> None:
    aligned = [
        {
            "aligned": {
                "he": {"prompt": f"מה שם היום ה־{day}?", "response": "שני."},
                "en": {"prompt": f"What is day {day}?", "response": "Monday."},
            }
        }
        for day in range(8)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in [*ROWS, *aligned]),
        encoding="utf-8",
    )
    record = dpo.run(
        config(language_share=0.2, training={"steps": 1}),
        model=model,
        data=path,
        out=tmp_path / "out",
    )
    assert record.metrics["pairs"] == 20 and record.metrics["language_pairs"] == 4


def test_the_share_of_language_pairs_is_of_those_that_are_trained_on(
    model: Path, tmp_path: Path
) -> None:
    long = [
        {"prompt": f"{day}", "chosen": "The ferry left. " * 80, "rejected": "No."} for day in "abc"
    ]
    talks = {
        "he": {"prompt": "מה שם היום?", "response": "שני."},
        "en": {"prompt": "What day is it?", "response": "Monday."},
    }
    aligned = [{"aligned": talks}] * 4
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in [*ROWS[:4], *long, *aligned]),
        encoding="utf-8",
    )
    _, counts = dpo.packed_pairs(
        config(language_share=0.5), path, AutoTokenizer.from_pretrained(model)
    )
    assert counts == {"pairs": 8, "language_pairs": 4, "dropped_longer_than_a_row": 3}


def test_a_share_of_language_pairs_needs_others_beside_them(model: Path, tmp_path: Path) -> None:
    talks = {
        "he": {"prompt": "מה שם היום?", "response": "שני."},
        "en": {"prompt": "What day is it?", "response": "Monday."},
    }
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"aligned": talks}, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(DataError, match=r"language_share = 0.1 .*found none among 2; add"):
        dpo.run(config(language_share=0.1), model=model, data=path, out=tmp_path / "out")


def test_pairs_longer_than_a_row_are_left_out_and_counted(model: Path, tmp_path: Path) -> None:
    long = {"prompt": "Tell me.", "chosen": "The ferry left. " * 80, "rejected": "No."}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(long), encoding="utf-8")
    with pytest.raises(DataError, match="row_tokens = 320 together.*, found none of 1"):
        dpo.run(config(), model=model, data=path, out=tmp_path / "none")
    path.write_text("\n".join(map(json.dumps, [*ROWS, long])), encoding="utf-8")
    record = dpo.run(config(training={"steps": 1}), model=model, data=path, out=tmp_path / "out")
    assert record.metrics["pairs"] == 16 and record.metrics["dropped_longer_than_a_row"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": 0}, "beta: expected more than 0"),
        ({"beta": float("nan")}, "beta: expected more than 0"),
        ({"language_share": 1.0}, "language_share: expected a share from 0 to below 1"),
        ({"training": {"zero_stage": 3}}, "zero_stage: .* stage 3 divides it"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)
