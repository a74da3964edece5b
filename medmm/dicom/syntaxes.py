"""Transfer syntaxes and SOP classes: how a file is encoded, and what kind of object it is."""

from dataclasses import dataclass

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
GE_PRIVATE_BIG_ENDIAN = "1.2.840.113619.5.2"  # implicit little endian header, big endian pixels
RLE = "1.2.840.10008.1.2.5"
NATIVE = frozenset({IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN})


@dataclass(frozen=True, slots=True)
class Codec:
    """A compressed transfer syntax: its name, whether it may lose information, the package that decodes it."""

    name: str
    package: str
    is_lossy: bool = False


_JPEG = "1.2.840.10008.1.2.4."
CODECS: dict[str, Codec] = {
    RLE: Codec("RLE Lossless", "pylibjpeg-rle"),
    ENCAPSULATED_UNCOMPRESSED: Codec("Encapsulated uncompressed", "numpy"),
    _JPEG + "50": Codec("JPEG Baseline (Process 1)", "imagecodecs", True),
    _JPEG + "51": Codec("JPEG Extended (Process 2 and 4)", "imagecodecs", True),
    _JPEG + "57": Codec("JPEG Lossless (Process 14)", "imagecodecs"),
    _JPEG + "70": Codec("JPEG Lossless (Process 14, selection value 1)", "imagecodecs"),
    _JPEG + "80": Codec("JPEG-LS Lossless", "pyjpegls"),
    _JPEG + "81": Codec("JPEG-LS Near-lossless", "pyjpegls", True),
    _JPEG + "90": Codec("JPEG 2000 Lossless", "pylibjpeg-openjpeg"),
    _JPEG + "91": Codec("JPEG 2000", "pylibjpeg-openjpeg", True),
    _JPEG + "201": Codec("High-Throughput JPEG 2000 Lossless", "pylibjpeg-openjpeg"),
    _JPEG + "202": Codec("High-Throughput JPEG 2000 RPCL Lossless", "pylibjpeg-openjpeg"),
    _JPEG + "203": Codec("High-Throughput JPEG 2000", "pylibjpeg-openjpeg", True),
}
UNSUPPORTED: dict[str, str] = {
    _JPEG + "100": "MPEG-2 video",
    _JPEG + "101": "MPEG-2 video",
    _JPEG + "102": "MPEG-4 video",
    _JPEG + "103": "MPEG-4 video",
    _JPEG + "104": "MPEG-4 video",
    _JPEG + "105": "MPEG-4 video",
    _JPEG + "106": "MPEG-4 video",
    _JPEG + "107": "HEVC video",
    _JPEG + "108": "HEVC video",
    _JPEG + "110": "JPEG XL (package imagecodecs, not wired in)",
    _JPEG + "111": "JPEG XL (package imagecodecs, not wired in)",
    _JPEG + "112": "JPEG XL (package imagecodecs, not wired in)",
}

_STORAGE = "1.2.840.10008.5.1.4.1.1."
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
CT_IMAGE = _STORAGE + "2"
ENHANCED_CT = _STORAGE + "2.1"
MR_IMAGE = _STORAGE + "4"
ENHANCED_MR = _STORAGE + "4.1"
SECONDARY_CAPTURE = _STORAGE + "7"
VOLUME_CLASSES = frozenset(
    {
        CT_IMAGE,
        ENHANCED_CT,
        _STORAGE + "2.2",  # legacy converted enhanced CT
        MR_IMAGE,
        ENHANCED_MR,
        _STORAGE + "4.4",  # legacy converted enhanced MR
        _STORAGE + "128",  # PET
        _STORAGE + "130",  # enhanced PET
        _STORAGE + "128.1",  # legacy converted enhanced PET
        "1.2.840.113619.4.2",  # GE private CT
    }
)
# Secondary captures count as images when their modality is CT, MR or PT (teaching files, film scans).
CAPTURE_CLASSES = frozenset({SECONDARY_CAPTURE, _STORAGE + "7.1", _STORAGE + "7.2", _STORAGE + "7.3"})
TEXT_REPORTS = frozenset({_STORAGE + f"88.{part}" for part in ("11", "22", "33", "34", "35")})
