"""Ready-made examples: our own records, OpenAI's messages, ShareGPT's conversations."""

import json

import pytest

import prepare_training_data
from tests.chatlogs import discord_files as files
from utils import records
from utils.chatlogs import dialogues
from utils.chatlogs.settings import PrepareSettings
from utils.chatlogs.sources import chat_jsonl, readers
from utils.chatlogs.sources.export import NotAnExport

OPENAI = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": [{"type": "text", "text": "two?"}, {"type": "image_url"}]},
        {"role": "user", "content": "please"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "2"},
    ]
}
SHARE_GPT = {
    "id": "x",
    "system": "Be brief.",
    "conversations": [
        {"from": "gpt", "value": "hello, I am here"},
        {"from": "human", "value": "one?"},
        {"from": "gpt", "value": "1"},
        {"from": "human", "value": "two?\nplease"},
        {"from": "gpt", "value": "2"},
        {"from": "human", "value": "and?"},
    ],
}
EXPECTED = [("one?", "1", ()), ("two?\nplease", "2", (("one?", "1"),))]


def encoded(items, shape):
    if shape == "lines":
        return "\n".join(json.dumps(item) for item in items).encode()
    return json.dumps(items, indent=2 if shape == "pretty" else None).encode()


@pytest.mark.parametrize("shape", ["lines", "array", "pretty"])
@pytest.mark.parametrize("item", [OPENAI, SHARE_GPT])
def test_a_dialogue_is_one_record_a_reply(tmp_path, shape, item):
    (tmp_path / "chat.json").write_bytes(encoded([item, item], shape))
    reading = readers.read_source(tmp_path)
    assert reading.exports == [] and reading.files == 1 and reading.warnings == []
    assert [(one.instruction, one.output, one.history) for one in reading.records] == EXPECTED * 2
    assert {one.system for one in reading.records} == {"Be brief."}
    assert [(one.source.conversation, one.source.turn) for one in reading.records] == [
        ("chat/1", 0),
        ("chat/1", 1),
        ("chat/2", 0),
        ("chat/2", 1),
    ]


def test_our_own_records_come_back_as_they_were():
    source = records.Source(conversation="5/6", turn=3, timestamp="2024-05-01T18:00:00Z", output_ids=("7",))
    record = records.Record(instruction="a", input="b", output="c", system="s", history=(("x", "y"),), source=source)
    alpaca = b'{"instruction": "q", "input": null, "output": "a", "id": 5}'
    found, problems = chat_jsonl.read(records.encode(record) + b"\n\n" + alpaca, "mine")
    assert found[0] == record and problems == []
    assert (found[1].instruction, found[1].input, found[1].source.conversation) == ("q", "", "mine/2")


def test_a_single_chat_and_damaged_lines():
    assert len(chat_jsonl.read(json.dumps(OPENAI["messages"]).encode(), "x")[0]) == 2
    assert len(chat_jsonl.read(json.dumps(OPENAI, indent=1).encode(), "x")[0]) == 2
    lines = encoded([OPENAI, {"messages": [{"role": "user", "content": "?"}]}], "lines") + b'\n{"messages": \xff\n5'
    found, problems = chat_jsonl.read(lines, "x")
    assert len(found) == 2 and problems == [
        "has 1 damaged lines, the first is line 3",
        "has 2 items without a prompt and a reply; they are left out",
    ]
    cut, problems = chat_jsonl.read(encoded([OPENAI, OPENAI], "array")[:-9], "x")
    assert len(cut) == 2 and "is cut off in or before the message at byte" in problems[0]
    with pytest.raises(NotAnExport, match="holds no example"):
        chat_jsonl.read(b'{"messages": [{"role": "user", "content": "?"}]}', "x")


def test_what_people_write_is_never_taken_for_an_example(tmp_path):
    told = json.dumps({"messages": [{"role": "user", "content": "x"}], "instruction": "x"})
    path = files.write(tmp_path / "a.json", [files.message(0, "rohan", told)])
    assert readers.read_file(path)[0].messages[0].content == told
    (tmp_path / "dump.json").write_text(
        json.dumps([{"content": told, "id": "5", "timestamp": "2024-05-01T18:00:00Z", "author": {"id": "6"}}])
    )
    assert readers.read_file(tmp_path / "dump.json")[0].messages[0].content == told


def test_cleaning_privacy_and_limits_apply():
    def example(said, asked="hi", **keys):
        return records.Record(instruction=asked, output=said, **keys)

    source = records.Source(output_ids=("7", "x"), timestamp="never", confidence=0.9)
    found, dropped, masked = dialogues.write(
        [
            example("mail a@example.org </s> \u202ex", asked="<@5> ghp_" + "a1" * 18, source=source),
            example("  ", asked="?"),
            example("x", asked=" "),
            example("y" * 3000),
            example("https://example.org"),
            example("ok", history=(("", "x"), ("a", "b"))),
            example("ok", source=records.Source(confidence=0.1)),
        ],
        "Rohan",
        PrepareSettings(),
    )
    first, second = (reply.record for reply in found)
    assert (first.instruction, first.output) == ("[api key]", "mail [email] < /s> x")
    assert first.source.output_ids == ("7",) and first.source.timestamp == "" and "Rohan" in first.system
    assert second.history == (("a", "b"),) and masked == {"email": 1, "api key": 1}
    assert dropped == {
        "reply_without_text": 1,
        "prompt_without_text": 1,
        "reply_too_long": 1,
        "reply_only_links": 1,
        "below_min_confidence": 1,
    }


def test_from_a_file_of_examples_to_three_sets(tmp_path, capsys):
    lines = [{"instruction": f"question {n}", "input": "", "output": f"answer {n}"} for n in range(40)]
    (tmp_path / "mine.jsonl").write_bytes(encoded(lines, "lines"))
    out = tmp_path / "out"
    prepare_training_data.main(["--source", str(tmp_path / "mine.jsonl"), "--persona", "Ro", "--output-dir", str(out)])
    train, test = records.read(out / "train.jsonl"), records.read(out / "test.jsonl")
    assert [record.instruction for record in train] == [f"question {n}" for n in range(34)] and len(test) == 4
    assert {record.system for record in train} == {"You are Ro, chatting on Discord. Answer the way Ro writes."}
    prepare_training_data.main(["--source", str(tmp_path / "mine.jsonl"), "--output-dir", str(out)])
    assert {record.system for record in records.read(out / "train.jsonl")} == {""}


def test_examples_and_exports_together(tmp_path):
    (tmp_path / "mine.jsonl").write_bytes(encoded([SHARE_GPT] * 3, "lines"))
    files.write(tmp_path / "x" / "a.json", files.conversations(12))
    out = tmp_path / "out"
    prepare_training_data.main(
        ["--source", str(tmp_path / "mine.jsonl"), str(tmp_path / "x"), "--persona", "rohan", "--output-dir", str(out)]
    )
    train = records.read(out / "train.jsonl")
    assert sum(record.output == "1" for record in train) == 3
    assert all(record.source.timestamp for record in records.read(out / "test.jsonl"))
