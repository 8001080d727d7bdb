import pytest

from concordant.errors import UsageError
from concordant.rivals import JointGate, SelfGate


@pytest.mark.parametrize("kind", [SelfGate, JointGate])
def test_a_gate_needs_a_hidden_layer(kind):
    with pytest.raises(UsageError, match="hidden must be 1 or more; found 0"):
        kind({"a": 3, "b": 2}, hidden=0)
