import pytest

from concordant.monitor.alarm import Alarm, diagnose, in_words, seen_alone

USUAL = {"level": [0.3, 0.7, 0.5, 0.4, 0.6], "change": [0.6, 0.2, 0.5, 0.4], "distance": [0.4, 0.6, 0.5, 0.3, 0.7]}


@pytest.mark.parametrize(
    ("ranks", "kind"),
    [
        ({**USUAL, "level": [0.6, 0, 0, 0, 0], "change": [0, 0, 0, 0]}, "died"),
        ({**USUAL, "change": [0.4, 0, 0, 0]}, "frozen"),
        ({**USUAL, "agreement": [0.01, 0.1, 0.03, 0.02, 0.1]}, "swapped"),
        ({**USUAL, "agreement": [0.01, 0.1, 0.03, 0.02, 0.1], "distance": [1, 1, 1, 1, 1]}, "drifted"),
        ({**USUAL, "agreement": [0.01, 0.1, 0.03, 0.02, 0.1], "level": [1, 1, 1, 1, 1]}, "drifted"),
        ({**USUAL, "agreement": [0.5, 0.4, 0.6, 0.5, 0.3]}, "drifted"),
        ({}, "drifted"),
    ],
)
def test_the_kind_is_read_off_the_evidence_since_the_change(ranks, kind):
    assert diagnose(ranks) == kind


def test_context_alone_shows_neither_death_nor_freezing():
    assert seen_alone({**USUAL, "agreement": [0, 0, 0], "reliability": [0, 0, 0]}) is None


def test_the_evidence_is_a_sentence_with_numbers():
    assert in_words("frozen", {"change": [0.0, 0.1]}, "change") == (
        "it repeats itself (last 2 of change: on average 5% of the clean values are lower)"
    )
    assert in_words("died", {}, "level") == "it is absent or delivers no signal"
    assert str(Alarm("audio", "died", 12, 9, 3.0, 2.0, "it is absent")) == (
        "audio died at instance 12, since about 9: it is absent"
    )
