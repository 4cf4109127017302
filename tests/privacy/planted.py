"""Planted values: seeded secrets and personal data of every kind, in varied surroundings. All of them are invented.

The makers follow the issuers' own formats, not the detector's patterns. What no reader could tell from an ordinary
number without being told (a national phone number without a trunk prefix, an address that reads like a version) stands
in surroundings that tell.
"""

from __future__ import annotations

import base64
import json
import random
import string
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import phonenumbers

LETTERS = string.ascii_letters + string.digits
BASE64URL = LETTERS + "-_"
HEX = "0123456789abcdef"


@dataclass(frozen=True)
class Planted:
    """A message with a value in it; `pieces` are the parts of the value of which none may be left in the text."""

    kind: str
    text: str
    pieces: tuple[str, ...]


def some(rng: random.Random, length: int, alphabet: str = LETTERS) -> str:
    return "".join(rng.choices(alphabet, k=length))


def digits(rng: random.Random, length: int) -> str:
    return some(rng, length, string.digits)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# Secrets -------------------------------------------------------------------------------------------------------------


def bot_token(rng: random.Random) -> str:
    """The id in base64, a time, a signature: 24.6.27 characters for long, 26.6.38 since 2022; `mfa.` for people."""
    if rng.random() < 0.2:
        return "mfa." + some(rng, rng.choice([84, 86]), BASE64URL)
    snowflake = str(rng.randrange(10**16, 10 ** rng.choice([17, 18, 19])))
    return f"{base64url(snowflake.encode())}.{some(rng, 6, BASE64URL)}.{some(rng, rng.choice([27, 38]), BASE64URL)}"


def webhook(rng: random.Random) -> str:
    if rng.random() < 0.15:
        return f"https://hooks.slack.com/services/T{some(rng, 8).upper()}/B{some(rng, 10).upper()}/{some(rng, 24)}"
    host = rng.choice(["discord.com", "discordapp.com", "canary.discord.com", "ptb.discord.com", "DISCORD.COM"])
    scheme, version = rng.choice(["https://", "https://", ""]), rng.choice(["", "", "v8/", "v10/"])
    tail = rng.choice(["", "", "?wait=true", "/slack", "?thread_id=123"])
    return f"{scheme}{host}/api/{version}webhooks/{rng.randrange(10**17, 10**19)}/{some(rng, 68, BASE64URL)}{tail}"


