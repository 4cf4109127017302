"""A zip as source files, each read out of the archive when its turn comes; nothing is unpacked to the disk."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from utils.chatlogs.sources.export import NotAnExport
from utils.chatlogs.sources.source_files import SourceFile, is_hidden, natural_order

MAX_ENTRIES = 200_000
MAX_BYTES = 100 * 2**30  # unpacked, all members together
MAX_RATIO = 200  # unpacked to packed; chat in JSON packs about 10 to 1, ten thousand equal lines 150 to 1
RATIO_COUNTS_FROM = 1 << 20  # bytes unpacked: a smaller member does no harm

START = b"PK\x03\x04"
_ENCRYPTED = 0x1
# What zipfile raises on damaged archives; some of it only falls out of its parsing.
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)
_DAMAGED += (IndexError, KeyError, OverflowError, AttributeError)
_FAILURES = (*_DAMAGED, OSError)

Refusals = list[tuple[Path, str]]  # path, reason


def members(path: Path) -> tuple[list[SourceFile], Refusals]:
    """The archive's files in the order of their names, and those that are refused, each with the reason.

    Raises NotAnExport for a damaged archive, and for one with too many members or too many bytes; OSError.
    """
    try:
        archive = zipfile.ZipFile(path)  # the members keep it open
    except _DAMAGED as error:
        raise NotAnExport(f"is no zip archive in good order ({str(error).rstrip('.')})") from None
    infos = [info for info in archive.infolist() if info.filename and not info.is_dir()]
    if len(infos) > MAX_ENTRIES:
        raise NotAnExport(f"holds {len(infos)} files, more than {MAX_ENTRIES}; unpack it yourself if you trust it")
    total = sum(info.file_size for info in infos)
    if total > MAX_BYTES:
        raise NotAnExport(f"would unpack to {total >> 30} GiB, more than {MAX_BYTES >> 30}; unpack it yourself")
    named = Counter(info.filename for info in infos)
    found: list[SourceFile] = []
    refused: Refusals = []
    for info in infos:
        parts = [part for part in info.filename.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        member = path.joinpath(*parts)
        if is_hidden(parts):
            continue
        reason = _refusal(info, named)
        if not reason:
            found.append(SourceFile(member, lambda info=info: _Member(archive, info), on_disk=False))
        elif (member, reason) not in refused[-1:]:
            refused.append((member, reason))
    return sorted(found, key=lambda file: natural_order(file.path)), refused


def _refusal(info: zipfile.ZipInfo, named: Counter[str]) -> str:
    if named[info.filename] > 1:
        return f"stands {named[info.filename]} times in the archive, so it is not clear which one is meant"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted; unpack the archive with its password first"
    if info.filename.lower().endswith(".zip"):
        return "is an archive inside an archive; unpack the outer one first"
    if info.file_size > max(RATIO_COUNTS_FROM, MAX_RATIO * info.compress_size):
        return f"would unpack to more than {MAX_RATIO} times its size, as no chat does"
    return ""


class _Member(io.RawIOBase):
    """A member's bytes. zipfile gives no more of them than the directory says, and checks their sum at the end.

    Raises NotAnExport where the archive is damaged there.
    """

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        super().__init__()
        try:
            self._file: BinaryIO = archive.open(info)
        except _FAILURES as error:
            raise _damaged(error) from None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except _FAILURES as error:
            raise _damaged(error) from None

    def readinto(self, buffer: bytearray) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _damaged(error: Exception) -> NotAnExport:
    return NotAnExport(f"can't be taken out of the archive ({str(error).rstrip('.') or type(error).__name__})")
