"""One evaluation of a tiny model for all tests; it costs seconds, so it is made once."""

import pytest
import tiny_models as tiny
from evaluation_builders import N_CASES, Evaluated, phantom_rows, write_manifest

from medmm.checkpoint import save_model
from pipelines.evaluation.run import EvaluationJob, evaluate

CARD = "# tiny\n\n## Data\nPhantoms <b>of noise</b>.\n\n## Limits\nKnows nothing.\n"


@pytest.fixture(scope="package")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("evaluation")
    rows = phantom_rows(folder, N_CASES)
    rows[3]["volumes"] = "flair=gone.nii.gz"
    rows[4]["label.kind"] = ""
    rows[5]["case"] = "<script>alert(1)</script>"
    manifest = write_manifest(folder, rows)
    for name, seed in (("model", 0), ("other", 1)):
        model = tiny.build_model(tiny.build_config(), seed=seed)
        tiny.mark(model, 3.0)
        save_model(folder / name, model, metrics={}, card=CARD)
    job = EvaluationJob(
        model=str(folder / "model"), manifest=manifest, output=folder / "out", against=str(folder / "other"),
        n_resamples=100, device="cpu",
    )  # fmt: skip
    return Evaluated(folder, manifest, folder / "model", folder / "other", evaluate(job))
