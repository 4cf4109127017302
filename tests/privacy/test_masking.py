"""Secrets and personal data: what must go, what must stay, and that no piece of it is left."""

import random
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.privacy.masking import mask, values

LETTERS = string.ascii_letters + string.digits


def some(rng, length, alphabet=LETTERS):
    return "".join(rng.choices(alphabet, k=length))


def luhn(digits):
    total = sum(sum(divmod(2 * int(d), 10)) for d in digits[::-2]) + sum(int(d) for d in digits[-2::-2])
    return digits + str(-total % 10)


def iban(country, rest):
    value = int("".join(str(int(ch, 36)) for ch in rest + country + "00"))
    return f"{country}{98 - value % 97:02d}{rest}"


def bot_token(rng):
    return "MTEwMDAwMDAw" + some(rng, 14) + "." + some(rng, 6) + "." + some(rng, rng.choice([27, 38]), LETTERS + "_-")


MAKERS = {
    "discord token": bot_token,
    "webhook": lambda rng: f"https://discord.com/api/webhooks/11000000000000000{some(rng, 2, '123')}/{some(rng, 68)}",
    "api key": lambda rng: rng.choice(
        [
            "AKIA" + some(rng, 16, string.ascii_uppercase + string.digits),
            "ghp_" + some(rng, 36),
            "github_pat_" + some(rng, 22) + "_" + some(rng, 59),
            "sk-" + some(rng, 48),
            "sk-proj-" + some(rng, 60, LETTERS + "-_") + "x",
            "xoxb-" + some(rng, 12, "0123456789") + "-" + some(rng, 24),
            "AIza" + some(rng, 35, LETTERS + "-_"),
        ]
    ),
    "json web token": lambda rng: f"eyJ{some(rng, 33)}.eyJ{some(rng, 60)}.{some(rng, 43)}",
    "credentials": lambda rng: f"postgres://{some(rng, 6)}:{some(rng, 12, LETTERS + '!$*#')}@db.example.org/app",
    "card number": lambda rng: luhn("4" + some(rng, 14, string.digits)),
    "iban": lambda rng: iban("DE", some(rng, 18, string.digits)),
    "email": lambda rng: f"{some(rng, 8)}.{some(rng, 4)}+x@{some(rng, 6, string.ascii_lowercase)}.example.org",
    "phone": lambda rng: f"+1 {rng.randint(201, 989)}-{rng.randint(201, 989)}-{rng.randint(1000, 9999)}",
    "ip": lambda rng: ".".join(str(rng.randint(33, 126)) for _ in range(4)),
    "invite": lambda rng: "https://discord.gg/" + some(rng, 8),
    "signed link": lambda rng: (
        f"https://cdn.discordapp.com/attachments/1/2/a.png?ex={some(rng, 8)}&hm={some(rng, 64)}&"
    ),
}
AROUND = [
    "{}",
    "here: {}",
    "({})",
    "use {} please",
    '"{}",',
    "`{}`",
    "<{}>",
    "is it {}?",
    "ok\n{}\nthanks",
    "```\nX={}\n```",
]


