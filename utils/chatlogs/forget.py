"""--forget: a person or a message leaves the store and the prepared files, and stays out of them from then on.

That holds for ready-made examples, too: what their sources' ids say, and the lines that start with the person's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from utils import console
from utils.chatlogs import examples, outputs, people
from utils.chatlogs.people import Person
from utils.chatlogs.settings import PrepareSettings
from utils.chatlogs.sources.export import is_id
from utils.chatlogs.sources.readers import Reading
from utils.chatlogs.storage import database, history, store
from utils.console import UserError
from utils.records import Record

_AGAIN = "prepare the data again, then forget; nothing was removed"


def forget(settings: PrepareSettings, prepare: Callable[[PrepareSettings], None]) -> None:
    """Removes what the ids name from the store, then makes the prepared files again with the settings that made them.

    Only making them again finds every record that holds the words, since a history's turns carry no ids. The answers to
    the forgotten leave with them. `prepare` is to work on the store as it is.

    What is forgotten already is no mistake: a run that was killed on its way here may have left the records as they
    were.

    Raises UserError, before anything is changed, where there is no store, an id is nobody's in it, or nothing says how
    the prepared files were made.
    """
    ids = _ids(settings)
    path = outputs.store_path(settings)
    if not path.exists():
        raise UserError(f"there is no store at {path} to forget anything in; pass --output-dir, or --store")
    outputs.recover(settings.output_dir)
    last = _last_settings(settings.output_dir)
    with database.opened(path) as connection:
        reading = history.last_reading(connection, None) or Reading()
        authors, messages = _count(connection, ids, reading.records, path)
        everybody = people.list_people(connection)
        speakers = examples.keys_of(everybody[one] for one in ids if one in everybody)
        gone = {*ids, *speakers} | examples.messages_by(connection, set(ids), reading.records)
    left_over = examples.without(reading.records, gone)
    found = "1 message" if messages == 1 else f"{messages:,} messages"
    if authors:
        found += ", all that one person wrote," if authors == 1 else f", all that {authors} people wrote,"
    if reading.records:
        found += f" and {len(reading.records) - len(left_over):,} of {len(reading.records):,} ready-made examples"
    if settings.dry_run:
        console.say(f"dry run: {found} would leave {path}; nothing was written")
        return
    forgotten = [*ids, *sorted(speakers)] if reading.records else ids
    store.rewrite(path, forgotten, history.encode(replace(reading, records=left_over)))
    console.say(f"removed {found} from {path}")
    if last is None:
        console.say(f"there are no prepared files in {settings.output_dir}")
        return
    last, records = last
    excluded = tuple(name for name in last.exclude_authors if _fitting(everybody, name) not in ids)
    again = replace(
        last, output_dir=settings.output_dir, store=path, dry_run=False, forget=(), exclude_authors=excluded
    )
    try:
        prepare(again)
    except UserError as error:
        outputs.remove(settings.output_dir)
        console.say(f"removed all {records:,} records, since no sets can be made of the rest: {error}")
        return
    _, left = _last_settings(settings.output_dir)
    console.say(f"{records - left:,} of {records:,} records are out of the prepared files; train again with the rest")
    console.say("the exports themselves still hold the messages; they stay forgotten when the exports are read again")
    console.say("adapters trained before, their evaluation.html and copies with canaries are as they were: delete them")


def _ids(settings: PrepareSettings) -> list[int]:
    if not settings.forget:
        raise UserError("--forget needs the id of a person or a message; the records and the store hold them")
    for one in settings.forget:
        if not is_id(one):
            raise UserError(
                f"--forget takes the ids of people or messages, not {one!r}; the records and the store hold them"
            )
    return [int(one) for one in settings.forget]


def _fitting(everybody: dict[int, Person], name: str) -> int | None:
    try:
        return people.find_person(everybody, name, "EXCLUDE_AUTHORS").id
    except UserError:  # a name of the examples alone
        return None


def _count(connection: Any, ids: list[int], records: list[Record], path: Path) -> tuple[int, int]:
    """How many of the ids are people, and how many messages of the store leave with all ids together."""
    rows = connection.execute(
        "SELECT id, false FROM messages WHERE id IN (SELECT unnest($1)) "
        "UNION ALL SELECT DISTINCT author_id, true FROM messages WHERE author_id IN (SELECT unnest($1))",
        [ids],
    ).fetchall()
    known = dict.fromkeys(examples.ids_of(records), False) | dict(rows)
    earlier = set(store.forgotten(connection))
    for one in ids:
        if one in earlier:
            console.say(f"{one} is forgotten already in {path}; the prepared files are made again")
        elif one not in known:
            raise UserError(f"{one} is the id of no person and no message in {path}; nothing was removed")
    ((messages,),) = connection.execute(
        "SELECT count(*) FROM messages WHERE id IN (SELECT unnest($1)) OR author_id IN (SELECT unnest($1))", [ids]
    ).fetchall()
    return sum(known.get(one, False) for one in ids), messages


def _last_settings(folder: Path) -> tuple[PrepareSettings, int] | None:
    """The settings that made the prepared files, with the persona's id, and the number of records."""
    path = folder / "report.json"
    try:
        report = msgspec.json.decode(path.read_bytes())
        settings = msgspec.convert(
            report["settings"], PrepareSettings, strict=False, dec_hook=lambda _, text: Path(text)
        )
        persona = report["persona"]["id"] if report["persona"]["id"] != "0" else settings.persona
        return replace(settings, persona=persona), report["replies"]["records"]
    except FileNotFoundError:
        if any((folder / name).exists() for name in outputs.PREPARED):
            raise UserError(f"{folder} has no report.json, which says how its records were made; {_AGAIN}") from None
        return None
    except (OSError, msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"can't read {path} ({error}); {_AGAIN}") from None
