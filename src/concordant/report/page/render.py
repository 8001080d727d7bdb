"""Render documents as one self-contained HTML file: styles, scripts, pictures and the numbers.

The page fetches nothing. Names and ids come from data files and are not trusted: template and renderers escape them,
and the embedded JSON has no "<" that could end a script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from concordant.errors import DataError, UsageError, foreign
from concordant.files import write_text
from concordant.report.figures.base import Figure
from concordant.report.folder import RunDocuments
from concordant.report.page.sections import sections, title_of
from concordant.report.record import Table, html

HERE = Path(__file__).parent / "templates"
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "connect-src 'none'; base-uri 'none'; form-action 'none'"
)


def write_report(documents: Sequence[RunDocuments], path: Path) -> None:
    """Write the report as one HTML file; arguments and errors as for `render`."""
    write_text(path, render(documents))


def render(documents: Sequence[RunDocuments]) -> str:
    """Return the report on one run or several, as `read_documents` returns them, as HTML.

    Raises:
        UsageError: there is nothing to report.
        DataError: documents contradict themselves or each other, as those do that were changed by hand.
    """
    if not documents:
        raise UsageError("documents must hold one run or more; found none; name the folder of a run")
    try:
        return _rendered(documents)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        names = ", ".join(one.name for one in documents)
        reason = f"{type(error).__name__}: {foreign(error)}"
        raise DataError(f"the documents of {names} do not fit together ({reason}); make them again") from error


def _rendered(documents: Sequence[RunDocuments]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

    def embedded(figure: Figure, identity: str) -> Markup:
        return Markup(json_text(figure.embedded(identity)))  # noqa: S704 - json_text escapes it

    def drawn(table: Table, identity: str, folded: bool = True) -> Markup:
        return Markup(html(table, identity, folded=folded))  # noqa: S704 - html escapes every text

    def own(name: str) -> Markup:
        return Markup((HERE / name).read_text(encoding="utf-8"))  # noqa: S704 - a file of this package

    return environment.get_template("report.html.jinja").render(
        title=title_of(documents),
        policy=POLICY,
        sections=sections(documents),
        several=len(documents) > 1 or any(one.rows for one in documents),
        embedded=embedded,
        drawn=drawn,
        style=own("style.css"),
        theme=own("theme.js"),
        script=own("script.js"),
    )


def json_text(value: Any) -> str:  # noqa: ANN401 - plain JSON
    r"""Return JSON that cannot end the script element it stands in.

    >>> print(json_text("</script>"))
    "\u003c/script\u003e"
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
