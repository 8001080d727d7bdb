"""The page in a browser: layout, drawing, theme, downloads. Tests that leave a page as it was share one."""

import csv
import io
import shutil
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


@pytest.fixture(scope="module")
def opened(chromium):
    """Return a function that opens a page, and what went wrong on any page or left it."""
    wrong = []

    def go(path, width=1280, scheme="light", anchor=""):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.on("console", lambda one: wrong.append(one.text) if one.type in ("error", "warning") else None)
        page.on("pageerror", lambda one: wrong.append(str(one)))
        page.on("dialog", lambda one: (wrong.append(f"dialog {one.message}"), one.dismiss()))
        page.on("request", lambda one: None if one.url.split(":")[0] in ("file", "data") else wrong.append(one.url))
        page.goto(f"{path.as_uri()}{anchor}")
        return page

    return go, wrong


@pytest.fixture
def visit(opened):
    """Return a function that opens a page of its own; whatever goes wrong on it, or leaves it, fails the test."""
    go, wrong = opened
    wrong.clear()
    pages = []

    def one(*args, **options):
        pages.append(go(*args, **options))
        return pages[-1]

    yield one
    for page in pages:
        page.context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def shared(opened, report):
    """The report with all that is folded open, shared by tests that change nothing that others look at."""
    page = opened[0](report)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    return page


@pytest.fixture
def page(shared, opened):
    opened[1].clear()
    yield shared
    assert opened[1] == []


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_nothing_flows_over_and_every_figure_is_drawn(visit, report, width, scheme):
    page = visit(report, width, scheme)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = page.evaluate(
        """() => [...document.querySelectorAll("main > section, .plot, .card, .gallery article")].map((one) => {
          const { x, width, height } = one.getBoundingClientRect();
          return [one.className || one.id, x, width, height];
        })"""
    )
    assert len(boxes) > 8 + 10 + 4
    for name, x, wide, high in boxes:
        assert x >= 0, name
        assert x + wide <= width, name
        assert high > 40, name
    outside = page.evaluate(
        """() => [...document.querySelectorAll(".plot > svg")].flatMap((svg) => {
          const all = svg.getBoundingClientRect();
          return [...svg.querySelectorAll("text, path, image")].filter((one) => {
            const box = one.getBoundingClientRect();
            const high = box.top < all.top - 1 || box.bottom > all.bottom + 1;
            return high || box.left < all.left - 1 || box.right > all.right + 1;
          }).map((one) => `${svg.closest("figure").id}: ${one.outerHTML}`);
        })"""
    )
    assert outside == []  # nothing is clipped
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert ground == ("rgb(21, 24, 27)" if scheme == "dark" else "rgb(255, 255, 255)")  # as the system prefers


def test_the_verdict_comes_first_and_details_are_folded(visit, report):
    page = visit(report)
    cards = page.locator("#verdict .card")
    assert cards.count() == 4
    box = cards.nth(3).bounding_box()
    assert box["y"] + box["height"] < 900
    height = "document.documentElement.scrollHeight"
    before = page.evaluate(height)
    page.evaluate(f"scrollTo(0, {height})")
    page.wait_for_timeout(200)
    assert page.evaluate(height) == before  # nothing moves away from under a click
    page.evaluate("scrollTo(0, 0)")
    assert page.locator("details.table[open]").count() == 0
    table = page.locator("#comparison-0-scores table")
    assert not table.is_visible()
    page.locator("#comparison-0-scores summary").focus()
    page.keyboard.press("Enter")
    assert table.is_visible()


def test_a_link_into_a_folded_part_opens_it(visit, report):
    page = visit(report, anchor="#removal-0-removal")
    assert page.locator("#removal-0-removal table").is_visible()


def test_the_theme_switch_changes_the_colours_and_is_remembered(visit, report):
    page = visit(report)
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    ink = "getComputedStyle(document.querySelector('#comparison-0-accuracy text')).fill"
    button = page.locator("#theme")
    assert (page.evaluate(ground), page.evaluate(ink)) == ("rgb(255, 255, 255)", "rgb(28, 32, 36)")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert (page.evaluate(ground), page.evaluate(ink)) == ("rgb(21, 24, 27)", "rgb(227, 230, 233)")
    assert button.get_attribute("aria-pressed") == "true"
    for _ in range(20):  # the browser commits what a page stores a moment later, and a reload may be quicker
        page.wait_for_timeout(100)
        page.reload()
        if page.evaluate(ground) == "rgb(21, 24, 27)":
            break
    assert page.evaluate(ground) == "rgb(21, 24, 27)"


