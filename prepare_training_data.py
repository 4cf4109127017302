"""Turns a Discord history into training records.

    python prepare_training_data.py --persona rohan
    python prepare_training_data.py --source data/sample --persona rohan
    python prepare_training_data.py                  # lists the most active authors to choose from
    python prepare_training_data.py --forget ID      # removes a person or a message from the store and the records

Reads what people have of a Discord history, as files, folders or zips: DiscordChatExporter's JSON and CSV, Discord's
own data package, bot dumps in the shape of Discord's API, Discord History Tracker's database, and ready-made examples
as JSONL. Finds what each message of the persona answers, takes secrets and personal data out, and writes train.jsonl,
validation.jsonl, test.jsonl and report.json.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

from utils import console, settings
from utils.chatlogs.settings import PrepareSettings

# Edit these, or pass them as flags: --persona, --source, ... (--help lists every setting).
SOURCE = "data/raw"  # a folder, an export, a zip, a data package; or several: ("data/raw", "package.zip")
PERSONA = None  # a user id or a name; None lists the most active authors
OUTPUT_DIR = "data/processed"
EXCLUDE_AUTHORS = ()  # ids or names of people whose words appear nowhere
CONTINUATIONS = False  # where only the persona's own messages are known: records that continue the one before
MIN_CONFIDENCE = 0.5  # 0 to 1: leave out replies whose prompt is less sure than this
MAX_HISTORY_TURNS = 8  # earlier turns that a record carries


def main(argv: list[str] | None = None) -> None:
    gc.set_threshold(100_000)  # the search for cycles, which this stage hardly makes, took 7% of its time
    resolved = settings.resolve(PrepareSettings, globals(), argv)
    chosen = resolved.values
    settings.show(resolved)

    from utils.chatlogs import outputs

    outputs.check_folder(chosen)
    if resolved.origins["forget"] != "default":
        from utils.chatlogs import forget

        forget.forget(chosen, lambda last: prepare(last, source=None))
    else:
        prepare(chosen, chosen.source)


def prepare(chosen: PrepareSettings, source: Sequence[Path] | None) -> None:
    """Makes the prepared files from the source, or, without one, from the store as it is."""
    from utils.chatlogs import outputs
    from utils.chatlogs.storage import history

    # Read: every message once, into the store; exports that have not changed are not read again.
    with history.opened(outputs.store_path(chosen), source, write=not chosen.dry_run) as (messages, reading):
        from utils.chatlogs import dialogues, people, replies
        from utils.chatlogs.quality import split
        from utils.chatlogs.reporting import page, report
        from utils.chatlogs.storage import store

        for warning in reading.warnings:
            console.warn(warning)

        # Choose: who is the persona, what did they answer?
        everybody = people.list_people(messages)
        if everybody:
            persona = people.find_persona(everybody, chosen.persona)
        else:  # examples alone
            persona = dialogues.persona(chosen.persona, len(reading.records))
        harvest = replies.collect(messages, everybody, persona, chosen, reading.records)
        contents = store.contents(messages)
    for warning in harvest.warnings:
        console.warn(warning)
    sets = split.split_by_time(harvest.replies, chosen.validation_share, chosen.test_share)

    # Write: all files at once.
    files = outputs.encode(sets)
    summary = report.build(reading, contents, persona, harvest, sets, files, chosen)
    report.show(summary, sets)
    if chosen.dry_run:
        console.say("dry run: nothing was written")
        return
    outputs.publish(
        chosen.output_dir,
        files | {"report.json": report.encode(summary), "report.html": page.render(summary, harvest.months, sets)},
    )
    console.say(f"wrote {summary['replies']['records']:,} records, report.json and report.html to {chosen.output_dir}")
    train = f"{console.python()} train_tinyllama.py"
    if chosen.output_dir != PrepareSettings().output_dir:
        train += f" --data-dir {console.typed(chosen.output_dir)}"
    console.say(f"next   look at {chosen.output_dir / 'report.html'}, then {train}")


if __name__ == "__main__":
    console.run(main)
    console.leave()
