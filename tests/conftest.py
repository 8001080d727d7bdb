import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder():
    """The folder of real data: the one that CONCORD_DATA names, or shared/data beside the repository."""
    named = os.environ.get("CONCORD_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data are not in {folder}; CONCORD_DATA names another folder")
    return folder
