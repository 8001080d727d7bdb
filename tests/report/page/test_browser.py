"""The page in a browser: layout, drawing, theme, downloads."""

import csv
import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from concordant.report.page import RunDocuments, write_report

pytestmark = pytest.mark.browser

CHROMIUM = Path(shutil.which("chromium") or "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(example, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report([example], path)
    return path


@pytest.fixture
def visit(chromium):
    """Return a function that opens a page; whatever goes wrong on it, or leaves it, fails the test."""
    wrong, contexts = [], []

    def go(path, width=1440, scheme="light", anchor=""):
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda one: wrong.append(one.text) if one.type in ("error", "warning") else None)
        page.on("pageerror", lambda one: wrong.append(str(one)))
        page.on("dialog", lambda one: (wrong.append(f"dialog {one.message}"), one.dismiss()))
        page.on(
            "request", lambda one: None if one.url.split(":")[0] in ("file", "data", "blob") else wrong.append(one.url)
        )
        page.goto(f"{path.as_uri()}{anchor}")
        return page

    yield go
    for context in contexts:
        context.close()
    assert wrong == []


def draw_all(page):
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(
        "() => [...document.querySelectorAll('[data-figure]')].every((one) => one.querySelector('.main-svg'))"
    )


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_section_is_seen_and_nothing_flows_over(visit, report, width, scheme):
    page = visit(report, width, scheme)
    draw_all(page)
    sections = page.locator("main > section")
    assert sections.count() == 8
    for number in range(8):
        box = sections.nth(number).bounding_box()
        assert sections.nth(number).is_visible()
        assert box["height"] > 100
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for plot in page.locator(".plot").all():
        inner = plot.locator(".main-svg").first.bounding_box()
        assert inner["width"] <= plot.bounding_box()["width"]


def test_figures_are_drawn_when_they_come_into_view(visit, report):
    page = visit(report)
    assert page.locator("#features-0-map .main-svg").count() == 0
    page.locator("#features-0-map").scroll_into_view_if_needed()
    page.wait_for_selector("#features-0-map .main-svg")
    assert page.locator("#features-0-map .plot").get_attribute("role") == "img"


def test_the_theme_switch_changes_the_background_and_is_remembered(visit, report):
    page = visit(report)
    page.locator("#comparison-0-accuracy .plot").scroll_into_view_if_needed()  # figures are drawn when they are seen
    page.wait_for_selector("#comparison-0-accuracy .main-svg")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    paper = "document.querySelector('#comparison-0-accuracy .plot')._fullLayout.paper_bgcolor"
    button = page.locator("#theme")
    assert (page.evaluate(ground), page.evaluate(paper)) == ("rgb(255, 255, 255)", "#ffffff")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert (page.evaluate(ground), page.evaluate(paper)) == ("rgb(21, 24, 27)", "#15181b")
    assert button.get_attribute("aria-pressed") == "true"
    for _ in range(20):  # the browser commits what a page stores a moment later, and a reload may be quicker
        page.wait_for_timeout(100)
        page.reload()
        if page.evaluate(ground) == "rgb(21, 24, 27)":
            break
    assert page.evaluate(ground) == "rgb(21, 24, 27)"


def test_the_theme_follows_the_system_until_it_is_chosen(visit, report):
    page = visit(report, scheme="dark")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(21, 24, 27)"


def point_at(page, selector, trace, point):
    """Move the mouse to a mark; return what its label says."""
    page.locator(f"{selector} .plot").scroll_into_view_if_needed()
    page.wait_for_selector(f"{selector} .main-svg")
    x, y = page.evaluate(
        """([selector, trace, point]) => {
          const plot = document.querySelector(`${selector} .plot`), one = plot._fullData[trace];
          const x = plot._fullLayout[one.xaxis.replace('x', 'xaxis')];
          const y = plot._fullLayout[one.yaxis.replace('y', 'yaxis')];
          const box = plot.getBoundingClientRect();
          return [box.left + x._offset + x.d2p(one.x[point]), box.top + y._offset + y.d2p(one.y[point])];
        }""",
        [selector, trace, point],
    )
    page.mouse.move(x, y)
    page.wait_for_selector(f"{selector} .hoverlayer .hovertext")
    return page.locator(f"{selector} .hoverlayer").text_content(), page.evaluate(
        "([s, t, p]) => document.querySelector(`${s} .plot`)._fullData[t].text[p]", [selector, trace, point]
    )