def test_pointing_at_an_instance_shows_its_id_class_and_reliability(page, example):
    page.locator("#features-0-map .plot svg > g[opacity]").nth(200).hover(force=True)
    shown = page.locator(".tip").text_content()
    assert any(one in shown for one in example.features["points"]["id"])
    assert "digit" in shown
    assert "audio 0." in shown


def test_keys_go_from_mark_to_mark(page):
    page.locator("#comparison-0-accuracy .plot").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator(".tip").text_content()
    assert first.startswith("none, clean\n")
    page.keyboard.press("ArrowRight")
    assert page.locator(".tip").text_content().startswith("none, perturbed\n")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".tip").text_content() == first
    page.keyboard.press("Escape")
    assert not page.locator(".tip").is_visible()


def test_an_entry_of_the_legend_hides_and_shows_its_lines(page):
    lines = page.locator("#severity-0-severity .plot svg > path[stroke-dasharray='2 3']")
    entry = page.locator("#severity-0-severity .entry", has_text="none, clean")
    before = lines.count()
    assert before > 0
    entry.focus()
    page.keyboard.press("Enter")
    assert entry.get_attribute("aria-pressed") == "false"
    assert lines.count() == 0
    page.keyboard.press(" ")  # the focus is where it was
    assert lines.count() == before


def test_a_hostile_id_is_shown_as_text(visit, hostile, tmp_path):
    write_report([hostile], tmp_path / "report.html")
    page = visit(tmp_path / "report.html")
    page.locator("#features-0-map .plot").focus()
    page.keyboard.press("ArrowRight")
    assert HOSTILE in page.locator(".tip").text_content()
    assert page.locator("h1").text_content() == HOSTILE
    assert page.locator("#distrusted h4", has_text=HOSTILE).count() > 0


def test_a_select_changes_what_is_drawn(page):
    drawing = "document.querySelector('#features-0-map .plot').innerHTML"
    before = page.evaluate(drawing)
    page.locator("#features-0-map select").nth(1).select_option(label="t-SNE")
    assert page.evaluate(drawing) != before
    frames = page.locator("#dynamics-0-dynamics .axis")
    assert frames.count() == 1
    page.locator("#dynamics-0-dynamics select").select_option(index=6)
    assert frames.count() == 4


def test_an_axis_that_does_not_start_at_zero_says_so(page):
    for figure in ("comparison-0-accuracy", "removal-0-subsets"):
        label = page.locator(f"#{figure} text", has_text="accuracy, %").first.text_content()
        first = page.locator(f"#{figure} text[text-anchor='middle']").first.text_content()
        assert label == ("accuracy, %" if first == "0" else f"axis from {first}: accuracy, %")


def rows_of(page, identity):
    return page.evaluate(
        "(id) => [...document.querySelectorAll(`#${id} tr`)].map((r) => [...r.cells].map((c) => c.textContent.trim()))",
        identity,
    )


def downloaded(page, selector):
    with page.expect_download() as waiting:
        page.locator(selector).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def test_a_csv_holds_what_the_table_shows(page):
    for identity in ("comparison-0-comparisons", "distrusted-0-distrusted"):
        name, data = downloaded(page, f"[data-csv='{identity}']")
        assert name == f"{identity}.csv"
        assert list(csv.reader(io.StringIO(data.decode(), newline=""))) == rows_of(page, identity)


def test_a_csv_holds_no_formula(visit, example, tmp_path):
    features = {**example.features, "distrusted": [{**example.features["distrusted"][0], "id": '=HYPERLINK("x")'}]}
    write_report([RunDocuments("one", features=features)], tmp_path / "report.html")
    page = visit(tmp_path / "report.html", anchor="#distrusted-0-distrusted")
    _, data = downloaded(page, "[data-csv='distrusted-0-distrusted']")
    rows = list(csv.reader(io.StringIO(data.decode())))
    assert rows[1][:5] == ['\'=HYPERLINK("x")', "audio", "0.05", "0.93", "-6.0"]


def test_a_head_sorts_its_column_both_ways(page):
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
def test_a_figure_is_saved_as_a_picture_without_variables_of_the_page(page, format_, start):
    name, data = downloaded(page, f"#severity-0-severity [data-image='{format_}']")
    assert name == f"severity-0-severity.{format_}"
    assert data.startswith(start)
    assert b"var(" not in data


def test_the_keyboard_reaches_the_skip_link_first(visit, report):
    page = visit(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
