import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from hebench.stats.multiplicity import benjamini_hochberg, holm


def test_benjamini_hochberg_gives_the_published_example() -> None:
    """Benjamini, Hochberg 1995, section 3.1: of 15 tests the four smallest stay below 0.05."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    assert (benjamini_hochberg(np.array(p)) <= 0.05).sum() == 4
    assert (holm(np.array(p)) <= 0.05).sum() == 3


@settings(max_examples=15)  # the oracle takes a tenth of a second
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_both_equal_statsmodels(p: list[float]) -> None:
    values = np.array(p)
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1], abs=1e-12)
    expected = multipletests(values, method="fdr_bh")[1]
    assert benjamini_hochberg(values) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_a_test_that_was_not_made_does_not_count(adjust) -> None:  # type: ignore[no-untyped-def]
    table = np.array([[0.01, np.nan], [0.2, 0.03]])
    found = adjust(table)
    assert found.shape == (2, 2) and np.isnan(found[0, 1])
    assert found[~np.isnan(found)] == pytest.approx(adjust(np.array([0.01, 0.2, 0.03])))
    assert np.isnan(adjust(np.array([np.nan]))).all()
    assert adjust(np.array([])).shape == (0,)
    with pytest.raises(ValueError, match="p-values"):
        adjust(np.array([1.5]))
