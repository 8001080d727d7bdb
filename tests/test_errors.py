import pytest

from concordant.errors import ConcordantError, DataError, UsageError


@pytest.mark.parametrize("kind", [UsageError, DataError])
def test_both_kinds_are_concordant_errors(kind):
    with pytest.raises(ConcordantError, match="what was found"):
        raise kind("what was found")


def test_kinds_can_be_told_apart():
    assert not issubclass(UsageError, DataError)
    assert not issubclass(DataError, UsageError)
