from concordant.report.listing import entry_table

FUSION = {
    "kind": "fusion",
    "name": "tfn",
    "setting": "vector",
    "summary": "outer product",
    "paper": "Zadeh 2017",
    "least_modalities": 1,
    "most_modalities": 17,
    "parameters": {"default": 4627274, "small": 323242},
}
METHOD = {"kind": "method", "name": "none", "setting": "any", "summary": "the loss", "paper": ""}


def words(lines):
    return [line.split() for line in lines]


def test_the_short_list_has_a_line_each(shown):
    assert words(shown(entry_table([FUSION, METHOD]))) == [
        ["kind", "name", "setting", "summary"],
        ["fusion", "tfn", "vector", "outer", "product"],
        ["method", "none", "any", "the", "loss"],
    ]


def test_the_whole_list_has_modalities_parameters_and_paper(shown):
    assert words(shown(entry_table([FUSION], whole=True)))[1] == [
        *("tfn", "vector", "1", "to", "17", "4,627,274", "323,242", "Zadeh", "2017", "outer", "product"),
    ]
    assert words(shown(entry_table([METHOD], whole=True))) == [
        ["name", "setting", "paper", "summary"],
        ["none", "any", "-", "the", "loss"],
    ]
    assert words(shown(entry_table([], whole=True))) == [["kind", "name", "setting", "summary"]]
    open_ended = {**FUSION, "most_modalities": None, "least_modalities": 2}
    assert "2 or more" in shown(entry_table([open_ended], whole=True))[1]
