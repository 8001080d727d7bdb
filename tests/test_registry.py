import pytest

from concordant.errors import UsageError
from concordant.registry import Registry


@pytest.fixture
def shapes():
    registry = Registry[int]("shape")
    registry.add("square", 4)
    registry.add("line", 2)
    return registry


def test_entries_come_back_in_order_of_entry(shapes):
    assert list(shapes) == ["square", "line"]
    assert [shapes[name] for name in shapes] == [4, 2]
    assert len(shapes) == 2


def test_contains_knows_names_only(shapes):
    assert "square" in shapes
    assert "circle" not in shapes
    assert 4 not in shapes


def test_register_enters_and_returns_what_it_decorates():
    registry = Registry("maker")

    @registry.register("zero")
    def zero():
        return 0

    assert registry["zero"] is zero
    assert zero() == 0


def test_unknown_name_lists_the_choices(shapes):
    with pytest.raises(UsageError, match="unknown shape 'circle'; choose from: square, line"):
        shapes["circle"]


def test_clash_is_an_error_and_keeps_the_first(shapes):
    with pytest.raises(UsageError, match="shape 'square' is registered already; choose another name"):
        shapes.add("square", 5)
    assert shapes["square"] == 4


def test_what_is_not_listed_is_there_but_not_offered(shapes):
    shapes.add("blob", 0, listed=False)
    assert shapes["blob"] == 0
    assert "blob" in shapes
    assert list(shapes) == ["square", "line"]
    assert len(shapes) == 2
    with pytest.raises(UsageError, match=r"unknown shape 'circle'; choose from: square, line$"):
        shapes["circle"]
    with pytest.raises(UsageError, match="shape 'blob' is registered already"):
        shapes.add("blob", 1)