@pytest.mark.parametrize("kind", MAKERS)
def test_planted_values_do_not_survive(kind):
    rng = random.Random(kind)
    for number in range(200):
        value = MAKERS[kind](rng)
        around = AROUND[number % len(AROUND)]
        masked, found = mask(around.format(value))
        assert found.total() >= 1 and value not in masked, (value, masked)
        if "\n" not in around:
            assert f"[{kind}]" in masked and found[kind] >= 1, (value, masked)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key -----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY----- ok", "key [private key] ok"),
        ("bob:hunter2@example.org", "[credentials]@example.org"),
        ("DISCORD_TOKEN=abc123def456", "DISCORD_TOKEN=[password]"),
        ("the password is hunter2000", "the password is [password]"),
        ("my password is hunter2", "my password is [password]"),
        ("ana (at) example (dot) org", "[email]"),
        ("ana at example dot org", "[email]"),
        ("mail ana@example.org, or dale@example.org.", "mail [email], or [email]."),
        ("call 06 39 98 41 07", "call [phone]"),
        ("it's 0113 496 0123", "it's [phone]"),
        ("(415) 555-0132 or 415.555.0132", "[phone] or [phone]"),
        ("text me 98765 43210", "text me [phone]"),
        ("fe80::1ff:fe23:4567:890a", "[ip]"),
        ("GB82 WEST 1234 5698 7654 32 ok", "[iban] ok"),
        ("4111 1111 1111 1111 thanks", "[card number] thanks"),
        ("https://example.org/?q=wJalrXUtn3EMI/K7MDENG/bPxRfiCY1234567KEY ok", "https://example.org/?q=[api key] ok"),
        ("-wJalrXUtn3EMI/K7MDENG/bPxRfiCY1234567KEY", "-[api key]"),
        ("-redis://me:hunter2@db/0", "-redis://[credentials]@db/0"),
        ("DE 89 3704 0044 0532 0130 00 ok", "[iban] ok"),
        ("6304 9339 9773 4324", "[card number]"),
        ("ana @ example.org, ana<at>example<dot>org, _ana_at_example.org_", "[email], [email], [email]_"),
        ("join .gg/AbC123 or discord . gg / AbC123", "join [invite] or [invite]"),
        ("https://discord.gg/invite/AbC123 discord.gift/AbCdEf123456 discord.gg\\AbC1", "[invite] [invite] [invite]"),
        ("call me 06-12-34-21-67", "call me [phone]"),
        (
            "Handynummer: 02.1234.1624, мой номер 512.345.235, 📞 3123452633",
            "Handynummer: [phone], мой номер [phone], 📞 [phone]",
        ),
        ("PHONE=+905012342721", "PHONE=[phone]"),
        ("xoxd-W38rIz50n7u9sqb%2BF9ff1u5uRxQ7E%3D", "[api key]"),
        ("токен7471939969:AAWFy24hSo9FZEVmjkobGLq8uFCoNjFaSWx", "токен[api key]"),
    ],
)
def test_what_becomes_of_a_value(text, masked):
    assert mask(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4, v10.0.19045.3803, Chrome 120.0.6099.109, kernel 2.6.32-21, 10.04.1 LTS",
        "2004-12-25 10:30:45 or 25.12.2004 10:30, or 05/06/2024 at 5",
        "127.0.0.1 0.0.0.0 255.255.255.0 8.8.8.8 localhost:8080",
        "1235000000000000123 is a message id, 1700000000 and 1700000000123 are times",
        "0x7ffeefbff5c8 deadbeef 3f786850e387550fdab836ed7e6dc881de23001b",
        "std::vector<int> a::b, 00:1a:2b:3c:4d:5e, ::1",
        "git@github.com:me/repo.git icon@2x.png user@host @mags",
        "1 2 3 4 5 6 7 8 9 10 11 12, 1,000,000 or 1 000 000, 1920x1080@60",
        "chmod 0755 0644 0777, ls -la /usr/share/doc/python3.11/examples/README.Debian",
        "password: ask Dale, the token is missing, secret = something",
        "https://discord.com/channels/1/2/3 https://example.org/a?b=c&sig=1",
        "look at that, meet at 5 at the bench",
        "SKU 4111-1111-1111-1112, tracking 1Z999AA10123456784",
        "sk-learn, gh_pages, AKIAx, eyJ, sg.sg.sg",
        "555-0132 x3, 50% of 12-34-56",
        "call of duty 5 has 38896032 players, text size 43 38 17 12, 248 352 1728 2112 and 256 240 352 3008",
        "lunch @ 12.30 or @ the site, look @ example.org, look_at_example.png, op.gg/champions, u.gg/lol",
        "key-value, oauth: yes, xai-nope, r8_short, dapi 5, monkey-0123456789abcdef0123456789abcdef",
    ],
)
def test_ordinary_text_stays(text):
    assert mask(text) == (text, {})


