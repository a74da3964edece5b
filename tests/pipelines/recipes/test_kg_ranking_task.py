"""What the graph's ranking task reads of a MedPix-shaped folder."""

import csv
import json
from pathlib import Path

from pipelines.recipes.kg_evaluation.ranking import read_task

CASE = {"dx_id": "D1", "t3_eligible": True, "dx_named_in_text": False, "history": "h", "exam": "e", "findings": "f"}


def test_candidate_names_are_read_without_entities_of_web_pages(tmp_path: Path) -> None:
    with (tmp_path / "candidates.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(("dx_id", "name", "aliases"))
        rows.writerow(("D1", "Bow Hunter&#39;s syndrome", "Rotational occlusion &amp; syncope | "))
        rows.writerow(("D2", "Celiac & iliac aneurysms", ""))
    (tmp_path / "cases_dev.jsonl").write_text(json.dumps(CASE) + "\n", encoding="utf-8")

    task = read_task(tmp_path, ("dev",))

    assert task.names == {
        "D1": ("Bow Hunter's syndrome", "Rotational occlusion & syncope"),
        "D2": ("Celiac & iliac aneurysms",),
    }
    assert task.truth.tolist() == [0]
