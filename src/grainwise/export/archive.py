"""Zip archives that are the same bytes whenever they are made."""

import io
import zipfile
from collections.abc import Mapping


def zip_of(content: Mapping[str, bytes]) -> bytes:
    """A deflated zip of files by name, in their order, with one fixed date."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()