@pytest.mark.parametrize(
    "key",
    [
        *("1//0gAbcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOP_0123", "whsec_2TlDtUvhPdIpBhS4viUtfdK7xPFk6yvF"),
        *(f"dop_v1_{64 * 'a'}", f"shpat_{32 * '0'}", f"gsk_{52 * 'x'}", f"xai-{80 * 'x'}", f"r8_{37 * 'x'}"),
        *(f"tskey-auth-{17 * 'x'}-{32 * 'x'}", f"AGE-SECRET-KEY-1{58 * 'Q'}", f"dapi{32 * 'a'}", f"sbp_{40 * 'a'}"),
        *(f"key-{32 * 'a'}", f"SK{32 * 'a'}", f"ntn_{46 * 'x'}", f"pplx-{48 * 'x'}", f"oauth:{30 * 'x'}"),
        *(f"dckr_pat_{27 * 'x'}", f"hvs.{95 * 'x'}", f"AccountKey={86 * 'x'}==", f"glpat-{20 * 'x'}"),
        *(f"lin_api_{40 * 'x'}", f"figd_{40 * 'x'}", f"PMAK-{24 * 'a'}-{34 * 'a'}", f"sq0csp-{43 * 'x'}"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "`{}`", "k={}", "_{}_", "ключ{}вот", "https://example.org/?q={}"])
def test_keys_of_many_services_are_known_by_their_marks(key, around):
    masked, found = mask(around.format(key))
    assert found == {"api key": 1} and not set(masked) & set("Qx0") - set(around) and len(masked) < len(around) + 12


@pytest.mark.parametrize("kind", ["discord token", "api key", "json web token", "webhook", "card number"])
def test_a_secret_in_pieces_over_several_lines_is_found(kind):
    rng = random.Random(kind)
    for _ in range(50):
        value = MAKERS[kind](rng)
        cut = rng.randint(5, len(value) - 6)
        masked, found = mask(f"here it comes\n{value[:cut]}\n{value[cut:]}\n\nthanks a lot")
        assert value[cut:] not in masked and found.total() >= 1, (value, masked)
        assert masked.endswith("thanks a lot") and masked.startswith("here it comes")


def test_counts_hold_kinds_and_no_values():
    assert mask("a@example.org b@example.org discord.gg/abcdef")[1] == {"email": 2, "invite": 1}


@pytest.mark.parametrize("kind", MAKERS)
def test_the_values_are_what_mask_replaces(kind):
    rng = random.Random(kind)
    for around in AROUND:
        text = around.format(MAKERS[kind](rng))
        masked, counts = mask(text)
        found = values(text)
        assert sorted(each for each, _ in found) == sorted(counts.elements())
        joined = text.replace("\n", "")  # as a value in pieces is read
        assert all(value in joined and value not in masked for _, value in found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ana**@example**.org or 06 39 98 41 07", [("email", "ana@example.org"), ("phone", "06 39 98 41 07")]),
        ("postgres://me:hunter2@db.example.org/app", [("credentials", "me:hunter2@")]),
        ("the password is hunter2000 and that's it", [("password", "hunter2000")]),
        ("ghp_abcdefghijklmno\npqrstuvwxyz0123456789", [("api key", "ghp_abcdefghijklmnopqrstuvwxyz0123456789")]),
        ("version 1.2.3.4 at 10:30", []),
    ],
)
def test_values_as_they_are_read(text, found):
    assert sorted(values(text)) == found


@given(st.text(), st.text())
def test_an_address_never_survives(before, after):
    assert "ana.k@example.org" not in mask(f"{before} ana.k@example.org {after}")[0]


@given(st.text(st.sampled_from("0123456789abcAMe@.:/+- \n[]_=%()"), max_size=300))
def test_masking_again_changes_nothing_much(text):
    once, _ = mask(text)
    mask(once)[0].encode()


PIECES = [
    "1 ",
    "1.",
    "a@",
    "+1",
    "1-",
    "A1",
    "::",
    "1:",
    "M",
    "a.",
    "x:y@",
    "at ",
    "a at ",
    "a dot ",
    "http://",
    "password: ",
    ".gg/",
    "discord . gg ",
    "a @ ",
    "a_at_",
    "key-",
    "r8_",
    "xoxb-%2B",
    "call me ",
]


@pytest.mark.parametrize(
    "piece", [*PIECES, "-----BEGIN PRIVATE KEY-----", "eyJa.", "\n1", "DE89 ", "sk-", "://a:", "?x="]
)
def test_time_is_linear_in_the_text(piece):
    start = time.perf_counter()
    mask(piece * (4000 // len(piece)))
    assert time.perf_counter() - start < 0.5