def api_key(rng: random.Random) -> str:
    makers: list[Callable[[], str]] = [
        lambda: rng.choice(["AKIA", "ASIA"]) + some(rng, 16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
        lambda: some(rng, 40, LETTERS + "+/"),
        lambda: "AWS_SECRET_ACCESS_KEY=" + some(rng, 40, LETTERS + "+/"),
        lambda: rng.choice(["ghp_", "gho_", "ghu_", "ghs_", "ghr_"]) + some(rng, 36),
        lambda: f"github_pat_{some(rng, 22)}_{some(rng, 59)}",
        lambda: f"sk-{some(rng, 20)}T3BlbkFJ{some(rng, 20)}",
        lambda: f"sk-{rng.choice(['proj', 'svcacct', 'admin'])}-{some(rng, rng.choice([48, 124]), BASE64URL)}",
        lambda: f"sk-ant-api03-{some(rng, 93, BASE64URL)}AA",
        lambda: f"xox{rng.choice('bp')}-{digits(rng, 12)}-{digits(rng, 13)}-{some(rng, 24)}",
        lambda: f"xoxp-{digits(rng, 11)}-{digits(rng, 11)}-{digits(rng, 12)}-{some(rng, 32, HEX)}",
        lambda: f"xoxe.xoxp-1-{some(rng, 160)}",
        lambda: f"xapp-1-A{some(rng, 10).upper()}-{digits(rng, 13)}-{some(rng, 64, HEX)}",
        lambda: "AIza" + some(rng, 35, BASE64URL),
        lambda: "ya29." + some(rng, 120, BASE64URL),
        lambda: "GOCSPX-" + some(rng, 28, BASE64URL),
    ]
    return rng.choice(makers)()


def json_web_token(rng: random.Random) -> str:
    spaced = rng.choice([(",", ":"), (", ", ": ")])
    header = {"alg": rng.choice(["HS256", "RS256", "ES512"]), "typ": "JWT"}
    claims = {"sub": digits(rng, 10), "name": some(rng, 8), "iat": rng.randrange(1_500_000_000, 1_800_000_000)}
    parts = [base64url(json.dumps(part, separators=spaced).encode()) for part in (header, claims)]
    return ".".join([*parts, base64url(rng.randbytes(rng.choice([32, 64, 256])))])


def private_key(rng: random.Random) -> str:
    name = rng.choice(["RSA ", "EC ", "OPENSSH ", "", "ENCRYPTED ", "DSA ", "PGP "])
    block = " BLOCK" if name == "PGP " else ""
    lines = [some(rng, 64, LETTERS + "+/") for _ in range(rng.randint(2, 24))] + [some(rng, 30, LETTERS + "+/") + "=="]
    end = rng.choice([f"-----END {name}PRIVATE KEY{block}-----", f"-----END {name}PRIVATE KEY{block}-----", ""])
    line_end = rng.choice(["\n", "\n", "\\n"])
    return line_end.join([f"-----BEGIN {name}PRIVATE KEY{block}-----", *lines, *([end] if end else [])])


def credentials(rng: random.Random) -> str:
    """user:password@, without the host: that one may stay."""
    user = rng.choice(["root", "admin", "ines", "gherkin", "bot_user", "app", some(rng, 6)])
    password = some(rng, rng.randint(4, 24), LETTERS + rng.choice(["", "!$*#", "-_.~", "%+"]))
    return f"{user}:{password}@"


def with_host(rng: random.Random, login: str) -> str:
    host = rng.choice(
        ["db.example.org", "localhost", f"10.0.{rng.randint(0, 99)}.7", "broker.example.org:1883", "db:5432"]
    )
    scheme = rng.choice(["postgres", "mysql", "mongodb+srv", "redis", "amqp", "https", "ftp", "smb", "ssh", "socks5"])
    return (f"{scheme}://" if rng.random() < 0.7 else "") + login + host + rng.choice(["", "", "/app"])


# Money ---------------------------------------------------------------------------------------------------------------

CARDS = [("4", 16), ("4", 13), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15), ("6011", 16)]
CARDS += [
    ("65", 16),
    ("644", 16),
    ("649", 16),
    ("3528", 16),
    ("3589", 16),
    ("62", 16),
    ("36", 14),
    ("300", 14),
    ("305", 14),
]
GROUPS = {16: (4, 4, 4, 4), 15: (4, 6, 5), 14: (4, 6, 4), 13: (4, 3, 3, 3)}


def luhn(number: str) -> str:
    total = sum(sum(divmod(2 * int(d), 10)) for d in number[::-2]) + sum(int(d) for d in number[-2::-2])
    return number + str(-total % 10)


def card_number(rng: random.Random) -> str:
    prefix, length = rng.choice(CARDS)
    number = luhn(prefix + digits(rng, length - 1 - len(prefix)))
    separator = rng.choice(["", "", " ", " ", "-", ".", "\u00a0"])
    return separator.join(grouped(number, GROUPS[length])) if separator else number


def grouped(text: str, sizes: tuple[int, ...]) -> list[str]:
    parts, start = [], 0
    for size in sizes:
        parts.append(text[start : start + size])
        start += size
    return parts


IBANS = {  # ISO 13616's structures: n digits, a capital letters, c either
    "DE": "18n", "FR": "10n11c2n", "GB": "4a14n", "NL": "4a10n", "ES": "20n", "IT": "1a10n12c", "BE": "12n",
    "AT": "16n", "CH": "5n12c", "SE": "20n", "NO": "11n", "DK": "14n", "FI": "14n", "PL": "24n", "PT": "21n",
    "IE": "4a14n", "CZ": "20n", "HU": "24n", "RO": "4a16c", "GR": "7n16c", "TR": "6n16c", "SA": "2n18c",
    "AE": "19n", "BR": "23n1a1c", "UA": "6n19c", "LU": "3n13c", "MT": "4a5n18c", "CY": "8n16c", "KW": "4a22c",
    "JO": "4a4n18c", "BY": "4c4n16c", "MU": "4a19n3a", "EG": "25n", "PK": "4a16c", "IL": "19n",
}  # fmt: skip


