"""Which sequence a series is, from its header alone."""

import pytest

from medmm.dicom.sequences import explain_role, sequence_role
from medmm.dicom.types import AcquisitionHeader


def mr(description: str = "", **fields: object) -> AcquisitionHeader:
    return AcquisitionHeader(modality="MR", description=description, **fields)


@pytest.mark.parametrize(
    ("description", "role"),
    [
        ("AX T1 PRE", "t1"),
        ("AX T1 POST GD", "t1ce"),
        ("AX T1 +C", "t1ce"),
        ("AX T1 C+", "t1ce"),
        ("t1_mprage_sag_p2_iso_KM", "t1ce"),
        ("SAG 3D BRAVO POST", "t1ce"),
        ("T1 axial without contrast", "t1"),
        ("AX T1 NON-CONTRAST", "t1"),
        ("T1W_TSE_native", "t1"),
        ("AX T2 FLAIR", "flair"),
        ("t2_tirm_tra_dark-fluid", "flair"),
        ("AX T2 FSE", "t2"),
        ("COR STIR", "stir"),
        ("AX T2*", "t2star"),
        ("T2_STAR_GRE", "t2star"),
        ("DWI b1000", "dwi"),
        ("ep2d_diff_4scan_trace_p3", "dwi"),
        ("Apparent Diffusion Coefficient (mm2/s)", "adc"),
        ("ep2d_diff_ADC", "adc"),
        ("SWI_Images", "swi"),
        ("TOF_3D_multi-slab", "mra"),
        ("PROTON DENSITY AX", "pd"),
        ("3-plane localizer", "localizer"),
        ("rCBV map", "perfusion"),
    ],
)
def test_words_of_the_description_tell_the_sequence(description: str, role: str) -> None:
    assert sequence_role(mr(description)) == role


@pytest.mark.parametrize(
    ("fields", "role"),
    [
        ({"tr_ms": 500, "te_ms": 12, "scanning_sequence": ("SE",)}, "t1"),
        ({"tr_ms": 4500, "te_ms": 100, "scanning_sequence": ("SE",)}, "t2"),
        ({"tr_ms": 3000, "te_ms": 15, "scanning_sequence": ("SE",)}, "pd"),
        ({"tr_ms": 9000, "te_ms": 120, "ti_ms": 2500, "scanning_sequence": ("SE", "IR")}, "flair"),
        ({"tr_ms": 1900, "te_ms": 2.5, "ti_ms": 900, "scanning_sequence": ("GR", "IR")}, "t1"),
        ({"tr_ms": 600, "te_ms": 20, "scanning_sequence": ("GR",)}, "t2star"),
        ({"tr_ms": 3000, "te_ms": 80, "b_value": 1000.0}, "dwi"),
        ({"tr_ms": 1500, "te_ms": 50, "scanning_sequence": ("SE",)}, None),
        ({}, None),
    ],
)
def test_without_words_the_timing_tells_the_sequence(fields: dict, role: str | None) -> None:
    assert sequence_role(mr("", **fields)) == role


def test_an_agent_makes_a_t1_enhanced_unless_a_word_says_before() -> None:
    agent = {"contrast_agent": "Gadovist 7 ml"}

    assert sequence_role(mr("AX T1", **agent)) == "t1ce"
    assert sequence_role(mr("AX T1 PRE", **agent)) == "t1"
    assert sequence_role(mr("AX T1", contrast_agent="NONE")) == "t1"


def test_protocol_and_sequence_name_stand_in_for_a_missing_description() -> None:
    assert sequence_role(mr(protocol_name="AX FLAIR")) == "flair"
    assert sequence_role(mr(sequence_name="*tfl3d1")) == "t1"


@pytest.mark.parametrize(
    ("fields", "role"),
    [
        ({"description": "HEAD 5.0 H30s"}, "ct"),
        ({"description": "CTA CAROTID"}, "cta"),
        ({"description": "THORAX", "contrast_agent": "Iopamidol"}, "ctce"),
        ({"description": "NATIVE", "contrast_agent": "Iopamidol"}, "ct"),
    ],
)
def test_ct_is_told_from_ct_angiography_and_enhanced_ct(fields: dict, role: str) -> None:
    assert sequence_role(AcquisitionHeader(modality="CT", **fields)) == role


def test_the_reason_names_the_attribute_and_never_the_text() -> None:
    guess = explain_role(mr("AX T1 POST Mr Smith"))

    assert "(0008,103E) Series Description" in guess.reason
    assert "Smith" not in guess.reason
