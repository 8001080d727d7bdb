from studies.paper.questions.cost import ALL_PARAMETERS, PARAMETERS, RELATIVE, STEP, cost


def test_every_method_of_every_cell_has_its_own_four_numbers(drawn):
    cells = [drawn("a"), drawn("bb", ("none", "context"))]
    timings = {
        cell.cell.name: {
            "methods": {
                label: {"median_ms": 10 * number + place, "relative": 1 + place / 4}
                for place, label in enumerate(cell.labels)
            }
        }
        for number, cell in enumerate(cells, start=1)
    }
    table = cost(cells, timings)
    found = {(row["family"], row["label"], row["condition"]): row["mean"] for row in table.scores}
    assert len(found) == len(table.scores) == 4 * (4 + 2)
    assert [found["a", "self", one] for one in (PARAMETERS, ALL_PARAMETERS, STEP, RELATIVE)] == [40, 1040, 12, 1.5]
    assert [found["bb", "context", one] for one in (PARAMETERS, ALL_PARAMETERS, STEP, RELATIVE)] == [70, 1070, 21, 1.25]
    assert {row["std"] for row in table.scores} == {None}
    assert (table.rows, table.compares, table.unit) == ((), False, "")
