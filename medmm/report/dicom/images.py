"""Masks as Segmentation, heatmaps as Parametric Map, key slices as Secondary Capture (highdicom)."""

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from medmm.dicom.references import SourceStack
from medmm.report.dicom.codes import coding_schemes, private_code
from medmm.report.dicom.study import RESEARCH_USE, ResultStudy, long_string, new_uid
from medmm.report.figures import AXES, PATIENT_ORIENTATION
from medmm.report.files import safe_name
from medmm.report.pictures import KeySlice, key_slices
from medmm.report.texts import load_texts
from medmm.results import Region

if TYPE_CHECKING:
    from highdicom.content import AlgorithmIdentificationSequence
    from highdicom.pm import ParametricMap
    from highdicom.sc import SCImage
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import Dataset

_PICTURE_PX = 768
_LINE_PX, _BAND_LETTERS = 21, 92
_PLAIN_QUOTES = str.maketrans("“”‘’–—", "\"\"''--")


def segmentations(study: ResultStudy) -> "Iterator[tuple[str, str, Segmentation]]":
    """Role, file name and Segmentation of each series that has marked regions; a segment is a region."""
    from highdicom.seg import Segmentation

    series = study.series("seg")
    for number, (role, stack) in enumerate(study.stacks.items(), start=1):
        regions = regions_of(study, role)
        if not regions:
            continue
        masks = np.stack([stack.to_source(region.mask) > 0 for region in regions], axis=-1)
        yield (
            role,
            f"seg_{safe_name(role)}.dcm",
            Segmentation(
                source_images=stack.datasets,
                pixel_array=masks.astype(np.uint8),
                segmentation_type="BINARY",
                segment_descriptions=[_segment(study, place, region) for place, region in enumerate(regions, start=1)],
                sop_instance_uid=new_uid(),
                instance_number=number,
                content_label="MASKS",
                content_description=RESEARCH_USE,
                **study.equipment(),
                **series,
            ),
        )


def regions_of(study: ResultStudy, role: str) -> list[Region]:
    """The regions that were marked on a series."""
    return [region for region in study.report.masks.values() if region.role == role]


def parametric_maps(study: ResultStudy) -> "Iterator[tuple[str, ParametricMap]]":
    """A Parametric Map for each heatmap whose series is among the sources, by file name."""
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom.sr.codedict import codes

    series, taken = study.series("pm"), set[str]()
    for number, part in enumerate(study.report.heatmaps.values(), start=1):
        stack = study.stacks.get(part.role)
        if stack is None:
            continue
        title = study.report.content.tasks[part.task].title
        mapping = RealWorldValueMapping(
            lut_label="ATTRIBUTION",
            lut_explanation=long_string(f"Attribution for {title}: {part.target}, by {part.method}"),
            unit=codes.UCUM.NoUnits,
            value_range=(0.0, 1.0),
            slope=1.0,
            intercept=0.0,
            quantity_definition=private_code("attribution", "Attribution (0 to 1)"),
        )
        result = ParametricMap(
            source_images=stack.datasets,
            pixel_array=stack.to_source(part.values.astype(np.float32)),
            sop_instance_uid=new_uid(),
            instance_number=number,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
            coding_schemes=coding_schemes(),
            content_label="HEATMAP",
            content_description=long_string(f"{title}: {RESEARCH_USE}"),
            content_qualification="RESEARCH",
            **study.equipment(),
            **series,
        )
        result.Laterality = ""  # 2C: unknown here
        yield f"pm_{safe_name(f'{part.role}_{part.task}', taken=taken)}.dcm", result


def secondary_captures(study: ResultStudy) -> "Iterator[tuple[str, SCImage]]":
    """The key slices with overlay as pictures, what they show and "research use" burned in, by file name."""
    from highdicom.sc import SCImage

    series = study.series("sc")
    for number, picture in enumerate(key_slices(study.report, load_texts("en"), size_px=_PICTURE_PX), start=1):
        stack = study.stacks.get(picture.role)
        if stack is None:
            continue
        capture = SCImage.from_ref_dataset(
            ref_dataset=stack.datasets[0],
            pixel_array=_with_band(picture, study),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=PATIENT_ORIENTATION[picture.plane],
            sop_instance_uid=new_uid(),
            instance_number=number,
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            **{key: value for key, value in study.equipment().items() if key != "device_serial_number"},
            **series,
        )
        capture.Laterality = ""  # 2C: unknown here
        capture.BurnedInAnnotation = "YES" if study.is_burned_in() else "NO"
        capture.DerivationDescription = long_string(picture.caption)
        capture.ImageComments = RESEARCH_USE
        capture.SourceImageSequence = [_source_item(dataset) for dataset in _shown(stack, picture)]
        yield f"sc_{number:02d}.dcm", capture


def _segment(study: ResultStudy, number: int, region: Region) -> "SegmentDescription":
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    return SegmentDescription(
        segment_number=number,
        segment_label=long_string(region.title) or "region",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm(study),
        tracking_uid=new_uid(),
        tracking_id=long_string(region.name) or "region",
    )


def algorithm(study: ResultStudy) -> "AlgorithmIdentificationSequence":
    """Which model made the result, as highdicom takes it."""
    from highdicom.content import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    origin = study.provenance
    return AlgorithmIdentificationSequence(
        name=long_string(origin.model_name),
        family=codes.DCM.ArtificialIntelligence,
        version=long_string(origin.model_version),
        parameters=algorithm_parameters(study),
    )


def algorithm_parameters(study: ResultStudy) -> dict[str, str]:
    """What tells one build of a model from another."""
    origin = study.provenance
    values = {"weights_sha256": origin.weights_sha256, "graph_hash": origin.graph_hash}
    return {name: value for name, value in values.items() if value}


def _shown(stack: SourceStack, picture: KeySlice) -> "tuple[Dataset, ...]":
    """The instances that a picture was cut from."""
    place = stack.slice_at(AXES[picture.plane], picture.index)
    return stack.datasets if place is None else (stack.datasets[place],)


def _source_item(dataset: "Dataset") -> "Dataset":
    from highdicom.sr import CodedConcept
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = dataset.SOPClassUID
    item.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
    purpose = CodedConcept("121322", "DCM", "Source image for image processing operation")
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def _with_band(picture: KeySlice, study: ResultStudy) -> np.ndarray:
    """The picture (rows, columns, 3) uint8 over a black band that says what it is and that it is for research.

    The font of the band knows Latin letters only, so it is in English.
    """
    from PIL import Image, ImageDraw

    origin = study.provenance
    about = f"{study.report.content.case_id}, medmm {origin.medmm_version}, {origin.model_name}. {picture.caption}"
    latin = about.translate(_PLAIN_QUOTES).encode("latin-1", errors="replace").decode("latin-1")
    lines = ("RESEARCH USE ONLY - NOT FOR DIAGNOSIS", *textwrap.wrap(latin, _BAND_LETTERS, max_lines=3))
    shown = picture.overlay
    canvas = Image.new("RGB", (max(shown.width, _PICTURE_PX), shown.height + _LINE_PX * len(lines) + 12), "black")
    canvas.paste(shown, ((canvas.width - shown.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    for row, text in enumerate(lines):
        draw.text((8, shown.height + 6 + _LINE_PX * row), text, fill="white", font_size=15)
    return np.asarray(canvas)
