from concordant.estimator import Explanation
from concordant.visualisation.explain import Verdict


def verdict(modality, **more):
    plain = {"present": True, "reliability": 0.5, "usual": 0.9, "z": 0.0, "supported_by": [], "contradicted_by": []}
    return Verdict(modality=modality, down=[], up=[], **{**plain, **more})


def test_an_explanation_reads_as_a_few_lines():
    one = Explanation(
        "walk",
        0.875,
        [
            verdict("a", z=-2.5, contradicted_by=[("b", 0.4), ("c", 0.125)]),
            verdict("b", z=3.0, supported_by=[("c", 0.25)]),
            verdict("c"),
            verdict("d", present=False),
        ],
    )
    assert str(one).splitlines() == [
        "predicted walk with probability 0.88",
        "  a: reliability 0.50 (usually 0.90, less than usual); contradicted by b 0.40, c 0.12",
        "  b: reliability 0.50 (usually 0.90, more than usual); supported by c 0.25",
        "  c: reliability 0.50 (usually 0.90)",
        "  d: absent",
    ]


def test_a_number_has_no_probability():
    assert str(Explanation(1.5, None, [])) == "predicted 1.5"
