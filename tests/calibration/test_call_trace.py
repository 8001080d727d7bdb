import pytest

from benchmarks.call_trace import cases, walk

CASES = cases()


@pytest.mark.parametrize("case", CASES)
def test_a_training_forward_stays_within_a_few_files_and_functions(case):
    found = walk(*CASES[case])
    assert len({file for file, _ in found}) <= 12
    assert len(found) <= 45
