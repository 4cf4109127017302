"""Record: the JSONL contract between the stages. One JSON object a line, UTF-8."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from utils.console import UserError

ENOUGH_CONVERSATIONS = 30  # held out; fewer make the verdict's intervals too narrow (bootstrap over conversations)


class Source(msgspec.Struct, frozen=True):
    """Where a record came from, so that a person can trace it, and remove it when somebody asks them to.

    `conversation` is CHANNEL_ID/FIRST_MESSAGE_ID, `turn` counts the persona's replies in it from 0, `timestamp` is the
    reply's, in UTC (ISO 8601), `confidence` is the pairing scorer's, from 0 to 1.
    """

    conversation: str = ""
    turn: int = 0
    timestamp: str = ""
    instruction_ids: tuple[str, ...] = ()
    output_ids: tuple[str, ...] = ()
    context_ids: tuple[str, ...] = ()
    confidence: float = 1.0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One reply of the persona with everything that the model may see before it.

    `history` holds (user turn, the persona's reply) pairs, oldest first. Only `instruction` and `output` are required
    on reading, so that a hand-made file of the three Alpaca keys trains.
    """

    instruction: str
    input: str = ""
    output: str
    system: str = ""
    history: tuple[tuple[str, str], ...] = ()
    source: Source = Source()


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """One line without its line end. JSON escapes every line break of the text but U+2028 and U+2029, which `read`
    does not split at."""
    return _encoder.encode(record)


def read(path: Path) -> list[Record]:
    """Reads a JSONL file; blank lines are skipped.

    Raises UserError naming the file, and the line where it is a line's fault: no file, no records, not JSON, a required
    key missing, an empty output.
    """
    try:
        data = file_bytes(path)
    except FileNotFoundError:
        raise UserError(f"no records at {path}; prepare_training_data.py makes them") from None
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}") from None
    records = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        if not record.output.strip():
            raise UserError(f"{path}, line {number}: the output is empty, so there is nothing to learn from it")
        records.append(record)
    if not records:
        raise UserError(f"{path} holds no records; prepare_training_data.py makes them")
    return records


def file_bytes(path: Path) -> bytes:
    """What the file holds. Raises OSError, also for a pipe or a device, which may never end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
    return path.read_bytes()


def write(path: Path, records: Iterable[Record]) -> None:
    """Writes a JSONL file, whole or not at all: staged beside it, synced, then renamed over the old one."""
    write_atomically(path, b"".join(encode(record) + b"\n" for record in records))


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces the file at `path` by `data`, whole or not at all, even when the process or the machine dies midway."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with staged.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
