"""The figures: a picture that is a picture, with every method and cell in it, drawn where the numbers are."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from concordant.report.figures.colours import colour_of
from concordant.report.format import shown
from studies.paper.figures import SHOWN, draw_detection, draw_leads, draw_shares
from studies.paper.tables import Table

OTHERS = ("none", "none+perturbed", "self", "gmu")
PLACES = (("scene15", "lf-dnn"), ("scene15", "lmf"), ("digits", "tfn"))
LEADS = {label: 0.01 * (number + 1) for number, label in enumerate(OTHERS)}
SHARES = {"self": 0.4, "gmu": -0.2, "context": 0.7}
AREAS = {"which": {"swap": 0.97, "blur": 0.62}, "whether": {"swap": 0.71, "blur": 0.5}}


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Return a function that lets something be drawn and gives the figure; nothing is rendered."""
    figures = []

    def kept(figure, path, **_):
        figures.append(figure)
        path.write_bytes(b"")

    def look(draw, *tables, **more):
        with monkeypatch.context() as patched:
            patched.setattr(Figure, "savefig", kept)
            draw(*tables, tmp_path / "a.png", **more)
        return figures.pop()

    return look


@pytest.fixture
def leads(rows):
    def table(name, condition, sign):
        many = [
            rows.row(to, sign * (lead + 0.001 * place), family=family, fusion=fusion, condition=condition)
            for place, (family, fusion) in enumerate(PLACES)
            for to, lead in LEADS.items()
        ]
        return Table(name, "", "", [], many)

    return table("clean", "clean", -1), table("corruption", "corruption.mean", 1)


@pytest.fixture
def shares(rows):
    def table(**changed):
        known = {"none": -0.9, "none+perturbed": 0.0, **SHARES, **changed}
        return Table(
            "oracle",
            "",
            "",
            [
                rows.score(label, share, family=family, fusion=fusion)
                for family, fusion in PLACES
                for label, share in known.items()
            ],
        )

    return table


@pytest.fixture
def detection(rows):
    scores = [
        rows.score(
            label, area - 0.1 * (severity == 1), family=family, fusion=fusion, condition=f"{what}.{kind}.{severity}"
        )
        for family, fusion in PLACES
        for label in ("self", "context")
        for what, kinds in AREAS.items()
        for kind, area in kinds.items()
        for severity in (1, 5)
    ]
    return Table("detection", "", "", scores, unit="")


def texts(figure):
    return {text.get_text() for text in figure.findobj(Text)} - {""}


def lines(axes):
    """Return label -> where its markers are, as (n, 2)."""
    found = {line.get_label(): line.get_xydata() for line in axes.lines}
    found |= {one.get_label(): one.lines[0].get_xydata() for one in axes.containers}
    return {label: points for label, points in found.items() if not label.startswith("_")}


def test_files_are_pictures(leads, shares, detection, tmp_path):
    for name, draw, tables in (
        ("leads", draw_leads, leads),
        ("shares", draw_shares, [shares(gmu=3.0)]),
        ("detection", draw_detection, [detection]),
    ):
        draw(*tables, tmp_path / "new" / f"{name}.png")
        with Image.open(tmp_path / "new" / f"{name}.png") as picture:
            picture.load()
            assert picture.format == "PNG"
            assert picture.width > 400
            assert picture.height > 300
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20  # not blank
    assert {path.suffix for path in (tmp_path / "new").iterdir()} == {".png"}  # nothing temporary is left


def test_leads_name_every_cell_and_every_method(drawn, leads):
    said = texts(drawn(draw_leads, *leads, note=" (quick version)"))
    assert {f"{family}, {fusion}" for family, fusion in PLACES} <= said
    assert {shown(label) for label in OTHERS} <= said
    assert "Accuracy of context minus that of each other method (quick version)" in said


