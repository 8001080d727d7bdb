"""Tables of the documents, one function per table; the record and its renderers are in `report.record`."""