def iban(rng: random.Random) -> str:
    country, structure = rng.choice(list(IBANS.items()))
    alphabets = {"n": string.digits, "a": string.ascii_uppercase, "c": string.ascii_uppercase + string.digits}
    rest, count = "", ""
    for sign in structure:
        if sign in alphabets:
            rest, count = rest + some(rng, int(count), alphabets[sign]), ""
        else:
            count += sign
    value = int("".join(str(int(ch, 36)) for ch in rest + country + "00"))
    plain = f"{country}{98 - value % 97:02d}{rest}"
    separator = rng.choice(["", "", " ", " ", "-", "\u00a0"])
    text = separator.join(plain[i : i + 4] for i in range(0, len(plain), 4))
    return rng.choice([text, text, text.lower()])


# People --------------------------------------------------------------------------------------------------------------


def email(rng: random.Random) -> str:
    names = ["ana", "j.smith", "rohan_k", "o'brien", "jürgen", "мария", "magda.kowal+gerald", "x", "info", "x-y.z"]
    name = rng.choice([*names, some(rng, 8).lower() + str(rng.randint(1, 99))])
    hosts = [
        "example.org",
        "mail.example.co.uk",
        "gmx.de",
        "sub-domain.example.museum",
        "münchen.example",
        "bücher.example",
    ]
    host = rng.choice(hosts)
    plain = f"{name}@{host}"
    written = rng.randrange(10)
    if written == 0:
        return f"{name} (at) {host.replace('.', ' (dot) ')}" if "'" not in name else plain
    if written == 1:
        return f"{name}[at]{host.replace('.', '[dot]')}" if "'" not in name else plain
    if written == 2:
        return f"{name} at {host.replace('.', ' dot ')}" if "'" not in name else plain
    if written == 3:
        return f"{name}＠{host}"
    return rng.choice([plain, plain, plain.upper(), plain.title()])


COUNTRIES = (
    *("US", "GB", "DE", "FR", "ES", "IT", "NL", "BE", "AT", "CH", "SE", "NO", "DK", "FI", "PL", "PT", "IE", "CZ"),
    *("GR", "TR", "RU", "UA", "IN", "PK", "BD", "CN", "JP", "KR", "SG", "AU", "NZ", "BR", "MX", "AR", "ZA", "NG"),
    *("KE", "EG", "IL", "SA", "AE", "ID", "PH", "VN", "TH", "CA"),
)
ANNOUNCED = ("call me: {}", "my number is {}", "tel. {}", "phone {} please", "text me at {}", "whatsapp {}", "cell {}?")


def phone(rng: random.Random) -> tuple[str, bool]:
    """A number as people write it, and whether only its surroundings say that it is one."""
    country = rng.choice(COUNTRIES)
    kind = rng.choice([phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE])
    example = phonenumbers.example_number_for_type(country, kind) or phonenumbers.example_number(country)
    text = str(example.national_number)
    while True:
        changed = phonenumbers.PhoneNumber(
            country_code=example.country_code,
            national_number=int(text[:-4] + digits(rng, 4)),
            italian_leading_zero=example.italian_leading_zero,
        )
        if phonenumbers.is_valid_number(changed):
            break
    shape = phonenumbers.PhoneNumberFormat
    whole = phonenumbers.format_number(changed, shape.INTERNATIONAL)
    national = phonenumbers.format_number(changed, shape.NATIONAL)
    way = rng.randrange(8)
    if way == 0:
        return phonenumbers.format_number(changed, shape.E164), False
    if way == 1:
        return "00" + phonenumbers.format_number(changed, shape.E164)[1:], False
    if way == 2:
        return phonenumbers.format_number(changed, shape.RFC3966), False
    if way == 3:
        return whole.replace(" ", rng.choice([".", "-", "\u00a0", " - "])), False
    if way == 4:
        return whole.replace(" ", " (0) ", 1), False
    if way == 5:
        return national, True
    if way == 6:
        return national.replace(" ", "").replace("-", ""), True
    return whole, False


