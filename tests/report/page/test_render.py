import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from concordant.errors import UsageError
from concordant.report.page import RunDocuments, render, write_report
from concordant.report.page.render import POLICY, json_text

SECTIONS = [
    "Verdict",
    "Comparison",
    "Severity",
    "Removal",
    "Training dynamics",
    "Features",
    "Distrusted instances",
    "Appendix",
]


class Elements(HTMLParser):
    """All elements with their attributes, and the text outside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text, self._hidden = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._hidden = False

    def handle_data(self, data):
        if not self._hidden:
            self.text.append(data)


@pytest.fixture(scope="module")
def page(example):
    return render([example])


def test_the_page_has_its_sections_and_navigation(page):
    found = Elements(page)
    anchors = [a["href"] for tag, a in found.found if tag == "a"]
    identities = [a["id"] for _, a in found.found if "id" in a]
    assert len(identities) == len(set(identities))
    assert anchors[0] == "#main"
    assert [anchor.removeprefix("#") for anchor in anchors[1:]] == [
        a["id"] for tag, a in found.found if tag == "section"
    ]
    assert {anchor.removeprefix("#") for anchor in anchors} <= set(identities)
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", page) == SECTIONS
    assert ("html", {"lang": "en"}) in found.found
    assert ("meta", {"charset": "utf-8"}) in found.found


def test_nothing_on_the_page_loads_from_elsewhere(page):
    for tag, attributes in Elements(page).found:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attributes.get(name, "#")[:1] == "#" or attributes[name].startswith("data:"), (tag, name)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_forbids_connections(page):
    metas = [a for tag, a in Elements(page).found if tag == "meta" and "http-equiv" in a]
    assert metas == [{"http-equiv": "Content-Security-Policy", "content": POLICY}]
    assert "connect-src 'none'" in POLICY
    assert "default-src 'none'" in POLICY
    assert "unsafe-eval" not in POLICY


def test_the_same_documents_give_the_same_page(page, example):
    assert render([example]) == page


def test_hostile_names_are_text_and_nothing_else(hostile, page):
    found = render([hostile])
    elements = Elements(found)
    plain = Elements(page)
    count = lambda one, tag: sum(name == tag for name, _ in one.found)  # noqa: E731
    assert count(elements, "script") == count(plain, "script")
    assert "<script>alert(1)" not in found
    assert "<script>alert(1)</script>" in "".join(elements.text)  # shown as text
    specs = re.findall(r'<script type="application/json" class="spec">(.*?)</script>', found, re.DOTALL)
    assert len(specs) >= 11
    for spec in specs:
        json.loads(spec)
        assert "<" not in spec


def test_a_section_that_was_not_analysed_names_the_command(example):
    found = render([RunDocuments("one", results=example.results, folder="runs/my one")])
    codes = list(map(unescape, re.findall(r"<code>(.*?)</code>", found)))
    assert "concordant stress 'runs/my one' --corruption" in codes
    assert "concordant stress 'runs/my one' --removal" in codes
    assert codes.count("concordant inspect 'runs/my one'") == 2
    assert any(
        code.startswith("concordant run av-digits") and code.endswith("--dynamics --out FOLDER") for code in codes
    )


def test_several_runs_have_a_block_each_and_one_joint_table(example, real):
    found = render([example, real("utd-mhad"), real("grid-av-digits")])
    assert "<h1>3 runs</h1>" in found
    assert re.findall(r'id="(comparison-\d)"', found) == ["comparison-0", "comparison-1", "comparison-2"]
    assert found.count('class="table" id="all-joint"') == 1
    assert len(set(re.findall(r' id="([^"]+)"', found))) == len(re.findall(r' id="([^"]+)"', found))


def test_the_appendix_has_settings_and_commands(example):
    page = render([replace(example, dynamics=None)])
    appendix = page[page.index('<section id="appendix"') :]
    assert "<dt>version of torch</dt><dd>2.13.0+cpu</dd>" in appendix
    command = (
        "concordant run av-digits --fusion transformer --calibrators none,gmu,context --seeds 3 --protocol speakers"
    )
    assert command in appendix
    assert "concordant stress runs/example --removal" in appendix
    assert "2 of 64 features are the same in every instance" in appendix


def test_a_page_stays_small(page, maker):
    assert len(page.encode()) < 1e6
    labels = ("none", "none+perturbed", "gmu", "context")
    grid = maker.example_grid(rows=10, seeds=10, labels=labels, modalities=("text", "audio", "vision"))
    assert len(render([grid]).encode()) < 8e6


def test_the_report_is_written_as_one_file(example, tmp_path):
    path = tmp_path / "deep" / "report.html"
    write_report([RunDocuments("one", results=example.results)], path)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [one.name for one in path.parent.iterdir()] == ["report.html"]


def test_nothing_to_report_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match=r"^documents must hold one run or more; found none; name the folder of a run$"
    ):
        write_report([], tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_json_cannot_end_its_script_and_stays_the_same():
    value = {"a": "</script><!--", "b": "\u2028&", "c": [1.5, None]}
    text = json_text(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(float("nan"))
