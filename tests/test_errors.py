import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from concordant.errors import Checks, ConcordantError, DataError, UsageError, explain, foreign, quoted


@pytest.mark.parametrize("kind", [UsageError, DataError])
def test_both_kinds_are_concordant_errors(kind):
    with pytest.raises(ConcordantError, match="what was found"):
        raise kind("what was found")


def test_kinds_can_be_told_apart():
    assert not issubclass(UsageError, DataError)
    assert not issubclass(DataError, UsageError)


class Point(BaseModel):
    x: int = Field(default=0, ge=0)
    y: int = 0
    name: str = ""

    @field_validator("name")
    @classmethod
    def _known(cls, name):
        if name == "bad":
            raise ValueError("this name is taken")
        return name

    @model_validator(mode="after")
    def _not_both(self):
        if self.x and self.y:
            raise ValueError("x and y exclude each other")
        return self


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"x": -1}, "x: input should be greater than or equal to 0; found -1"),
        (
            {"x": -1, "y": "a"},
            "x: input should be greater than or equal to 0; found -1; "
            "y: input should be a valid integer, unable to parse string as an integer; found 'a'",
        ),
        ({"name": "bad"}, "name: this name is taken"),
        ({"x": 1, "y": 1}, "x and y exclude each other"),
    ],
)
def test_every_fault_is_a_sentence(values, said):
    with pytest.raises(ValidationError) as error:
        Point(**values)
    assert explain(error.value) == said


def test_a_message_is_one_line_that_controls_no_terminal():
    assert str(DataError("a\nb \x1b[31mred\x07 \u202e \udc80")) == "a b \\x1b[31mred\\x07 \\u202e \\udc80"
    assert len(str(DataError("x" * 10**6))) < 10_000


def test_a_foreign_message_is_short_and_on_one_line():
    assert foreign(ValueError("first\n  second\x1b")) == "first second\\x1b"
    assert foreign(FileNotFoundError(2, "No such file or directory", "name")) == "No such file or directory"
    assert foreign(RuntimeError()) == "RuntimeError"
    assert len(foreign(ValueError("x" * 10**6))) < 300


def test_what_is_quoted_is_short_whatever_it_is():
    nested = ["x"]
    for _ in range(60):
        nested = [nested] * 3
    assert len(quoted(nested)) < 5_000
    assert quoted({"a": 1}) == "{'a': 1}"
    assert quoted(10**6000) == "int that is too long to show"
    with pytest.raises(ValidationError) as caught:
        Point(x="x" * 10**6)
    assert len(explain(caught.value)) < 500


def test_a_number_beyond_floating_point_is_out_of_range():
    check = Checks()
    for value in (10**400, -(10**5000)):
        check.number("rate", value, 0, 1)
    check.integer("size", value, 1)
    found = [fault.partition("; found")[0] for fault in check.faults]
    assert found == ["rate must lie in [0, 1)", "rate must lie in [0, 1)", "size must be 1 or more"]
