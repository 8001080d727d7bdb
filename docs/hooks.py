"""The hooks of MkDocs and mkdocstrings: pages from outside docs/, and the API reference.

A page may link to any file of the repository, by its path as on a forge. The linked file becomes part of the site at
its repository path (files of docs/ lie at the top), and the links are rewritten. The reference has one page per section
of docs/api.md, made of the docstrings of the names in its table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from textwrap import indent
from typing import Any

from griffe import Extension, Object
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
NAME = re.compile(r"^\| `(concordant\.[\w.]+)`", re.MULTILINE)  # a row of docs/api.md
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")


class Doctests(Extension):
    """Shows the doctests of docstrings as examples; Markdown would take them for quotations."""

    def on_object(self, *, obj: Object, **_: Any) -> None:  # noqa: ANN401
        """Put every doctest of an object's docstring below a heading."""
        if obj.docstring is not None:
            examples = re.compile(r"^>>> (?:.+(?:\n|\Z))+", re.MULTILINE)
            obj.docstring.value = examples.sub(
                lambda found: f"Examples:\n{indent(found[0], '    ')}", obj.docstring.value
            )


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the reference, and the files outside docs/ that the navigation or a page names."""
    for uri, text in reference((ROOT / "docs" / "api.md").read_text(encoding="utf-8")).items():
        files.append(File.generated(config, uri, content=text))
    wanted = [*_leaves(config.nav), *(file.src_uri for file in files.documentation_pages())]
    for uri in wanted:  # grows while it is gone through
        path = ROOT / _repository_path(uri)
        if files.get_file_from_path(uri) is None and path.is_file():
            files.append(File.generated(config, uri, abs_src_path=str(path)))
        if uri.endswith(".md") and path.is_file():
            found = (_site_path(target) for target in links(path.read_text(encoding="utf-8"), _repository_path(uri)))
            wanted += [target for target in found if target not in wanted]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links between files of the repository to links between pages of the site."""
    uri = page.file.src_uri
    if uri == "README.md":
        page.meta["hide"] = ["navigation"]
    if uri == "api.md":
        markdown = NAME.sub(lambda row: f"| [`{row[1]}`][{_documented(row[1])}]", markdown)
    if uri.startswith("results/"):
        page.meta["search"] = {"exclude": True}  # numbers alone

    def rewrite(link: re.Match[str]) -> str:
        target = _site_path(normpath(join(dirname(_repository_path(uri)), link[1])))
        return f"]({relpath(target, dirname(uri) or '.')}"

    parts = CODE.split(markdown)
    return "".join(part if place % 2 else LINK.sub(rewrite, part) for place, part in enumerate(parts))


def links(markdown: str, path: str) -> Iterator[str]:
    """Return the repository paths that a document at a repository path links to, without those in code."""
    for link in LINK.findall(CODE.sub("", markdown)):
        yield normpath(join(dirname(path), link))


def reference(api: str) -> dict[str, str]:
    """Return the pages of the reference by path: a section of docs/api.md and the docstrings of its names."""
    pages = {}
    for title, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", api, re.DOTALL | re.MULTILINE):
        if names := NAME.findall(body):
            blocks = [f"::: {_documented(name)}\n    options: {{heading: {name}}}" for name in names]
            pages[f"reference/{title.lower().replace(' ', '-')}.md"] = "\n\n".join([f"# {title}", *blocks])
    return pages


def _documented(name: str) -> str:
    """Return the path at which the docstring of a public name is found."""
    return "concordant.attach.attach" if name == "concordant.attach" else name  # the package has that name, too


def _leaves(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif nav:
        for item in nav.values() if isinstance(nav, dict) else nav:
            yield from _leaves(item)


def _repository_path(uri: str) -> str:
    uri = re.sub(r"^(results/proof/.*)\.txt$", r"\1.md", uri)
    return f"docs/{uri}" if (ROOT / "docs" / uri).exists() else uri


def _site_path(path: str) -> str:
    """Return where a file of the repository lies in the site; the tables of the proof, up to 1 MB, stay plain text."""
    return re.sub(r"^(results/proof/.*)\.md$", r"\1.txt", path.removeprefix("docs/"))
