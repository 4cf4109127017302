"""Is it one, or does it only look like one? The checks behind the patterns of sensitive.py."""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from itertools import pairwise

WELL_KNOWN_IPV4 = frozenset(
    ["1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "192.168.0.1", "192.168.1.1", "10.0.0.1"]
)
MIN_CHANGES_IN_KEY = 12
FILE_ENDINGS = frozenset(
    ["png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "py", "sh", "conf", "service"]
)
ALGORITHM_HOSTS = frozenset(["openssh.com", "libssh.org"])  # aes256-gcm@openssh.com is a cipher
# `look at example dot com` names a site, not a person
NOT_BEFORE_AT = frozenset(
    (
        *("look", "looking", "looked", "see", "seen", "check", "checking", "read", "reading", "found", "find"),
        *("available", "hosted", "it", "that", "this", "them", "is", "was", "are", "page", "site", "website", "up"),
        *("over", "only", "here", "there", "start", "started", "live", "download", "downloads", "buy", "sold", "get"),
        *("got", "more", "stuff", "at", "be", "docs", "out", "posted", "down", "working", "work", "works", "him"),
        *("her", "me", "us", "you", "and", "or", "on", "ask", "asked"),
    )
)
MAIL_WORDS = frozenset(["mailto", "mail", "email", "e-mail", "to", "from", "cc", "contact", "git", "ssh"])
# ISO 13616-1, the registry's lengths
IBAN_LENGTHS = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_GAP = "[ \u00a0\u202f-]"
# written in one piece, or in groups of four, the check digits on their own or not
IBAN_PATTERN = "|".join(
    rf"(?:{countries.replace(' ', '|')}){_IBAN_GAP}?\d\d"
    rf"(?:[A-Z0-9]{{{length - 4}}}"
    rf"|(?:{_IBAN_GAP}[A-Z0-9]{{4}}){{{length // 4 - 1}}}{_IBAN_GAP}?[A-Z0-9]{{{length % 4}}})"
    for length, countries in IBAN_LENGTHS.items()
)

_VERSION_BEFORE = re.compile(
    r"(?:[vV/-]|(?<=[A-Za-z0-9])_|\b(?:version|ver|release|build|driver|firmware|kernel|python|update)\s{0,3})\Z", re.I
)
_ADDRESS_BEFORE = re.compile(r"\b(?:ip|ipv4|address|addr|host|server|dns|ping|ssh|from|at)\b[^\n\w]{0,4}\Z", re.I)
_DOTTED_CARDS = ([4, 4, 4, 4], [4, 6, 5], [4, 6, 4], [4, 4, 4, 4, 3], [4, 3, 3, 3])
_CAMEL_CASE = re.compile(r"[a-z]{0,40}(?:[A-Z][a-z]{1,40}\d{0,2}){1,20}")
_WORD_IN_KEY = re.compile(r"[a-z]{6,}|[A-Z]{8,}|/[a-z]{3,}/")


def is_card(match: re.Match[str]) -> bool:
    """A payment card: a known issuer's first digits and length, and the check digit of Luhn (ISO/IEC 7812-1)."""
    digits = re.sub(r"\D", "", match[0])
    issuer = (
        (digits[0] == "4" and len(digits) in (13, 16))
        or (digits[:2] in ("34", "37") and len(digits) == 15)
        or (len(digits) == 16 and (51 <= int(digits[:2]) <= 55 or 2221 <= int(digits[:4]) <= 2720))
        or (
            len(digits) == 16
            and (digits[:4] == "6011" or digits[:2] in ("65", "35", "62") or "644" <= digits[:3] <= "649")
        )
        or (
            len(digits) == 16
            and digits != match[0]
            and (digits[:2] in ("50", "56", "57", "58", "67") or digits[:4] == "6304")
        )
        or (len(digits) == 14 and (digits[:2] in ("36", "38", "39") or "300" <= digits[:3] <= "305"))
        or (len(digits) == 19 and digits != match[0] and digits[0] in "46")
    )
    groups = [len(group) for group in re.findall(r"\d+", match[0])]
    if min(groups) < 3 or ("." in match[0] and groups not in _DOTTED_CARDS):
        return False
    return issuer and len(set(digits)) > 1 and _luhn(digits)


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def is_iban(match: re.Match[str]) -> bool:
    """The check digits, modulo 97 (ISO 13616-1)."""
    iban = re.sub(_IBAN_GAP, "", match[0]).upper()
    return int("".join(str(int(letter, 36)) for letter in iban[4:] + iban[:4])) % 97 == 1


def is_personal_ipv4(match: re.Match[str]) -> bool:
    """An address of a machine: no version number, no netmask, no loopback, none that everybody knows."""
    text = match[0]
    if any((len(part) > 1 and part[0] == "0") or int(part) > 255 for part in text.split(".")):
        return False
    if text in WELL_KNOWN_IPV4 or text.startswith(("0.", "127.", "255.")) or text.endswith(".0.0.0"):
        return False
    before = match.string[max(0, match.start() - 12) : match.start()]
    if before.endswith(("//", "@")) or _ADDRESS_BEFORE.search(before):
        return True
    if text.startswith("2.6."):  # a Linux kernel
        return False
    first, *others = map(int, text.split("."))
    return not _VERSION_BEFORE.search(before) and not (first < 10 and max(others) < 32)


def is_personal_ipv6(match: re.Match[str]) -> bool:
    """Valid, not loopback, and no C++ name such as `abc::def`."""
    text = match[0].split("%")[0]
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    groups = [group for group in text.split(":") if group]
    return not address.is_loopback and len(groups) >= 2 and any(ch.isdigit() for ch in text) and len(text) >= 7


def is_email(match: re.Match[str]) -> bool:
    """No file name such as icon@2x.png, and no `git@host:path`."""
    name, _, host = match[0].replace("\uff20", "@").rpartition("@")
    if host.rpartition(".")[2].lower() in FILE_ENDINGS or host.lower() in ALGORITHM_HOSTS:
        return False
    return not (name == "git" and match.string[match.end() : match.end() + 1] in (":", "/"))


def is_spelled_out_email(match: re.Match[str]) -> bool:
    """`ana (at) example (dot) org`: one of the two is spelled in brackets, or both are words. `ana @ example.org` and
    `ana_at_example.org` end as sites do, and no verb stands before."""
    text = match[0].lower()
    if any(mark in text for mark in ("[at]", "(at)", "{at}", "<at>")):
        return True
    name, at, host = re.split(r"(\s@\s|_at_|\sat\s)", text, maxsplit=1)
    if at.strip() == "at" and " dot " not in host:
        return False
    return name not in NOT_BEFORE_AT and host.rpartition(".")[2] not in FILE_ENDINGS


def is_login(match: re.Match[str]) -> bool:
    """`user:password@host`, and not `mail:ana@example.org`."""
    user, _, password = match[0].removesuffix("@").partition(":")
    return user.lower() not in MAIL_WORDS and not password.isspace()


def is_password(match: re.Match[str]) -> bool:
    """What follows `password:` is a value: letters with digits or signs, no word of a sentence, no placeholder."""
    value = match[2]
    if value.startswith(("[", "<", "$", "{", "(", "/", "http", "*", "%")):
        return False
    classes = [any(map(kind, value)) for kind in (str.islower, str.isupper, str.isdigit)]
    return any(ch.isdigit() for ch in value) and sum(classes) >= 2


def is_random_key(match: re.Match[str]) -> bool:
    """Forty characters such as an AWS secret: as mixed as chance makes them, so no path, hash or camel-case name.

    Chance changes between small letters, capitals, digits and signs 25 times in 40 characters, and under 12 times in
    about one key of a hundred thousand; names and paths change twice a word.
    """
    text = match[0]
    if not (any(map(str.islower, text)) and any(map(str.isupper, text))):
        return False
    kinds = [ch.islower() + 2 * ch.isupper() + 3 * ch.isdigit() for ch in text]
    if sum(one != other for one, other in pairwise(kinds)) < MIN_CHANGES_IN_KEY:
        return False
    entropy_bits = -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
    return entropy_bits > 4.0 and not (_CAMEL_CASE.fullmatch(text) or (text.isalpha() and _WORD_IN_KEY.search(text)))
