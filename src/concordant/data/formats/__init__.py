"""The files that people have, as published: one module a format, each read and checked without running what it says."""
