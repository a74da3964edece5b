"""Normalisation, the trie, abbreviations, context, and the linker over real and small graphs."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kg
from kg.building import build_from_tables
from kg.schema import SUBCLASS_OF, ConceptRecord, RelationRecord, Source, SourceTables, Synonym
from kg.sources.registry import DEFAULT_SOURCES
from kg.text.abbreviations import find_definitions
from kg.text.context import context_of
from kg.text.normalise import normal_name, normalise
from kg.text.trie import TokenTrie
from kg.text.variants import variants


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Wilms' tumours", "wilm tumor"),
        ("Oesophageal varices", "esophageal varices"),
        ("Alzheimer’s Disease", "alzheimer disease"),
        ("Non–small-cell carcinomata", "non small cell carcinoma"),
        ("metastases", "Metastasis"),
        ("vertebrae", "vertebra"),
        ("Ehlers-Danlos syndrome type IV", "ehlers danlos syndrome type 4"),
        ("naïve", "naive"),
    ],
)
def test_spellings_of_one_name_have_one_normal_form(left: str, right: str) -> None:
    assert normal_name(left) == normal_name(right)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_tokens_lie_in_the_text_in_order(text: str) -> None:
    tokens = normalise(text)

    assert len(tokens.tokens) == len(tokens.starts) == len(tokens.ends)
    spans = list(zip(tokens.starts, tokens.ends, strict=True))
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


@settings(deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), max_size=8),
    st.lists(st.sampled_from("abcd"), max_size=20),
)
def test_trie_finds_what_brute_force_finds(phrases: list[list[str]], text: list[str]) -> None:
    trie = TokenTrie()
    values = {tuple(phrase): at for at, phrase in enumerate(phrases)}
    for phrase, value in values.items():
        trie.add(phrase, value)

    found = trie.find(text)

    expected = [
        (start, stop, values[tuple(text[start:stop])])
        for start in range(len(text))
        for stop in range(start + 1, len(text) + 1)
        if tuple(text[start:stop]) in values
    ]
    assert found == expected
    assert all(trie.get(phrase) == value for phrase, value in values.items())
    assert trie.get(["d"]) is None
    assert trie.get([]) is None


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("carcinoma, renal cell", "renal cell carcinoma"),
        ("stenosis of the aorta", "aorta stenosis"),
        ("genetic disease", "genetic disorder"),
        ("von willebrand disease type 2", "type 2 von willebrand disease"),
        ("marie tooth disease type 1", "marie tooth type 1"),
        ("genetic disease", "inherited disorder"),
        ("hereditary breast cancer", "familial breast cancer"),
    ],
)
def test_variants_cover_how_clinicians_turn_names(name: str, other: str) -> None:
    assert other.split() in list(variants(normalise(name).tokens))


def test_definitions_are_found_after_schwartz_and_hearst() -> None:
    text = "He had Wiskott-Aldrich syndrome (WAS) and glucose-6-phosphate dehydrogenase (G6PD) deficiency (see above)."

    found = [(one.short, text[one.start : one.end]) for one in find_definitions(text)]

    assert found == [("WAS", "Wiskott-Aldrich syndrome"), ("G6PD", "glucose-6-phosphate dehydrogenase")]


@pytest.mark.bad_input("E8")
@pytest.mark.parametrize(
    ("sentence", "mention", "expected"),
    [
        ("There is no pneumothorax.", "pneumothorax", ("absent", "patient", "recent")),
        ("Scan is negative for effusion.", "effusion", ("absent", "patient", "recent")),
        ("No mass, but effusion is seen.", "effusion", ("present", "patient", "recent")),
        ("No change in the known mass.", "mass", ("present", "patient", "recent")),
        ("Effusion has resolved.", "Effusion", ("absent", "patient", "recent")),
        ("Effusion is not seen.", "Effusion", ("absent", "patient", "recent")),
        ("Cannot exclude fracture.", "fracture", ("uncertain", "patient", "recent")),
        ("Rule out abscess.", "abscess", ("uncertain", "patient", "recent")),
        ("Suspicious for lymphoma.", "lymphoma", ("uncertain", "patient", "recent")),
        ("Fracture is unlikely.", "Fracture", ("absent", "patient", "recent")),
        ("History of lymphoma.", "lymphoma", ("present", "patient", "historical")),
        ("Stroke two years ago.", "Stroke", ("present", "patient", "historical")),
        ("One-week history of headache.", "headache", ("present", "patient", "recent")),
        ("Mother had breast cancer.", "breast cancer", ("present", "other", "recent")),
        ("Return if fever develops.", "fever", ("present", "patient", "hypothetical")),
        ("Family history: breast cancer.", "breast cancer", ("present", "other", "recent")),
        ("PAST MEDICAL HISTORY: asthma, gout.", "gout", ("present", "patient", "historical")),
        ("Lungs are clear: no further nodules.", "nodules", ("absent", "patient", "recent")),
        ("Non-contrast CT shows hemorrhage.", "hemorrhage", ("present", "patient", "recent")),
        ("No fracture. Effusion.", "Effusion", ("present", "patient", "recent")),
    ],
)
def test_context_of_a_mention(sentence: str, mention: str, expected: tuple[str, str, str]) -> None:
    start = sentence.index(mention)

    found = context_of(sentence, start, start + len(mention))

    assert (found.status, found.experiencer, found.temporality) == expected


def test_span_without_a_word_has_no_context() -> None:
    with pytest.raises(ValueError, match="word in it"):
        context_of("a  b", 1, 2)


def tiny(*concepts: ConceptRecord) -> kg.KnowledgeGraph:
    source = Source(name="hpo", version="1", licence="CC0")
    return build_from_tables([SourceTables(source=source, concepts=list(concepts))])


def test_offsets_survive_normalisation() -> None:
    graph = tiny(ConceptRecord("X:1", "disease", "Wilms tumor"))
    text = "  Résumé: “Wilms’  Tumours” — noted."

    (mention,) = kg.link(text, graph)

    assert text[mention.start : mention.end] == mention.text == "Wilms’  Tumours"


def test_longest_name_wins_and_nothing_overlaps() -> None:
    graph = tiny(
        ConceptRecord("X:1", "disease", "Carcinoma"),
        ConceptRecord("X:2", "disease", "Renal cell carcinoma"),
        ConceptRecord("X:3", "phenotype", "Renal cell"),
    )

    assert [one.concept for one in kg.link("Renal cell carcinoma and carcinoma.", graph)] == ["X:2", "X:1"]


def test_match_does_not_cross_a_comma() -> None:
    graph = tiny(ConceptRecord("X:1", "disease", "Posterior temporal mass"))

    assert kg.link("posterior, temporal mass", graph) == []


def test_abbreviation_counts_in_its_own_case_or_where_defined() -> None:
    graph = tiny(
        ConceptRecord("X:1", "disease", "Spinal muscular atrophy", (Synonym("SMA", "abbreviation"),)),
        ConceptRecord("X:2", "anatomy", "Superior mesenteric artery"),
        ConceptRecord("X:3", "disease", "Adenomatous polyposis", (Synonym("AP", "abbreviation"),)),
    )

    assert [one.concept for one in kg.link("SMA suspected, sma not.", graph)] == ["X:1"]
    defined = kg.link("The superior mesenteric artery (SMA) is patent. SMA measures 8 mm.", graph)
    assert [one.concept for one in defined] == ["X:2", "X:2", "X:2"]
    assert kg.link("AP and lateral views.", graph) == []


def test_long_form_with_its_abbreviation_inside_is_one_name() -> None:
    graph = tiny(ConceptRecord("X:1", "disease", "Glucose-6-phosphate dehydrogenase deficiency"))
    text = "Glucose-6-phosphate dehydrogenase (G6PD) deficiency. Later G6PD deficiency again."

    found = kg.link(text, graph)

    assert [one.text for one in found] == [
        "Glucose-6-phosphate dehydrogenase (G6PD) deficiency",
        "G6PD deficiency",
    ]


def test_batch_equals_single(default_graph: kg.KnowledgeGraph) -> None:
    linker = kg.Linker(default_graph)
    texts = ["Ring-enhancing lesion.", "", "No hydrocephalus; possible abscess."]

    assert linker.link_batch(texts) == [linker.link(text) for text in texts]


def test_embedding_fallback_accepts_flags_or_abstains() -> None:
    import numpy as np

    graph = tiny(ConceptRecord("X:1", "disease", "Alpha"), ConceptRecord("X:2", "disease", "Beta"))
    vectors = {"Alpha": [1.0, 0], "Beta": [0, 1.0], "near": [0.9, 0.436], "so so": [0.75, 0.661], "far": [0.6, -0.8]}
    linker = kg.Linker(graph)

    def embed(texts: list[str]) -> np.ndarray:
        return np.array([vectors[text] for text in texts])

    answers = linker.nearest(["near", "so so", "far"], embed)

    assert [(one.concept, one.method) if one else None for one in answers] == [
        ("X:1", "embedding"),
        ("X:1", "embedding-flagged"),
        None,
    ]


@pytest.mark.shared
def test_negex_development_half_reaches_its_mark(shared_data: Path) -> None:
    from pipelines.recipes.kg_evaluation.linking import negex_agreement, read_tsv

    found = negex_agreement(read_tsv(shared_data / "text" / "negex" / "negex_dev.tsv"))

    assert found["Negated"].f1 >= 0.95
    assert found["Historical"].precision >= 0.8


@pytest.mark.shared
def test_judged_links_are_right(shared_data: Path, default_graph: kg.KnowledgeGraph) -> None:
    from pipelines.recipes.kg_evaluation.linking import gold_links, read_tsv

    found = gold_links(kg.Linker(default_graph), read_tsv(shared_data / "kg" / "medpix_link_gold.tsv"))

    assert found.linked >= 110
    assert found.exact_precision >= 0.95
    assert found.precision >= 0.95


@pytest.mark.shared
@pytest.mark.slow
def test_disease_corpus_reaches_its_mark_with_names_from_the_training_part(shared_data: Path) -> None:
    from pipelines.recipes.kg_evaluation.disease_ontology import read_disease_ontology
    from pipelines.recipes.kg_evaluation.linking import names_from, ncbi_agreement, read_pubtator
    from pipelines.recipes.kg_evaluation.vocabulary import VocabularyMap

    folder = shared_data / "text" / "ncbi_disease"
    learnt = names_from(read_pubtator(folder / "train.pubtator.txt"))
    graph = kg.build([*DEFAULT_SOURCES, read_disease_ontology(shared_data / "kg"), learnt])

    _, documents, _ = ncbi_agreement(kg.Linker(graph), read_pubtator(folder / "dev.pubtator.txt"), VocabularyMap(graph))

    assert documents.f1 >= 0.81


def test_names_that_share_their_end_are_all_found() -> None:
    graph = tiny(
        ConceptRecord("X:1", "finding", "Hepatic cyst"),
        ConceptRecord("X:2", "finding", "Splenic cyst"),
        ConceptRecord("X:3", "finding", "Renal cyst"),
        ConceptRecord("X:4", "anatomy", "Liver"),
    )

    found = kg.link("No renal, hepatic and splenic cysts.", graph)

    assert [(one.text, one.concept, one.status) for one in found] == [
        ("renal", "X:3", "absent"),
        ("hepatic", "X:1", "absent"),
        ("splenic cysts", "X:2", "absent"),
    ]


@pytest.mark.parametrize("joiner", [" and ", " or ", "/", " and/or "])
def test_a_row_of_words_that_is_one_name_is_one_mention(joiner: str) -> None:
    graph = tiny(
        ConceptRecord("X:1", "disease", "Hereditary breast and ovarian cancer"),
        ConceptRecord("X:2", "disease", "Breast cancer"),
        ConceptRecord("X:3", "disease", "Ovarian cancer"),
    )

    one = kg.link(f"A family with inherited breast{joiner}ovarian cancers.", graph)
    two = kg.link(f"A family with breast{joiner}ovarian cancers.", graph)

    assert [(mention.text, mention.concept) for mention in one] == [(f"inherited breast{joiner}ovarian cancers", "X:1")]
    assert [mention.concept for mention in two] == ["X:2", "X:3"]


def test_a_comma_alone_joins_no_names() -> None:
    graph = tiny(ConceptRecord("X:1", "finding", "Lung mass"), ConceptRecord("X:2", "finding", "Large mass"))

    assert [one.concept for one in kg.link("Clear lung, large mass in the pancreas.", graph)] == ["X:2"]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Nervous system disease", "neurologic disorders"),
        ("Heart disease", "cardiac disease"),
        ("Hepatic cyst", "liver cysts"),
        ("Glycerol kinase deficiency", "glycerol kinase-deficient"),
        ("Abnormality of the eye", "abnormality of eye"),
    ],
)
def test_adjectives_of_organs_and_deficient_are_other_ways_to_write_a_name(name: str, written: str) -> None:
    graph = tiny(ConceptRecord("X:1", "disease", name))

    assert [one.concept for one in kg.link(f"Known {written}.", graph)] == ["X:1"]


def test_vocabulary_ids_come_from_xrefs_then_names_then_wider_concepts() -> None:
    from pipelines.recipes.kg_evaluation.vocabulary import VocabularyMap

    graph = build_from_tables(
        [
            SourceTables(
                source=Source(name="tiny", version="1", licence="CC0"),
                concepts=[
                    ConceptRecord("X:1", "disease", "Polyposis", (), ("MESH:D1",)),
                    ConceptRecord("X:2", "disease", "Polyposis 1", (), ("OMIM:1",)),
                    ConceptRecord("X:3", "disease", "Attenuated polyposis"),
                    ConceptRecord("X:4", "code", "Other", (Synonym("Polyposis", "exact"),)),
                    ConceptRecord("X:5", "disease", "Apart"),
                ],
                relations=[RelationRecord("X:2", SUBCLASS_OF, "X:1"), RelationRecord("X:3", SUBCLASS_OF, "X:2")],
            )
        ]
    )

    ids = VocabularyMap(graph)

    assert [sorted(ids.ids(graph.index(f"X:{at}"))) for at in range(1, 6)] == [
        ["MESH:D1"],
        ["MESH:D1"],
        ["OMIM:1"],
        ["MESH:D1"],
        [],
    ]


def test_what_stands_below_social_history_is_history() -> None:
    text = "SOCIAL HISTORY: Denies drug abuse.\n\nFINDINGS: Signs of drug abuse."

    contexts = [context_of(text, at, at + 10) for at in (text.find("drug"), text.rfind("drug"))]

    assert [(one.status, one.temporality) for one in contexts] == [("absent", "historical"), ("present", "recent")]
