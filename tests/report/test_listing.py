from io import StringIO

from rich.console import Console

from concordant.report.listing import full_list, modalities_text, short_list

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


def lines_of(table):
    out = StringIO()
    Console(file=out, width=200).print(table)
    return [line.split() for line in out.getvalue().splitlines()]


def test_the_short_list_has_a_line_each():
    assert lines_of(short_list([FUSION, METHOD])) == [
        ["kind", "name", "setting", "summary"],
        ["fusion", "tfn", "vector", "outer", "product"],
        ["method", "none", "any", "the", "loss"],
    ]


def test_the_full_list_has_modalities_parameters_and_paper():
    assert lines_of(full_list([FUSION]))[1] == [
        *("tfn", "vector", "1", "to", "17", "4,627,274", "323,242", "Zadeh", "2017", "outer", "product"),
    ]
    assert lines_of(full_list([METHOD])) == [
        ["name", "setting", "paper", "summary"],
        ["none", "any", "-", "the", "loss"],
    ]
    assert lines_of(full_list([])) == [["kind", "name", "setting", "summary"]]


def test_modalities_without_a_bound_are_open():
    assert modalities_text({"least_modalities": 2, "most_modalities": None}) == "2 or more"
