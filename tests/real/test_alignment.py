"""SFT and DPO against TRL's numbers, and on the demo model with the packaged Hebrew data."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from hebench.config import build
from hebench.models.demo import obtain
from hebench.train import dpo, sft
from hebench.train.chat_data import encode, ensure_template, read_conversations
from hebench.train.dpo import DpoConfig
from hebench.train.preferences import Preference, read_preferences
from hebench.train.sft import SftConfig
from tests.conftest import DEVICE

pytestmark = [
    pytest.mark.slow,
    # What TRL and peft say of themselves; our own warnings stay errors.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:(trl|peft|transformers).*"),
]

REPOSITORY = Path(__file__).parents[2]
TEXTS = REPOSITORY / "hebench/train/recipes/text"
STEPS = 5
TRAINING = {
    "backend": DEVICE,
    "row_tokens": 1024,
    "micro_rows": 1,
    "learning_rate": 1e-3,
    "adam_beta2": 0.999,
    "schedule": "constant",
    "save_every": 100,
    "threads": 1,
    "steps": STEPS,
    "export_dtype": "fp32",
}
SHORT = {"row_tokens": 288, "global_rows": 2, "precision": "auto"}  # for real weights
LORA = {"rank": 64, "alpha": 16, "dropout": 0.0}


@pytest.fixture(scope="module")
def demo() -> Path:
    return obtain()


@pytest.fixture(scope="module")
def tiny(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer model with the demo model's tokenizer and chat template."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tokenizer = AutoTokenizer.from_pretrained(demo)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def first_lines(name: str, count: int, folder: Path) -> Path:
    lines = (TEXTS / name).read_text(encoding="utf-8").splitlines()[:count]
    path = folder / name
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]


def rows_of(out: Path, stage: str) -> int:
    record: dict[str, Any] = json.loads((out / "stage.json").read_text("utf-8"))
    assert record["stage"] == stage
    return int(record["metrics"]["rows"])


def trl_settings(out: Path, batch: int) -> dict[str, Any]:
    """The same optimiser and schedule, one step an epoch over all the data."""
    return {
        "output_dir": str(out),
        "per_device_train_batch_size": batch,
        "num_train_epochs": STEPS,
        "learning_rate": TRAINING["learning_rate"],
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "optim": "adamw_torch",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "bf16": False,
        "use_cpu": True,
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "max_length": None,
    }


def losses(trainer: Any, name: str = "loss") -> list[float]:
    return [line[name] for line in trainer.state.log_history if name in line]


def test_sft_has_the_losses_of_trl_step_by_step(tiny: Path, tmp_path: Path) -> None:
    """Packed here, padded there; the same conversations, model, optimiser."""
    from datasets import Dataset
    from trl import SFTConfig as TrlConfig
    from trl import SFTTrainer

    data = first_lines("chat_he.jsonl", 3, tmp_path)
    training = TRAINING | {"global_rows": 2, "row_tokens": 512}
    config = build(SftConfig, {"training": training}, "test")
    sft.run(config, model=tiny, data=data, out=tmp_path / "sft")
    assert rows_of(tmp_path / "sft", "sft") == 2, "each step must see all the data"

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    pieces = [encode(tokenizer, talk) for talk in read_conversations(data)]
    dataset = Dataset.from_list(
        [
            {
                "input_ids": piece.tokens.tolist(),
                "labels": [
                    int(token) if trained else -100
                    for token, trained in zip(piece.tokens, piece.trained, strict=True)
                ],
            }
            for piece in pieces
        ]
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny),
        args=TrlConfig(**trl_settings(tmp_path / "trl", len(pieces))),
        train_dataset=dataset,
        processing_class=tokenizer,
    )
    trainer.train()
    ours, theirs = [line["loss_nats"] for line in log(tmp_path / "sft")], losses(trainer)
    assert len(ours) == len(theirs) == STEPS and ours[-1] < ours[0] - 0.5
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_our_targets_are_those_of_trl_without_the_line_break_after_the_end(
    tiny: Path, tmp_path: Path
) -> None:
    """TRL trains, of a prompt and completion, what follows the end mark as well."""
    from datasets import Dataset
    from trl import SFTConfig as TrlConfig
    from trl import SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    talks = list(read_conversations(first_lines("chat_he.jsonl", 6, tmp_path)))
    dataset = Dataset.from_list(
        [
            {
                "prompt": [{"role": turn.role, "content": turn.content} for turn in talk.prompt],
                "completion": [{"role": "assistant", "content": talk.answer}],
            }
            for talk in talks
        ]
    )
    settings = trl_settings(tmp_path / "trl", len(talks)) | {"max_length": 1024}
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny),
        args=TrlConfig(**settings),
        train_dataset=dataset,
        processing_class=tokenizer,
    )
    for talk, row in zip(talks, trainer.train_dataset, strict=True):
        piece = encode(tokenizer, talk)
        theirs = [token for token in row["labels"] if token != -100]
        assert piece.tokens.tolist() == row["input_ids"]
        assert [*piece.tokens[piece.trained].tolist(), *tokenizer.encode("\n")] == theirs


def rendered(tokenizer: Any, item: Preference) -> dict[str, str]:
    """A pair as TRL takes plain texts: it appends the end-of-text token itself."""
    turns = [{"role": turn.role, "content": turn.content} for turn in item.prompt]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return {"prompt": prompt, "chosen": item.chosen, "rejected": item.rejected}


@pytest.mark.parametrize("lora", [None, LORA])
def test_dpo_has_the_losses_and_rewards_of_trl_step_by_step(
    lora: Any, tiny: Path, tmp_path: Path
) -> None:
    from datasets import Dataset
    from trl import DPOConfig as TrlConfig
    from trl import DPOTrainer

    data = first_lines("chat_pairs_he.jsonl", 2, tmp_path)
    training = TRAINING | {"row_tokens": 384, "global_rows": 2}
    content = {"beta": 0.1, "training": training, "lora": lora}
    out = tmp_path / "dpo"
    dpo.run(build(DpoConfig, content, "test"), model=tiny, data=data, out=out)
    assert rows_of(out, "dpo") == 2, "each step must see all the data"

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    pairs = read_preferences(data)
    settings = trl_settings(tmp_path / "trl", len(pairs)) | {"beta": 0.1}
    trainer = DPOTrainer(
        model=_start(tiny, lora),
        ref_model=None if lora else AutoModelForCausalLM.from_pretrained(tiny),
        args=TrlConfig(**settings),
        train_dataset=Dataset.from_list([rendered(tokenizer, pair) for pair in pairs]),
        processing_class=tokenizer,
    )
    trainer.train()
    ours = log(out)
    assert ours[-1]["loss_nats"] < 0.6
    names = {
        "loss_nats": "loss",
        "chosen_reward": "rewards/chosen",
        "rejected_reward": "rewards/rejected",
        "margin": "rewards/margins",
        "accuracy": "rewards/accuracies",
    }
    for mine, theirs in names.items():
        found, expected = [line[mine] for line in ours], losses(trainer, theirs)
        assert len(found) == len(expected) == STEPS
        assert found[0] == pytest.approx(expected[0], abs=1e-5), mine
        assert found == pytest.approx(expected, abs=1e-4), mine


JOB = """
import json, sys
from pathlib import Path
from hebench.config import build
from hebench.train import dpo

