"""Looks at paths and reads every export under them. What can't be read is named with the reason; the rest goes on.

file_kinds.py knows what a file is: that stands in its content, not in its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils import console
from utils.chatlogs.sources import (
    archive,
    data_package,
    file_kinds,
    package_owner,
    sequences,
    source_files,
)
from utils.chatlogs.sources.discord_csv import CsvFile
from utils.chatlogs.sources.export import Export, NotAnExport
from utils.chatlogs.sources.file_kinds import Examples, Found
from utils.chatlogs.sources.known_messages import Known
from utils.chatlogs.sources.package_owner import Whose
from utils.chatlogs.sources.source_files import SourceFile
from utils.console import UserError
from utils.records import Record

HOW_TO_EXPORT = (
    "export your channels with DiscordChatExporter (github.com/Tyrrrz/DiscordChatExporter) as JSON into data/raw/, "
    "or try the sample: python prepare_training_data.py --source data/sample --persona rohan"
)

_ZIPS_BUT_NO_ARCHIVES = frozenset([".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".epub", ".jar", ".apk", ".whl"])


@dataclass
class Reading:
    """What was found: exports in the order of the files' names, ready-made examples, and the files that gave none.

    `skipped` holds (path, reason); `files` counts those that were read, a data package as one.
    """

    exports: list[Export] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: int = 0


def read_source(source: Path | Sequence[Path]) -> Reading:
    """Reads one path or several, each a file or a folder with its subfolders; see `stream`, which keeps no export."""
    reading = Reading()
    reading.exports += stream(source, reading)
    return reading


def stream(source: Path | Sequence[Path], reading: Reading) -> Iterator[Export]:
    """Every export, one by one; everything else goes into `reading` on the way.

    A large file may come as several exports in a row. CSV files come behind the others, since all files of a channel
    have to be looked at together, and data packages last, since an export's copy of a message is better.

    Raises UserError where there is nothing at a path, or nothing could be read.
    """
    paths = source_files.many(source)
    files = _find(paths, reading)
    packages, files = data_package.claim(files)
    owners = [package_owner.stated(package) for package in packages]
    whose = Whose([package for package, owner in zip(packages, owners, strict=True) if owner is None])
    tables: list[CsvFile] = []
    known: dict[int, Known] = {}
    count = 0
    with console.progress("files") as progress:
        for file in progress.track(sorted(files, key=_is_table, reverse=True), description="reading"):
            for found in _attempt(file, reading):
                if isinstance(found, Examples):
                    reading.records += found.records
                    continue
                if isinstance(found, CsvFile):
                    tables.append(found)
                    whose.look_at_rows(found)
                    known.setdefault(found.channel.id, Known())
                    continue
                count += 1
                if found.channel.id in known:
                    known[found.channel.id].add(found.messages)
                whose.look_at(found)
                yield found
    owners = [owner or whose.owner(one, reading.warnings) for one, owner in zip(packages, owners, strict=True)]
    for package, owner in zip(packages, owners, strict=True) if tables else ():
        for export in data_package.read(package, owner):
            if export.channel.id in known:
                known[export.channel.id].add_own(export.messages)
    for export in sequences.merge(tables, known):
        count += 1
        yield _noted(export, f"{export.channel.name} (CSV)", reading)
    for package, owner in zip(packages, owners, strict=True):
        reading.files += 1
        for export in data_package.read(package, owner):
            count += 1
            if export.channel.id in known:
                covered = known[export.channel.id].covered
                export.messages = [message for message in export.messages if message.id not in covered]
            yield _noted(export, f"{source_files.as_text(package.root.name)}/", reading)
    if not count and not reading.records:
        where = ", ".join(map(str, paths))
        raise UserError(f"no export could be read in {where}: {_why_none(reading.skipped)}; {HOW_TO_EXPORT}")


def read_file(path: Path) -> list[Export]:
    """The exports of one file on the disk. Raises NotAnExport, with the reason, and OSError."""
    found = list(file_kinds.read(source_files.on_disk(path)))
    tables = [one for one in found if isinstance(one, CsvFile)]
    exports = sequences.merge(tables, {})
    for table, export in zip(tables, exports, strict=True):
        export.warnings[:0] = table.warnings
    return [*exports, *(one for one in found if isinstance(one, Export))]


def _find(paths: Sequence[Path], reading: Reading) -> list[SourceFile]:
    """Every file under the paths, an archive's members in its place."""
    found: dict[Path, SourceFile] = {}
    for path in paths:
        if not (path.is_file() or path.is_dir()) and path != Path("data/raw"):
            raise UserError(f"there is no file or folder at {path}; set SOURCE, or pass --source, to your exports")
        for file in source_files.find(path):
            for one in _unpacked(file, reading):
                found.setdefault(one.path, one)
    if not found and not reading.skipped:
        raise UserError(f"there is nothing in {', '.join(map(str, paths))}: {HOW_TO_EXPORT}")
    return list(found.values())


def _unpacked(file: SourceFile, reading: Reading) -> list[SourceFile]:
    try:
        with file.open() as opened:
            is_archive = opened.read(4) == archive.START
        if not is_archive or file.path.suffix.lower() in _ZIPS_BUT_NO_ARCHIVES:
            return [file]
        members, refused = archive.members(file.path)
        if not members and not refused:
            refused = [(file.path, "is an archive without files")]
    except NotAnExport as reason:
        refused, members = [(file.path, str(reason))], []
    except OSError as error:
        refused, members = [(file.path, f"can't be read: {error.strerror}")], []
    reading.skipped += refused
    return members


def _is_table(file: SourceFile) -> bool:
    """CSV files are looked at first: whether a channel is there as CSV, too, must be known when its exports come by."""
    return file.path.suffix.lower() in (".csv", ".txt", ".tsv", "")


def _attempt(file: SourceFile, reading: Reading) -> Iterator[Found]:
    try:
        for place, found in enumerate(file_kinds.read(file)):
            reading.files += place == 0
            yield _noted(found, source_files.as_text(file.path.name), reading)
    except NotAnExport as reason:
        reading.skipped.append((file.path, str(reason)))
    except OSError as error:
        reading.skipped.append((file.path, f"can't be read: {error.strerror or error}"))


def _noted(found: Found, name: str, reading: Reading) -> Found:
    reading.warnings += [f"{name} {warning}" for warning in found.warnings]
    return found


def _why_none(skipped: list[tuple[Path, str]]) -> str:
    candidates = [f"{path.name} {reason}" for path, reason in skipped if reason != file_kinds.OTHER_KIND]
    if not candidates:
        return "it holds nothing of a kind that is read"
    others = f" (and {len(candidates) - 1} more files)" if len(candidates) > 1 else ""
    return candidates[0] + others
