"""What a case gives to the model: evidence for the graph, features, batches."""

import numpy as np
import pytest
import tiny_models as tiny
import torch

import kg
from kg import KnowledgeGraph
from medmm.encoders.text import TextEncoder
from medmm.evidence import Evidence, answer_concepts, concept_vectors, report_evidence, seeds, walk_scores
from medmm.inputs import CaseFeatures, CaseReader, collate
from medmm.types import Case, Record, Report


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder(str(tiny.write_tiny_bert(tmp_path_factory.mktemp("bert"))), 64)


@pytest.fixture(scope="module")
def reader(graph: KnowledgeGraph, text_encoder: TextEncoder) -> CaseReader:
    model = tiny.build_model(tiny.build_config(graph=graph, text="bert"))
    return CaseReader(model, text_encoder, graph)


def weights(text: str, graph: KnowledgeGraph) -> dict[str, float]:
    return {item.concept: item.weight for item in report_evidence(kg.link(text, graph), graph)}


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("Ring enhancement.", 1.0),
        ("No ring enhancement.", -1.0),
        ("Possible ring enhancement.", 0.5),
        ("No ring enhancement. Ring enhancement on the left.", 1.0),
        ("Possible ring enhancement. No ring enhancement.", 0.5),
    ],
)
def test_evidence_weighs_what_the_report_says_of_a_concept(text: str, weight: float, graph: KnowledgeGraph) -> None:
    assert weights(text, graph) == {tiny.RING: weight}


@pytest.mark.bad_input("E8")
def test_what_relatives_had_is_no_evidence(graph: KnowledgeGraph) -> None:
    assert weights("Family history: brother had glioblastoma.", graph) == {}


@pytest.mark.bad_input("E8")
def test_only_affirmed_concepts_start_a_walk(graph: KnowledgeGraph) -> None:
    evidence = report_evidence(kg.link("Ring enhancement. No dural tail.", graph), graph)

    assert seeds(evidence, frozenset(), graph) == {tiny.RING: 1.0}


@pytest.mark.parametrize("name", ["Glioblastoma", "Meningioma", "Grade four astrocytic neoplasm"])
def test_an_answer_and_its_twin_never_start_a_walk(name: str, reader: CaseReader) -> None:
    view = reader.read(Case(case_id="a", report=Report(text=f"{name} is seen.")))

    assert view.mentions
    assert view.features.subgraph is None
    assert view.features.walk == {}


def test_answers_and_what_matches_them_are_excluded(graph: KnowledgeGraph) -> None:
    excluded = answer_concepts(tiny.LABELS.tasks, graph)

    assert excluded == {tiny.GLIOBLASTOMA, tiny.GLIOBLASTOMA_TWIN, tiny.MENINGIOMA}


def test_the_stronger_of_two_origins_of_one_concept_counts(graph: KnowledgeGraph) -> None:
    both = [
        Evidence(concept=tiny.RING, weight=1.0, origin="report"),
        Evidence(concept=tiny.RING, weight=0.6, origin="image"),
    ]

    assert seeds(both, frozenset(), graph) == {tiny.RING: 1.0}


def test_a_walk_from_a_finding_favours_its_disease(graph: KnowledgeGraph) -> None:
    scores = graph.personalised_pagerank({tiny.RING: 1.0})

    values = walk_scores(scores, graph, tiny.KIND)

    assert values.argmax() == tiny.KIND.index("glioblastoma")
    assert values[tiny.KIND.index("other")] == 0


def test_a_class_without_concept_has_an_empty_vector(graph: KnowledgeGraph) -> None:
    vectors = concept_vectors(graph, tiny.KIND)

    assert not vectors[2].any()
    assert vectors[0].any()


@pytest.mark.bad_input("F5")
def test_nothing_known_to_the_graph_is_noted(reader: CaseReader) -> None:
    view = reader.read(Case(case_id="a", report=Report(text="The patient was here."), volumes={}))

    assert "kg.no_match" in {note.code for note in view.notes}


def test_an_unusable_field_of_the_record_is_noted(reader: CaseReader) -> None:
    view = reader.read(Case(case_id="a", record=Record(values={"age_years": 400.0, "sex": "F"})))

    assert [note.code for note in view.notes if "age_years" in note.message] == ["record.value"]


def test_a_record_without_usable_field_is_absent(reader: CaseReader) -> None:
    view = reader.read(Case(case_id="a", record=Record(values={"age_years": 400.0})))

    assert not any(view.features.present)


def test_a_blank_report_is_absent(reader: CaseReader) -> None:
    assert not any(reader.read(Case(case_id="a", report=Report(text=" \n"))).features.present)


def test_a_batch_answers_what_its_cases_answer_alone(reader: CaseReader) -> None:
    cases = [
        tiny.build_case(1),
        Case(case_id="b", record=Record(values={"sex": "F"})),
        Case(case_id="c", volumes=tiny.build_phantom(2, (32, 32, 4)).volumes),
        Case(case_id="d", report=Report(text="Dural tail.")),
    ]
    features = [reader.read(case).features for case in cases]

    with torch.no_grad():
        together = reader.model(collate(features, reader)).logits

    for row, one in enumerate(features):
        with torch.no_grad():
            alone = reader.model(collate([one], reader)).logits
        for name in ("kind", "grade"):
            torch.testing.assert_close(together[name][row], alone[name][0], rtol=1e-4, atol=1e-5)


def test_a_case_with_nothing_gets_the_prior_whatever_is_beside_it(reader: CaseReader) -> None:
    nothing, full = CaseFeatures(), reader.read(tiny.build_case(1)).features

    with torch.no_grad():
        beside = reader.model(collate([full, nothing], reader)).logits["kind"][1]
        alone = reader.model(collate([nothing], reader)).logits["kind"][0]

    torch.testing.assert_close(beside, alone)


def test_the_same_case_gives_the_same_features(reader: CaseReader) -> None:
    first, second = (reader.read(tiny.build_case(1)).features for _ in range(2))

    assert first.summary is not None and second.summary is not None
    assert torch.equal(first.summary.lesion, second.summary.lesion)
    assert np.array_equal(first.walk["kind"], second.walk["kind"])


@pytest.mark.bad_input("G4")
def test_a_text_encoder_of_another_width_is_refused(text_encoder: TextEncoder, graph: KnowledgeGraph) -> None:
    from medmm.errors import UsageError

    config = tiny.build_config(graph=graph, text="bert")
    other = config.model_copy(update={"text": config.text.model_copy(update={"width": 24})})  # type: ignore[union-attr]

    with pytest.raises(UsageError, match="text encoder of width 24") as caught:
        CaseReader(tiny.build_model(other), text_encoder, graph)

    assert caught.value.code == "model.mismatch"
