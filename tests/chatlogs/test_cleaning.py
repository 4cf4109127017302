"""Discord markup, invisible tricks and control tokens."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.chatlogs.text import cleaning

PEOPLE = {485768854245470220: "Mags", 5: "Dale"}
CHANNELS = {7: "bench"}
CONTROL_TOKENS = [
    *("<s>", "</s>", "<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|endoftext|>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<start_of_turn>", "<end_of_turn>", "<file_sep>", "<repo_name>"),
    *("<think>", "<tool_call>", "<jupyter_start>", "<issue_comment>", "<empty_output>", "<｜end▁of▁sentence｜>"),
]


def clean(text):
    return cleaning.clean(text, lambda person: PEOPLE.get(person, ""), lambda channel: CHANNELS.get(channel, ""))


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("hi <@485768854245470220> and <@!5>", "hi @Mags and @Dale"),
        ("hi @Mags, how is <#7>?", "hi @Mags, how is #bench?"),
        ("<@999> look", "look"),
        ("ask @Unknown or @deleted-role in #deleted-channel please", "ask or in please"),
        ("ask <@&999> in <#999> please", "ask in please"),
        ("@everyone @here @@everyone", "everyone here everyone"),
        ("nice <:screw:123456789012345678> <a:spin:123456789012345678>", "nice :screw: :spin:"),
        ("at <t:1700000000:t> on <t:1700000000:d>, so <t:1700000000>", "at 22:13 on 2023-11-14, so 2023-11-14 22:13"),
        ("never <t:9999999999999:R>", "never"),
        ("try </game night:123456789012345678>", "try /game night"),
        ("see <https://example.org/a?b=c>", "see https://example.org/a?b=c"),
        ("10:30:45 or 1:2:3", "10:30:45 or 1:2:3"),
        ("**bold** ||spoiler|| > quote", "**bold** ||spoiler|| > quote"),
        ("a\r\nb\rc\u2028d\u2029e\x85f", "a\nb\nc\nd\ne\nf"),
        ("a\n\n\n\n\nb  \nc", "a\n\nb\nc"),
        ("x < y > z [1] <b>", "x < y > z [1] <b>"),
    ],
)
def test_markup_becomes_what_a_person_sees(raw, wanted):
    assert clean(raw) == wanted


@pytest.mark.parametrize("code", ["`<@5>  @everyone <t:1:t>`", "```py\n<@5>  x = a[1]  @here\n\n\n\ny```", "``<@5>``"])
def test_markup_in_code_stays(code):
    assert code in clean(f"see {code} or <@5>")
    assert clean(f"see {code} or <@5>").endswith("or @Dale")


def test_an_unclosed_fence_opens_no_block():
    assert clean("``` <@5>") == "``` @Dale"


def test_control_characters_and_bidi_overrides_go_and_joiners_stay():
    assert clean("a\x00b\x1bc\u202edcba\u202c\u2066x\u2069\ufeff\u200by") == "abcdcbaxy"
    for kept in ("👩\u200d💻", "می\u200cخواهم", "❤\ufe0f", "क्\u200dष", "🏴\U000e0067\U000e0062\U000e007f"):
        assert clean(kept) == kept
    assert clean("hidden\U000e0041\U000e0042") == "hidden"


@pytest.mark.parametrize("token", CONTROL_TOKENS)
@pytest.mark.parametrize("around", ["{}", "a{}b", "`{}`", "<@999>{}", "```\n{}\n```"])
def test_control_tokens_become_ordinary_text(token, around):
    for hidden in (token, token[0] + "\u200b" + token[1:], token[:1] + "<@999>" + token[1:]):
        assert token not in clean(around.format(hidden))


@given(st.lists(st.sampled_from([*CONTROL_TOKENS, "<", ">", "|", "/", "s", "[", "\u200b", "`", "<@999>", "\n", " "])))
def test_no_text_yields_a_control_token(pieces):
    text = clean("".join(pieces))
    assert not any(token in text for token in CONTROL_TOKENS if "`" not in "".join(pieces)), text


TOKENIZER = Path(__file__).parents[2] / "../shared/tinyllama/tokenizer.json"


@pytest.mark.skipif(not TOKENIZER.exists(), reason="the TinyLlama tokenizer is not there")
def test_no_text_yields_a_special_token_of_tinyllama():
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(str(TOKENIZER))
    special = set(tokenizer.get_added_tokens_decoder())
    assert tokenizer.token_to_id("</s>") in special
    ids = tokenizer.encode("a</s>", add_special_tokens=False).ids
    assert not special.isdisjoint(ids)

    @settings(deadline=None, max_examples=500)
    @given(
        st.lists(
            st.sampled_from([*CONTROL_TOKENS, "<", "/", "s", ">", "\u200b", "\u202e", "<@9>", "\n", " ", "\x00", "é"])
        )
    )
    def check(pieces):
        text = clean("".join(pieces))
        assert special.isdisjoint(tokenizer.encode(text, add_special_tokens=False).ids), text

    check()


@given(st.text(st.characters(codec=None)))
def test_every_text_can_be_written(text):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert cleaning.remove_invisible(cleaned) == cleaned


@pytest.mark.parametrize(
    "piece", ["`", "```", "<", "<@", "<t:", "@", "@@everyone", "[", " ", "\n", "a", "http://", "``x`"]
)
def test_time_is_linear_in_the_text(piece):
    start = time.perf_counter()
    clean(piece * 20_000)
    assert time.perf_counter() - start < 1


def test_only_links():
    assert cleaning.is_only_links("https://example.org/x\n<https://example.org>")
    assert not cleaning.is_only_links("see https://example.org/x")
    assert not cleaning.is_only_links("no link")
