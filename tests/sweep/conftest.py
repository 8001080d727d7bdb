import pytest


@pytest.fixture
def grid_file(tmp_path):
    """A function that writes a grid file."""

    def write(text, name="grid.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
