"""Turns a Discord history into training records.

    python prepare_training_data.py --persona rohan
    python prepare_training_data.py --source data/sample --persona rohan
    python prepare_training_data.py                  # lists the most active authors to choose from

Reads DiscordChatExporter's JSON files and arrays of messages in the shape of Discord's API, finds what each message of
the persona answers, takes secrets and personal data out, and writes train.jsonl, validation.jsonl, test.jsonl and
report.json.
"""

from __future__ import annotations

from utils import console, settings
from utils.chatlogs.settings import PrepareSettings

# Edit these, or pass them as flags: --persona, --source, ... (--help lists every setting).
SOURCE = "data/raw"  # an export, or a folder of exports
PERSONA = None  # a user id or a name; None lists the most active authors
OUTPUT_DIR = "data/processed"
EXCLUDE_AUTHORS = ()  # ids or names of people whose words appear nowhere
MIN_CONFIDENCE = 0.5  # 0 to 1: leave out replies whose prompt is less sure than this
MAX_HISTORY_TURNS = 8  # earlier turns that a record carries


def main(argv: list[str] | None = None) -> None:
    resolved = settings.resolve(PrepareSettings, globals(), argv)
    chosen = resolved.values
    from utils.chatlogs import channels, outputs, people, readers, replies, report, split

    settings.show(resolved)

    # Read: every export once, every message once.
    reading = readers.read_source(chosen.source)
    for warning in reading.warnings:
        console.warn(warning)
    read_channels, copies = channels.gather(reading.exports)

    # Choose: who is the persona, what did they answer?
    everybody = people.list_people(read_channels)
    persona = people.find_persona(everybody, chosen.persona)
    harvest = replies.collect(read_channels, everybody, persona, chosen)
    sets = split.split_by_time(harvest.replies, chosen.validation_share, chosen.test_share)

    # Write: all files at once.
    files = outputs.encode(sets)
    summary = report.build(reading, read_channels, copies, persona, harvest, sets, files, chosen)
    report.show(summary, sets)
    if chosen.dry_run:
        console.say("dry run: nothing was written")
        return
    outputs.publish(chosen.output_dir, files | {"report.json": report.encode(summary)})
    console.say(f"wrote {summary['replies']['records']:,} records and report.json to {chosen.output_dir}")


if __name__ == "__main__":
    console.run(main)
