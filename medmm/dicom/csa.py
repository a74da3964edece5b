"""Siemens CSA headers: the tile count and slice normal of a mosaic image.

Layout of the SV10 form, as the notes of the nibabel project describe it (doc/source/dicom/siemens_csa):
'SV10', 4 bytes, tag count, then per tag a 64-byte name, value multiplicity, VR, and items of (length, ..., bytes).
"""

import struct

from medmm.dicom.attributes import bad_value
from medmm.dicom.tags import CSA_IMAGE_HEADER

_MAX_TAGS = 1024
_MAX_ITEMS = 1024


def read_csa_values(raw: bytes, wanted: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Return the wanted values of a CSA header as text, each stripped; absent ones are left out.

    Raises:
        InputError: dicom.bad_value when the block is not a CSA header or ends early.
    """
    try:
        return _walk(raw, wanted)
    except struct.error:
        raise bad_value(CSA_IMAGE_HEADER, "a whole CSA header", "one that ends early") from None


def _walk(raw: bytes, wanted: frozenset[str]) -> dict[str, tuple[str, ...]]:
    is_new = raw[:4] == b"SV10"
    position = 8 if is_new else 0
    (count,) = struct.unpack_from("<L", raw, position)
    if not 0 < count <= _MAX_TAGS:
        raise bad_value(CSA_IMAGE_HEADER, "a CSA header", "another layout")
    position += 8
    found: dict[str, tuple[str, ...]] = {}
    first_items = -1
    for _ in range(count):
        name = raw[position : position + 64].split(b"\0", 1)[0].decode("latin-1")
        multiplicity, _vr, _syngo, items, _mark = struct.unpack_from("<l4sLLL", raw, position + 64)
        position += 84
        first_items = items if first_items < 0 else first_items
        if items > _MAX_ITEMS:
            raise bad_value(CSA_IMAGE_HEADER, "a CSA header", "one with an impossible item count")
        values: list[str] = []
        for _ in range(items):
            lengths = struct.unpack_from("<4L", raw, position)
            length = lengths[1] if is_new else lengths[0] - first_items
            position += 16
            if not 0 <= length <= len(raw) - position:
                break
            values.append(raw[position : position + length].split(b"\0", 1)[0].decode("latin-1").strip())
            position += (length + 3) // 4 * 4
        if name in wanted:
            kept = values[:multiplicity] if multiplicity > 0 else [value for value in values if value]
            found[name] = tuple(kept)
    return found
