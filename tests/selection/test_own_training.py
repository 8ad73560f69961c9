"""Our own pre-training with the callback: evaluated at its saves, and the same curve."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from hebench.selection.callback import HebenchCallback
from hebench.selection.choose import ChooseConfig, choose
from hebench.selection.found import complete
from hebench.selection.log import read_log
from hebench.train import pretrain
from hebench.train.checkpoints import read_checkpoint
from tests.train.conftest import *  # noqa: F403 (the tiny tokenizer and models)
from tests.train.made_rows import curve, make_corpus, pretraining


@pytest.mark.slow
def test_pretraining_selects_among_its_own_checkpoints(
    tiny_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    model, corpus = tiny_model_folder(tmp_path / "model"), make_corpus(tmp_path / "corpus")
    config = pretraining(save_every=2, steps=4)
    callback = HebenchCallback(tasks=("hebench_mini_grammar",), limit=8, max_overhead=math.inf)
    with_it, without = tmp_path / "with", tmp_path / "without"
    pretrain.run(config, model=model, corpus=corpus, out=with_it, callbacks=[callback])
    pretrain.run(config, model=model, corpus=corpus, out=without)
    kept = ("step", "tokens", "loss_nats", "grad_norm", "learning_rate")
    one, other = (
        [[line[key] for key in kept] for line in curve(run)] for run in (with_it, without)
    )
    assert one == other and one
    log = read_log(with_it / "selection.jsonl")
    assert [entry.step for entry in log] == [2, 4]
    record = read_checkpoint(with_it / "checkpoint-4")
    assert record is not None
    assert (log[1].tokens, log[1].loss_nats) == (record.tokens, record.loss_nats)
    choice = choose(with_it, ChooseConfig())
    assert choice.folder == with_it / choice.decision.chosen


@pytest.mark.slow
def test_pretraining_that_goes_on_from_weights_files_scores_under_its_own_checkpoints(
    tiny_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    model, corpus = tiny_model_folder(tmp_path / "model"), make_corpus(tmp_path / "corpus")
    config = pretraining(save_every=2, steps=4, start_step=2)
    callback = HebenchCallback(
        tasks=("hebench_mini_grammar",), limit=1, max_overhead=math.inf, start_step=2
    )
    pretrain.run(config, model=model, corpus=corpus, out=tmp_path / "run", callbacks=[callback])
    (entry,) = read_log(tmp_path / "run" / "selection.jsonl")
    (found,) = complete(tmp_path / "run")
    assert (entry.checkpoint, entry.step) == ("checkpoint-4", 4) == (found.name, found.step)
    assert entry.settings["mark"] == found.mark
