"""The report: one self-contained HTML page about one or several runs."""

from concordant.report.folder import RunDocuments, read_all, read_documents
from concordant.report.page.render import render, write_report

__all__ = ["RunDocuments", "read_all", "read_documents", "render", "write_report"]