settings, model, data, out = sys.argv[1:]
config = build(dpo.DpoConfig, json.loads(settings), "test")
dpo.run(config, model=Path(model), data=Path(data), out=Path(out))
"""


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_dpo_with_lora_on_two_processes_equals_one(tiny: Path, tmp_path: Path) -> None:
    """Rows hold different numbers of pairs, so a mean of the processes' means would differ."""
    data = first_lines("chat_pairs_he.jsonl", 8, tmp_path)
    script = tmp_path / "job.py"
    script.write_text(JOB, encoding="utf-8")
    runs = []
    for processes in (1, 2):
        out = tmp_path / f"dpo-{processes}"
        training = TRAINING | {"row_tokens": 640, "global_rows": 2, "world_size": processes}
        training |= {"steps": 3}
        settings = json.dumps({"beta": 0.1, "training": training, "lora": LORA})
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node"]
        command += [str(processes), "--master_addr", "127.0.0.1", "--master_port", free_port()]
        command += [str(script), settings, str(tiny), str(data), str(out)]
        found = subprocess.run(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert found.returncode == 0, found.stderr[-2000:]
        runs.append(out)
    one, two = (log(out) for out in runs)
    assert rows_of(runs[0], "dpo") >= 4 and one[-1]["margin"] != one[0]["margin"]
    for name in ("loss_nats", "margin", "accuracy"):
        expected = [line[name] for line in one]
        assert [line[name] for line in two] == pytest.approx(expected, abs=1e-5), name


def _start(tiny: Path, lora: Any) -> Any:
    from hebench.train.adapters import Lora, adapted

    model = AutoModelForCausalLM.from_pretrained(tiny)
    return adapted(model, Lora(**lora) if lora else None, seed=0)


@pytest.fixture(scope="module")
def chat(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo model after a few steps of SFT on the packaged Hebrew conversations."""
    run = tmp_path_factory.mktemp("run")
    training = TRAINING | SHORT | {"steps": 3, "learning_rate": 1e-3, "export_dtype": "bf16"}
    config = build(SftConfig, {"training": training, "lora": LORA}, "test")
    data = first_lines("chat_he.jsonl", 2, run)  # all of it in each step
    sft.run(config, model=demo, data=data, out=run / "sft")
    yield run / "sft"


def test_the_demo_model_learns_from_the_packaged_conversations(demo: Path, chat: Path) -> None:
    lines = log(chat)
    assert lines[-1]["loss_nats"] < lines[0]["loss_nats"]
    tokenizer = AutoTokenizer.from_pretrained(chat / "model")
    model = AutoModelForCausalLM.from_pretrained(chat / "model")
    assert ensure_template(tokenizer) == "own"
    stops = model.generation_config.eos_token_id
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in (
        [stops] if isinstance(stops, int) else stops
    )


def test_the_demo_model_comes_to_prefer_the_language_it_is_asked_in(
    chat: Path, tmp_path: Path
) -> None:
    data = first_lines("chat_pairs_he.jsonl", 1, tmp_path)  # all of it in each step
    training = TRAINING | SHORT | {"steps": 3, "learning_rate": 3e-4}
    content = {"beta": 0.1, "training": training, "lora": LORA}
    record = dpo.run(
        build(DpoConfig, content, "test"), model=chat / "model", data=data, out=tmp_path / "dpo"
    )
    assert record.metrics["first_loss_nats"] == pytest.approx(0.6931, abs=1e-3)
    assert record.metrics["last_loss_nats"] < record.metrics["first_loss_nats"]
    assert record.metrics["last_margin"] > 0