def ip(rng: random.Random) -> str:
    if rng.random() < 0.4:
        groups = [f"{rng.randrange(1, 65536):x}" for _ in range(8)]
        groups[0] = rng.choice(["2001", "2a02", "fe80", "2607", "fd12"])
        way = rng.randrange(6)
        if way == 0:
            return ":".join(groups)
        if way == 1:
            return ":".join(groups).upper()
        if way == 2:
            return f"{groups[0]}::{groups[5]}:{groups[6]}%eth0"
        if way == 3:
            return f"[{groups[0]}:{groups[1]}:{groups[2]}::{groups[7]}]:{rng.randint(80, 65535)}"
        if way == 4:
            return f"{groups[0]}:{groups[1]}::{groups[7]}/64"
        return f"::ffff:{rng.randint(11, 223)}.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}"
    address = f"{rng.randint(11, 223)}.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}"
    if address.startswith("127."):
        address = "82" + address[3:]
    return rng.choice(["{}", "{}", "{}:8080", "http://{}/", "http://{}:3000/a?b=c", "{}/24", "ssh root@{}"]).format(
        address
    )


def invite(rng: random.Random) -> str:
    host = rng.choice(
        ["discord.gg/", "discord.com/invite/", "discordapp.com/invite/", "DISCORD.GG/", "dsc.gg/", "www.discord.gg/"]
    )
    return rng.choice(["https://", "http://", ""]) + host + some(rng, rng.choice([7, 8, 10]), LETTERS)


def signed_link(rng: random.Random) -> str:
    name = rng.choice(["a.png", "my_cat.jpg", "x-1.mp4"])
    path = f"{rng.randrange(10**17, 10**19)}/{rng.randrange(10**17, 10**19)}/{name}"
    signature = f"ex={some(rng, 8, HEX)}&is={some(rng, 8, HEX)}&hm={some(rng, 64, HEX)}"
    return rng.choice(
        [
            f"https://cdn.discordapp.com/attachments/{path}?{signature}&",
            f"https://media.discordapp.net/attachments/{path}?{signature}&=&width=400&height=300",
            f"cdn.discordapp.com/attachments/{path}?{signature}",
            f"https://b.s3.amazonaws.com/{some(rng, 9)}?X-Amz-Date=20240501T1&X-Amz-Signature={some(rng, 64, HEX)}",
            f"https://storage.googleapis.com/b/{some(rng, 9)}?X-Goog-Expires=9&X-Goog-Signature={some(rng, 128, HEX)}",
            f"https://x.blob.core.windows.net/c/f.txt?sv=2022-11-02&se=2024&sig={some(rng, 43)}%3D",
            f"https://d1.cloudfront.net/v.mp4?Expires=17&Signature={some(rng, 80)}__&Key-Pair-Id=K2JCJMDEHXQW5F",
        ]
    )


# Surroundings --------------------------------------------------------------------------------------------------------

AROUND = (
    *(
        "{}",
        "here: {}",
        "({})",
        "use {} please",
        '"{}",',
        "'{}'",
        "is it {}?",
        "it's {}.",
        "{}!!",
        "ok, {}, thanks",
        "{} lol",
    ),
    *(
        "`{}`",
        "``{}``",
        "```{}```",
        "```\n{}\n```",
        "```py\nX = '{}'\n```",
        "**{}**",
        "*{}*",
        "_{}_",
        "__{}__",
        "~~{}~~",
    ),
    *("||{}||", "> {}", "- {}", "# {}", "[{}]", "<{}>", "{{{}}}", "→{}←", "«{}»", "“{}”", "🔑{}🔑", "👉 {} 👈", "…{}…"),
    *("см. {} пожалуйста", "これ {} です", "here it is\n{}\nthanks", "{}\nuse that one", "so:\n{}", "THIS IS IT {} OK"),
    *("x={}", "key: {}", "| {} |", "a\t{}\tb", "{} (don't share)", "{}/ok", "a,{},b"),
)
# what follows these values directly becomes part of them, or changes them
NOT_AROUND = {
    "api key": ("{}/ok",),
    "phone": ("x={}", "{}/ok", "# {}"),
    "ip": ("{}/ok",),
    "card number": ("{}/ok",),
}
AFTER_CARD = ("{} 12/27 123", "{} 123", "{} exp 09/26")
MAKERS: dict[str, Callable[[random.Random], str]] = {
    "discord token": bot_token,
    "webhook": webhook,
    "api key": api_key,
    "json web token": json_web_token,
    "private key": private_key,
    "credentials": credentials,
    "card number": card_number,
    "iban": iban,
    "email": email,
    "phone": lambda rng: phone(rng)[0],
    "ip": ip,
    "invite": invite,
    "signed link": signed_link,
}
SPLIT = ("discord token", "webhook", "api key", "json web token", "card number", "iban")  # sent in pieces

