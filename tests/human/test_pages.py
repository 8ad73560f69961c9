"""Pieces of the pages that need no database: tokens, paths, masks, buttons, words."""

import re
from pathlib import Path

import pytest

from hebench.human.dashboard import ALPHA_REASONS, NEEDED_REASONS, REASONS, masks
from hebench.human.pages import outcomes
from hebench.human.security import form_token, is_form_token, is_own_path
from hebench.stats import agreement, vote_plan
from tests.human.made_study import MODELS, made_study


def test_form_tokens_differ_each_time_and_hold_for_one_secret() -> None:
    made = {form_token(b"k", "s") for _ in range(20)}
    assert len(made) == 20 and all(is_form_token(b"k", "s", token) for token in made)
    assert not any(is_form_token(b"other", "s", token) for token in made)
    for junk in ("", ".", "a", "א.ב", "x" * 10_000, next(iter(made)).upper()):
        assert not is_form_token(b"k", "s", junk)


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/work", True),
        ("/history/a-b_c", True),
        ("", False),
        ("//x", False),
        ("http://x", False),
        ("/\\x", False),
        ("/a\n", False),
    ],
)
def test_paths_of_ones_own_are_known(path: str, own: bool) -> None:
    assert is_own_path(path) is own


def test_masks_say_nothing_of_the_order_of_names() -> None:
    orders = {tuple(masks(MODELS, bytes([key]))[name] for name in MODELS) for key in range(40)}
    assert len(orders) == 6
    assert masks(MODELS, b"k") == masks(tuple(reversed(MODELS)), b"k")


def test_every_reason_of_the_statistics_has_words() -> None:
    source = Path(agreement.__file__).read_text(encoding="utf-8")
    constants = set(re.findall(r'^(?:NO_\w+|ONE_RATER) = "(.+)"$', source, flags=re.MULTILINE))
    assert set(ALPHA_REASONS) == constants
    source = Path(vote_plan.__file__).read_text(encoding="utf-8")
    told = source[source.index("def votes_needed") : source.index("def needed_votes")]
    assert set(NEEDED_REASONS) == set(re.findall(r'reason="(.+?)"', told))
    assert len(set(REASONS)) == len(REASONS)


def test_buttons_keep_one_order_whatever_the_study_says() -> None:
    study = made_study(outcomes=("tie", "second", "first"))
    assert outcomes(study) == ("first", "second", "tie")