def test_pointing_at_an_instance_shows_its_id_class_and_reliability(visit, report, example):
    page = visit(report)
    shown, text = point_at(page, "#features-0-map", 3, 0)
    number = next(n for n, label in enumerate(example.features["points"]["label"]) if label == 3)
    # Another mark may lie on top of it; the map of every instance is tested elsewhere.
    assert text.startswith(example.features["points"]["id"][number])
    assert any(one in shown for one in example.features["points"]["id"])
    assert "digit" in shown
    assert "audio 0." in shown


def test_a_hostile_id_is_shown_as_text(visit, hostile, tmp_path):
    features = {**hostile.features, "points": {**hostile.features["points"]}}
    points = features["points"]
    for key in ("id", "label", "prediction"):
        points[key] = points[key][:1]
    points["reliability"] = {name: values[:1] for name, values in points["reliability"].items()}
    points["maps"] = {
        name: {kind: {side: rows[:1] for side, rows in one.items()} for kind, one in both.items()}
        for name, both in points["maps"].items()
    }
    write_report([replace(hostile, features=features)], tmp_path / "report.html")
    page = visit(tmp_path / "report.html")
    draw_all(page)
    shown, _ = point_at(page, "#features-0-map", 0, 0)
    assert HOSTILE in shown
    assert page.locator("h1").text_content() == HOSTILE


def test_a_select_changes_what_is_drawn(visit, report):
    page = visit(report)
    draw_all(page)
    places = "document.querySelector('#features-0-map .plot')._fullData[0].x.join()"
    before = page.evaluate(places)
    page.locator("#features-0-map select").nth(1).select_option(label="t-SNE")
    assert page.evaluate(places) != before
    panels = "document.querySelectorAll('#dynamics-0-dynamics .plot .cartesianlayer .subplot').length"
    assert page.evaluate(panels) == 1
    page.locator("#dynamics-0-dynamics select").select_option(index=6)
    assert page.evaluate(panels) == 4


def rows_of(page, identity):
    return page.evaluate(
        "(id) => [...document.querySelectorAll(`#${id} tr`)].map((r) => [...r.cells].map((c) => c.textContent.trim()))",
        identity,
    )


def test_a_csv_holds_what_the_table_shows(visit, report):
    page = visit(report)
    for identity in ("comparison-0-comparisons", "distrusted-0-distrusted"):
        with page.expect_download() as waiting:
            page.locator(f"[data-csv='{identity}']").click()
        assert waiting.value.suggested_filename == f"{identity}.csv"
        text = Path(waiting.value.path()).read_text(encoding="utf-8")
        assert list(csv.reader(io.StringIO(text, newline=""))) == rows_of(page, identity)


def test_a_csv_holds_no_formula(visit, example, tmp_path):
    features = {**example.features, "distrusted": [{**example.features["distrusted"][0], "id": '=HYPERLINK("x")'}]}
    write_report([RunDocuments("one", results=example.results, features=features)], tmp_path / "report.html")
    page = visit(tmp_path / "report.html")
    with page.expect_download() as waiting:
        page.locator("[data-csv='distrusted-0-distrusted']").click()
    rows = list(csv.reader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8"))))
    assert rows[1][:5] == ['\'=HYPERLINK("x")', "audio", "0.05", "0.93", "-6.0"]


def test_a_head_sorts_its_column_both_ways(visit, report):
    page = visit(report)
    head = page.locator("#comparison-0-comparisons th").nth(3)
    numbers = lambda: [float(row[3]) for row in rows_of(page, "comparison-0-comparisons")[1:]]  # noqa: E731
    original = numbers()
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers() == sorted(original) != original
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert numbers() == sorted(original, reverse=True)


@pytest.mark.parametrize(("format_", "start"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_a_figure_is_saved_as_a_picture(visit, report, format_, start):
    page = visit(report)
    with page.expect_download() as waiting:
        page.locator(f"#severity-0-severity [data-image='{format_}']").click()
    assert waiting.value.suggested_filename == f"severity-0-severity.{format_}"
    assert Path(waiting.value.path()).read_bytes().startswith(start)


def test_the_keyboard_reaches_the_skip_link_first(visit, report):
    page = visit(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