def test_leads_are_drawn_where_they_are_in_points(drawn, leads):
    left, right = drawn(draw_leads, *leads).axes
    assert list(lines(left)) == ["none, clean"]
    assert set(lines(right)) == {"none, perturbed", "self", "gmu"}
    np.testing.assert_allclose(lines(left)["none, clean"], [[-1.0, 0], [-1.1, 1], [-1.2, 2]])
    for label, lead in LEADS.items():
        if label != "none":
            x, y = lines(right)[shown(label)].T
            np.testing.assert_allclose(x, [100 * lead, 100 * lead + 0.1, 100 * lead + 0.2])
            np.testing.assert_allclose(y, [0, 1, 2])
    for axes, ends in ((left, (-2.0, 1.0)), (right, (1.0, 4.0))):  # the first row's interval
        bars = next(one for one in axes.containers).lines[2][0].get_segments()
        np.testing.assert_allclose(bars[0][:, 0], ends)
    assert left.yaxis_inverted()  # the first cell on top


def test_shares_are_the_bars_of_the_first_fusion_of_each_family(drawn, shares):
    figure = drawn(draw_shares, shares())
    (axes,) = figure.axes
    assert {"scene15\nlf-dnn", "digits\ntfn", "self", "gmu", "Concordant"} <= texts(figure)
    assert not {"scene15\nlmf", "none, clean", "none, perturbed"} & texts(figure)
    for bars in axes.containers:
        label = {"Concordant": "context"}.get(bars.get_label(), bars.get_label())
        assert [bar.get_height() for bar in bars] == pytest.approx(2 * [100 * SHARES[label]])
        assert {to_hex(bar.get_facecolor()) for bar in bars} == {colour_of(label)}
    assert not axes.texts  # nothing is cut


@pytest.mark.parametrize(("share", "end"), [(2.345, SHOWN[1]), (-4.321, SHOWN[0])])
def test_a_bar_that_is_cut_has_its_value_at_its_end(drawn, shares, share, end):
    (axes,) = drawn(draw_shares, shares(gmu=share)).axes
    cut = next(bars for bars in axes.containers if bars.get_label() == "gmu")
    assert {bar.get_height() for bar in cut} == {end}
    assert [text.get_text() for text in axes.texts] == 2 * [f"{100 * share:.0f}"]
    assert [text.xy for text in axes.texts] == [(pytest.approx(bar.get_x() + bar.get_width() / 2), end) for bar in cut]
    assert axes.get_ylim()[0] <= end <= axes.get_ylim()[1]


def test_without_a_way_there_are_no_bars(drawn):
    figure = drawn(draw_shares, Table("oracle", "", "", []))
    assert not figure.axes[0].containers
    assert not figure.legends


def test_detection_has_ours_alone_at_the_highest_severity(drawn, detection):
    figure = drawn(draw_detection, detection, note=" (1 of 3 cells)")
    for axes, what in zip(figure.axes, AREAS, strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), 2 * [list(AREAS[what].values())])
        assert [text.get_text() for text in axes.texts] == 2 * [f"{100 * area:.0f}" for area in AREAS[what].values()]
        assert [text.get_text() for text in axes.get_yticklabels()] == ["scene15, lf-dnn", "digits, tfn"]
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == ["swap", "blur"]
    assert "Detection by context: AUROC x 100, 50 = a guess (1 of 3 cells)" in texts(figure)


def test_a_kind_that_a_cell_has_not_is_left_blank(drawn, detection):
    less = [row for row in detection.scores if not (row["family"] == "digits" and ".blur." in row["condition"])]
    axes = drawn(draw_detection, Table("detection", "", "", less, unit="")).axes[0]
    assert np.ma.filled(axes.images[0].get_array(), np.nan)[1].tolist()[0] == 0.97
    assert np.isnan(np.ma.filled(axes.images[0].get_array(), np.nan)[1, 1])
    assert len(axes.texts) == 3


def test_the_look_of_other_figures_is_left_alone(drawn, shares):
    before = dict(mpl.rcParams)
    drawn(draw_shares, shares())
    assert dict(mpl.rcParams) == before
