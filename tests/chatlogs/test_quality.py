"""Near-duplicates, languages, the limit on records, and that the held-out sets hold no copies of training replies."""

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.chatlogs.quality import filters, near_duplicates
from utils.chatlogs.quality.split import split_by_time
from utils.chatlogs.settings import PrepareSettings
from utils.chatlogs.turns import Reply
from utils.console import UserError
from utils.records import Record, Source

LONG = "the long screw behind the fan holds the lid of the printer"


def replies(*outputs, conversation=None):
    return [
        Reply(
            Record(
                instruction="q",
                output=output,
                source=Source(conversation=conversation or f"500/{number}", output_ids=(str(number),)),
            ),
            1000 * number,
            frozenset([number]),
            frozenset(),
        )
        for number, output in enumerate(outputs)
    ]


def outputs(made):
    return [reply.record.output for reply in made]


def test_of_near_duplicates_the_first_stays():
    made = replies(
        LONG, "lol", LONG.upper() + "!!", "lol", f"{LONG}, i think", "something else entirely, in as many words"
    )
    kept, dropped = filters.choose(made, PrepareSettings())
    assert outputs(kept) == [LONG, "lol", "lol", "something else entirely, in as many words"]
    assert dropped == {"near_duplicate": 2}
    kept, dropped = filters.choose(made, PrepareSettings(drop_near_duplicates=False))
    assert len(kept) == 6 and not dropped


def test_short_replies_are_capped_and_not_erased():
    kept, dropped = filters.choose(replies(*["thanks, that worked"] * 50), PrepareSettings())
    assert len(kept) == 20 and dropped == {"repeated_reply": 30}


def test_the_newest_records_stay():
    kept, dropped = filters.choose(replies(*map(str, range(10))), PrepareSettings(max_records=4))
    assert outputs(kept) == ["6", "7", "8", "9"] and dropped == {"over_max_records": 6}


def words(rng, count):
    return [rng.choice(["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op"]) + str(rng.randrange(9)) for _ in range(count)]


@given(st.integers(0, 10_000))
def test_near_duplicates_are_those_that_comparing_all_pairs_finds(seed):
    rng = random.Random(seed)
    texts = [words(rng, rng.randint(5, 14)) for _ in range(8)]
    for text in texts[:4]:
        changed = list(text)
        changed[rng.randrange(len(text))] = "zz"
        texts.append(changed)
    sets = [near_duplicates.shingles(" ".join(text)) for text in texts]

    def similar(one, other):
        return bool(one) and len(one & other) >= near_duplicates.MIN_SIMILARITY * len(one | other)

    known = sets[:6]
    expected = [not any(similar(one, other) for other in known) for one in sets[6:]]
    joined = [" ".join(text) for text in texts]
    assert near_duplicates.without_copies(joined[6:], joined[:6]) == expected


CONVERSATIONS = {
    "500/1": (
        "the printer is broken again, can you have a look at it tomorrow?",
        "sure, i will bring the long screwdriver",
    ),
    "500/2": (
        "kannst du morgen mal nach dem Drucker schauen, der ist schon wieder kaputt",
        "ja, ich bringe den Schrauber mit",
    ),
    "500/3": ("ok?", "lol"),
}


def conversations():
    return [
        Reply(Record(instruction=asked, output=said, source=Source(conversation=name)), 1, frozenset(), frozenset())
        for name, (asked, said) in CONVERSATIONS.items()
    ]


@pytest.mark.parametrize(
    ("languages", "kept"), [((), [1, 2, 3]), (("en",), [1, 3]), (("de",), [2, 3]), (("en", "de"), [1, 2, 3])]
)
def test_the_language_is_the_conversations(languages, kept):
    pytest.importorskip("py3langid")
    made, dropped = filters.choose(conversations(), PrepareSettings(languages=languages))
    assert [reply.record.source.conversation for reply in made] == [f"500/{number}" for number in kept]
    assert dropped.total() == 3 - len(kept) and set(dropped) <= {"other_language"}


def test_a_short_message_of_a_conversation_in_the_language_stays():
    pytest.importorskip("py3langid")
    made = conversations()[:1] + replies("genau", "danke", conversation="500/1")
    assert len(filters.choose(made, PrepareSettings(languages=("en",)))[0]) == 3


def test_an_unknown_language_is_one_line():
    pytest.importorskip("py3langid")
    with pytest.raises(UserError, match="LANGUAGES holds 'english'"):
        filters.choose(conversations(), PrepareSettings(languages=("english",)))


def test_the_language_model_is_loaded_only_when_asked_for():
    code = (
        "import sys\nfrom utils.chatlogs.quality import filters\nfrom utils.chatlogs.settings import PrepareSettings\n"
        "filters.choose([], PrepareSettings())\nprint({'py3langid', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_copies_of_training_replies_leave_the_held_out_sets():
    texts = [f"{LONG} number {n} {'abcdefghij'[n % 10] * 4} {n * 7} {n * n} and {n + 5} others" for n in range(20)]
    texts[19] = texts[2] + " ok"
    texts[18] = "lol"
    texts[3] = "lol"
    split = split_by_time(replies(*texts), 0.1, 0.15)
    held = outputs(split.validation) + outputs(split.test)
    assert texts[19] not in held and "lol" in held and split.copies == 1
    assert sum(map(len, split.sets.values())) + split.copies == 20


def test_a_held_out_set_is_never_empty():
    split = split_by_time(replies(LONG, LONG, LONG), 0.1, 0.1)
    assert all(split.sets.values()) and split.copies == 0
