import math
import resource

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hebench.errors import CheckpointError, ConfigError, DataError
from hebench.train.descent import Descent, Limits, Order, precision_begun


def limits(**changes):
    given_limits = {"steps": 12, "seconds": None, "learning_rate": 0.1, "warmup_steps": 2}
    return Limits(**given_limits | changes)


def parts():
    torch.manual_seed(0)
    row, table = torch.nn.Parameter(torch.randn(3)), torch.nn.Parameter(torch.randn(5, 2))
    scaled = torch.optim.SparseAdam([{"params": [table], "scale": 2.0}])
    return row, table, [torch.optim.Adam([row]), scaled]


def walk(path, until=None, **changes):
    """Return the tables after a descent that is cut off before step `until`, and its losses."""
    row, table, optimisers = parts()
    descent = Descent(path, limits(**changes), optimisers, {"row": row, "table": table})
    losses = []
    for step in descent.steps("test"):
        if step == until:
            break

        def loss(items):
            picked = torch.nn.functional.embedding(torch.tensor(items) % 5, table, sparse=True)
            found = (row - items[0]).square().sum() + picked.square().sum()
            losses.append(float(found.detach()))
            return found

        descent.learn([step], loss, lambda _: 1, f"item {step}")
    return row, table, losses, descent


def test_a_descent_that_was_cut_off_goes_on_as_if_it_had_not_been(tmp_path):
    whole = walk(tmp_path / "whole.pt")
    first = walk(tmp_path / "cut.pt", until=7, save_seconds=1e-9)
    rest = walk(tmp_path / "cut.pt", save_seconds=1e-9)
    assert len(first[2]) == 7
    assert first[2] + rest[2] == whole[2]
    assert torch.equal(rest[0], whole[0])
    assert torch.equal(rest[1], whole[1])
    assert rest[3].loss == whole[3].loss
    assert not list(tmp_path.glob(".*"))


def test_the_precision_of_a_saved_state_is_known_unless_it_is_of_before_it_was_said(tmp_path):
    path = tmp_path / "p.pt"
    assert precision_begun(path) is None
    Descent(path, limits(), [], {}, "bf16").save()
    assert precision_begun(path) == "bf16"
    torch.save({"step": 3}, path)
    assert precision_begun(path) is None
    path.write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"p.pt: expected the saved state .* remove the file"):
        precision_begun(path)


def test_a_finished_descent_takes_no_further_step(tmp_path):
    walk(tmp_path / "done.pt")
    again = walk(tmp_path / "done.pt")
    assert again[2] == []
    assert again[3].step == 12


def test_rows_that_do_not_occur_stay_where_they_are(tmp_path):
    before = parts()[1].detach().clone()
    table = walk(tmp_path / "p.pt", steps=3)[1]
    assert torch.equal(table[3:], before[3:])
    assert not torch.equal(table[:3], before[:3])


def test_a_loss_that_is_no_number_stops_with_the_last_good_state_kept(tmp_path):
    row, table, optimisers = parts()
    path = tmp_path / "p.pt"
    descent = Descent(path, limits(save_seconds=1e-9), optimisers, {"row": row, "table": table})
    with pytest.raises(DataError, match=r"step 3, item 3: expected .*, found nan.* another folder"):
        for step in descent.steps("test"):

            def loss(items):
                factor = math.nan if items == [3] else 1.0
                picked = torch.nn.functional.embedding(torch.tensor([0]), table, sparse=True)
                return (row * factor).square().sum() + picked.sum()

            descent.learn([step], loss, lambda _: 1, f"item {step}")
    saved = torch.load(path)
    assert saved["step"] == 3
    assert torch.isfinite(saved["tables"]["row"]).all()
    assert torch.equal(saved["tables"]["row"], row)


def descend(path, holds):
    """Return the tables after eight batches of ragged texts, and the sizes of all passes.

    holds: of how many texts memory holds a pass; a device's lack of it is raised as torch does.
    """
    row, table, optimisers = parts()
    descent, passes = Descent(path, limits(steps=8), optimisers, {"row": row}), []

    def loss(texts):
        passes.append(len(texts))
        if len(texts) > holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        ids = torch.tensor([number for text in texts for number in text])
        picked = torch.nn.functional.embedding(ids % 5, table, sparse=True)
        return (picked.sum(1) + row.sum() - ids).square().mean()

    for step in descent.steps("test"):
        batch = [list(range(step, step + length)) for length in (3, 1, 4, 1, 5, 2, 6)]
        descent.learn(batch, loss, len, f"batch {step}")
    return row, table, passes, descent


