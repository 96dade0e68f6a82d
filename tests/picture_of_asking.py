"""The picture of the page in docs/serving.md: the demo's champion, asked a held-out question.

``make demo``, ``retune serve models:/text-to-sql-pt@champion --log-requests served``, and then
``python -m tests.picture_of_asking http://127.0.0.1:8000/ docs/images/asking.png``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.driven_browser import drive
from tests.tiny_models import REPOSITORY

ASSETS = REPOSITORY / "assets" / "text_to_sql_pt"
WIDTH = 900


def take_picture(address: str, file: Path) -> str:
    """Ask the first held-out question with its tables, and write what the page shows.

    Args:
        address: Of the server.
        file: PNG to write.

    Returns:
        What was answered.
    """
    row = json.loads((ASSETS / "test.jsonl").read_text("utf-8").splitlines()[0])
    lines = (ASSETS / "databases.jsonl").read_text("utf-8").splitlines()
    [script] = [each["context"] for each in map(json.loads, lines) if each["db_id"] == row["db_id"]]
    with tempfile.TemporaryDirectory() as folder, drive(Path(folder)) as browser:
        browser.open(address, width=WIDTH)
        browser.wait_for("document.querySelector('#state').textContent.startsWith('ready')")
        browser.write(row["question"])
        browser.tab_to("Schema – CREATE statements, for questions about tables")
        browser.write(script)
        browser.press("Enter", control=True)
        browser.wait_for("document.querySelector('#told').textContent.includes('there.')")
        browser.run("document.activeElement.blur()")
        browser.run("document.querySelector('#schema').scrollTop = 0")
        browser.take_picture(file)
        assert browser.faults == []
        return browser.text(".answer")


if __name__ == "__main__":
    print(take_picture(sys.argv[1], Path(sys.argv[2])))
