from typing import Any

import pytest

from hebench.errors import ConfigError
from tests.train.made_rows import training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micro_rows": 0}, "micro_rows: expected at least 1, found 0"),
        ({"keep": 0}, "keep: expected at least 1"),
        ({"row_tokens": 4}, "row_tokens: expected at least 8, found 4"),
        ({"threads": 0}, "threads: expected at least 1"),
        ({"seed": -1}, "seed: expected 0 to 4294967295, found -1"),
        ({"global_rows": 3}, "expected a multiple of micro_rows x world_size = 2, found 3"),
        ({"world_size": 4}, "expected a multiple of micro_rows x world_size = 8, found 4"),
        ({"steps": 3, "start_step": 3}, "steps: expected more than 3, found 3"),
        ({"warmup_steps": 7}, "warmup_steps: expected at most steps = 6, found 7"),
        ({"learning_rate": 0.0}, "learning_rate: expected more than 0, found 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected more than 0"),
        ({"weight_decay": -0.1}, "weight_decay: expected 0 or more"),
        ({"adam_beta2": 1.0}, "adam_beta2: expected from 0 to 1"),
        ({"backend": "gaudi", "attention": "sdpa"}, "with eager attention only, found sdpa"),
        ({"attention": "flash_attention_2"}, "flash_attention_2 computes in bf16, found .* fp32"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        training(**changes)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 5])
def test_the_learning_rate_is_that_of_the_transformers_schedules(
    schedule: str, warmup: int
) -> None:
    import torch
    from transformers import get_scheduler

    name = {"constant": "constant_with_warmup"}.get(schedule, schedule)
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(name, optimiser, num_warmup_steps=warmup, num_training_steps=20)
    ours = training(schedule=schedule, warmup_steps=warmup, steps=20)
    for step in range(20):
        assert ours.rate_factor(step, 20) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimiser.step()
        theirs.step()


@pytest.mark.parametrize(
    ("changes", "rows", "steps"),
    [
        ({"steps": 6}, 999, 6),
        ({"steps": None}, 40, 10),
        ({"steps": None}, 41, 11),
        ({"steps": None, "passes": 2.5}, 40, 25),
        ({"steps": None, "passes": 0.01}, 40, 1),
    ],
)
def test_without_a_number_of_steps_it_is_passes_over_the_rows(
    changes: dict[str, Any], rows: int, steps: int
) -> None:
    assert training(**changes).total_steps(rows) == steps


def test_a_warm_up_longer_than_the_passes_over_the_rows_is_refused() -> None:
    config = training(steps=None, warmup_steps=10)
    assert config.total_steps(40) == 10
    with pytest.raises(ConfigError, match=r"at most the 9 steps that 36 rows give .*, found 10;"):
        config.total_steps(36)


def test_rows_of_a_step_are_accumulated_by_each_process() -> None:
    assert training(global_rows=384, micro_rows=1, world_size=48).accumulated == 8