def test_a_batch_for_which_there_is_no_memory_is_read_in_parts_with_the_same_result(tmp_path):
    whole = descend(tmp_path / "whole.pt", holds=7)
    found = descend(tmp_path / "parts.pt", holds=2)
    assert whole[2] == [7] * 8
    assert found[2] == [7, 4, *[2, 2, 2, 1] * 8]  # what was learned of memory is kept
    for one, other in zip(found[:2], whole[:2], strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert found[3].loss == pytest.approx(whole[3].loss)


def test_a_text_for_which_there_is_no_memory_is_one_line(tmp_path):
    with pytest.raises(
        ConfigError, match=r"step 0, batch 0: expected memory for one text.* passage_words"
    ):
        descend(tmp_path / "p.pt", holds=0)


def test_a_full_disk_is_one_line_and_the_state_before_is_kept(tmp_path):
    """A limit on file sizes stands for the disk."""
    path = tmp_path / "p.pt"
    _, _, _, descent = walk(path)
    kept = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"p\.pt: expected to write it, found .* run again"
        ):
            descent.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == kept
    assert [found.name for found in tmp_path.iterdir()] == ["p.pt"]


def test_a_save_that_was_cut_off_is_known_by_its_name_to_what_sweeps(tmp_path, monkeypatch):
    def killed(state, stream):
        (left,) = tmp_path.iterdir()
        assert left.match(".p.pt.*.tmp")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path / "p.pt")


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_damaged_state_is_named(tmp_path, content):
    (tmp_path / "p.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"p\.pt: expected the saved state of this stage"):
        walk(tmp_path / "p.pt")


def test_seconds_end_a_descent_and_count_over_restarts(tmp_path):
    _, _, losses, descent = walk(tmp_path / "p.pt", steps=None, seconds=0.05)
    assert losses
    assert descent.seconds >= 0.05
    assert walk(tmp_path / "p.pt", steps=None, seconds=0.05)[2] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "expected a limit, found neither steps nor seconds"),
        ({"steps": 0}, "steps: expected more than 0, found 0"),
        ({"seconds": -1.0}, "seconds: expected more than 0"),
        ({"learning_rate": math.nan}, "learning_rate: expected more than 0"),
        ({"warmup_steps": -1}, "warmup_steps: expected 0 or more"),
    ],
)
def test_limits_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        limits(**changes)


def test_the_rate_rises_to_its_peak_and_falls_to_a_twentieth():
    course = limits(steps=100, warmup_steps=4)
    assert course.rate(0, 0.0) == pytest.approx(0.1 / 5)
    assert course.rate(4, 0.0) == pytest.approx(0.1)
    assert course.rate(100, 1.0) == pytest.approx(0.1 / 20)


def test_the_nearer_limit_counts():
    both = limits(steps=100, seconds=10.0)
    assert both.done(50, 1.0) == 0.5
    assert both.done(50, 8.0) == 0.8
    assert both.done(150, 8.0) == 1.0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=50), st.integers(1, 8), st.integers(0, 3))
def test_each_pass_hears_every_text_at_most_once_in_full_batches(lengths, size, seed):
    order = Order(lengths, size, seed)
    size = min(size, len(lengths))
    for number in range(2):
        steps = range(number * (len(lengths) // size), (number + 1) * (len(lengths) // size))
        heard = [index for step in steps for index in order.batch(step)]
        assert len(heard) == len(set(heard)) == len(lengths) // size * size


def test_a_step_s_batch_depends_on_the_seed_and_not_on_the_way_there():
    lengths = list(range(100))
    forward = [Order(lengths, 3, 0).batch(step) for step in range(80)]
    order = Order(lengths, 3, 0)
    assert [order.batch(step) for step in reversed(range(80))] == forward[::-1]
    assert forward[0] != Order(lengths, 3, 1).batch(0)


def test_texts_of_similar_length_go_together():
    lengths = [place % 50 + 1 for place in range(200)]
    order = Order(lengths, 4, 0)
    spread = [
        max(lengths[i] for i in order.batch(step)) - min(lengths[i] for i in order.batch(step))
        for step in range(50)
    ]
    assert sum(spread) / len(spread) < 6  # 30 without sorting