# How people, editors, phones and browsers change a value without making it unreadable; see `disguised`.
INVISIBLE = "\u200b\u200c\u200d\u2060\u00ad\ufe0f\ufeff"
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2212"
DISGUISES = (
    "bold in the middle",
    "spoiler in the middle",
    "invisible",
    "wide",
    "dashes",
    "percent",
    "escaped",
    "spaces",
)


def disguised(rng: random.Random, how: str, value: str) -> str:
    """The value as it is written; where it has nothing to disguise, as it was."""
    middle = rng.randint(len(value) // 3, 2 * len(value) // 3)
    before, behind = value[:middle], value[middle:]
    if how == "bold in the middle":
        return f"{before}**{behind}**"
    if how == "spoiler in the middle":
        return f"{before}||{behind}||"
    if how == "invisible":
        return before + rng.choice(INVISIBLE) + behind
    if how == "wide":
        return "".join(chr(ord(ch) + 0xFEE0) if "!" <= ch <= "~" else ch for ch in value)
    if how == "dashes":
        return value.replace("-", rng.choice(DASHES))
    if how == "percent":
        return "https://site.test/?q=" + urllib.parse.quote(value, safe="")
    if how == "escaped":
        return "".join("\\" + ch if ch in "_*~|" else ch for ch in value)
    return value.replace(" ", rng.choice("\u2007\u2009\u202f\u3000"))


def planted_in_disguise(count: int, seed: int = 0) -> Iterator[Planted]:
    """`count` messages, every kind in every disguise in turn. `pieces` holds the value as it would be read."""
    rng = random.Random(seed)
    kinds = list(MAKERS)
    for number in range(count):
        kind, how = kinds[number % len(kinds)], DISGUISES[number // len(kinds) % len(DISGUISES)]
        value = MAKERS[kind](rng)
        if kind == "phone":
            value = f"+49 151 {digits(rng, 8)}"
        elif kind == "credentials":
            value = f"postgres://{value}db.example.org"
        elif kind == "api key":
            while how == "percent" and len(value) == 40:  # a secret of AWS in a link looks like the link's own id
                value = api_key(rng)
        yield Planted(kind, disguised(rng, how, value), (value,))


def planted(count: int, seed: int = 0) -> Iterator[Planted]:
    """`count` messages, every kind in turn."""
    rng = random.Random(seed)
    kinds = list(MAKERS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        yield one(rng, kind)


def one(rng: random.Random, kind: str) -> Planted:
    around = rng.choice([a for a in AROUND if a not in NOT_AROUND.get(kind, ())])
    if kind == "phone":
        value, must_be_announced = phone(rng)
        around = rng.choice(ANNOUNCED) if must_be_announced else around
        return Planted(kind, around.format(value), (value.removeprefix("tel:"),))
    if kind == "credentials":
        login = credentials(rng)
        return Planted(kind, around.format(with_host(rng, login)), (login.split(":", 1)[1].rstrip("@") + "@",))
    value = MAKERS[kind](rng)
    if kind == "card number" and rng.random() < 0.2:
        around = rng.choice(AFTER_CARD)
    if kind == "private key":
        return Planted(
            kind, around.format(value), tuple(part for part in value.replace("\\n", "\n").split("\n")[1:] if part)
        )
    if kind == "ip":
        bare = value.removeprefix("ssh root@").removeprefix("http://").split("/")[0].split("%")[0]
        host = bare.rsplit(":", 1)[0] if bare.startswith("[") or bare.count(":") == 1 else bare
        return Planted(kind, around.format(value), (host.strip("[]"),))
    if kind in SPLIT and rng.random() < 0.15:
        value = value.removeprefix("AWS_SECRET_ACCESS_KEY=")
        cut = rng.randint(len(value) // 4, 3 * len(value) // 4)
        first, second = value[:cut], value[cut:]
        return Planted(
            kind, f"here it comes\n{first}\n{second}\n\nthanks a lot", tuple(p for p in (first, second) if len(p) > 3)
        )
    if value.startswith("AWS_SECRET"):
        return Planted(kind, around.format(value), (value.split("=", 1)[1],))
    return Planted(kind, around.format(value), (value,))
