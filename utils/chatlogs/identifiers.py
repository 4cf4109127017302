"""Is it one, or does it only look like one? The checks behind the patterns of privacy.py."""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter

PHONE_REGIONS = ("US", "GB", "DE", "FR", "AU", "IN", "BR", "ES", "IT", "NL")  # where national numbers may be from
WELL_KNOWN_IPV4 = frozenset(
    ["1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "192.168.0.1", "192.168.1.1", "10.0.0.1"]
)
FILE_ENDINGS = frozenset(
    ["png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "py", "sh", "conf", "service"]
)
MAIL_WORDS = frozenset(["mailto", "mail", "email", "e-mail", "to", "from", "cc", "contact", "git", "ssh"])
# ISO 13616-1, the registry's lengths
IBAN_LENGTHS = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "PT",
    26: "IS TR",
    27: "BI FR GR IT MC MR SM",
    28: "AL AZ CY DO GT HU LB PL",
    29: "BR EG PS QA UA",
    31: "MT SC",
    33: "LC RU",
}
# written in one piece, or in groups of four
IBAN_PATTERN = "|".join(
    rf"(?:{countries.replace(' ', '|')})\d\d"
    rf"(?:[A-Z0-9]{{{length - 4}}}|(?:[ -][A-Z0-9]{{4}}){{{length // 4 - 1}}}[ -]?[A-Z0-9]{{{length % 4}}})"
    for length, countries in IBAN_LENGTHS.items()
)

_VERSION_BEFORE = re.compile(
    r"(?:[vV_/-]|\b(?:version|ver|release|build|driver|firmware|kernel|python|update)\s{0,3})\Z", re.I
)
_ADDRESS_BEFORE = re.compile(r"\b(?:ip|ipv4|address|addr|host|server|dns|ping|ssh|from|at)\b[^\n\w]{0,4}\Z", re.I)
_PHONE_WORD_BEFORE = re.compile(
    r"\b(?:phone|tel|telephone|mobile|cell|call|text|sms|whatsapp|handy|fax|dial)\b[^\n]{0,24}\Z",
    re.I,
)
_DATE = re.compile(
    r"(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](?:\d{4}|\d{2}))(?:\D{1,3}\d{1,2}){0,3}\Z"
)
_NORTH_AMERICAN = re.compile(r"(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}\Z")
_WORD_IN_KEY = re.compile(r"[a-z]{6,}|[A-Z]{8,}|/[a-z]{3,}/")


def is_card(match: re.Match[str]) -> bool:
    """A payment card: a known issuer's first digits and length, and the check digit of Luhn (ISO/IEC 7812-1)."""
    digits = re.sub(r"\D", "", match[0])
    issuer = (
        (digits[0] == "4" and len(digits) in (13, 16))
        or (digits[:2] in ("34", "37") and len(digits) == 15)
        or (len(digits) == 16 and (51 <= int(digits[:2]) <= 55 or 2221 <= int(digits[:4]) <= 2720))
        or (len(digits) == 16 and (digits[:4] == "6011" or digits[:2] in ("65", "35", "62")))
        or (len(digits) == 14 and digits[:2] in ("30", "36", "38"))
        or (len(digits) == 19 and digits != match[0] and digits[0] in "46")
    )
    return issuer and len(set(digits)) > 1 and _luhn(digits)


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def is_iban(match: re.Match[str]) -> bool:
    """The check digits, modulo 97 (ISO 13616-1)."""
    iban = re.sub(r"[ -]", "", match[0]).upper()
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
    name, _, host = match[0].rpartition("@")
    if host.rpartition(".")[2].lower() in FILE_ENDINGS:
        return False
    return not (name == "git" and match.string[match.end() : match.end() + 1] in (":", "/"))


def is_spelled_out_email(match: re.Match[str]) -> bool:
    """`ana (at) example (dot) org`: one of the two is spelled in brackets, or both are words."""
    text = match[0].lower()
    return any(mark in text for mark in ("[at]", "(at)", "{at}")) or (" at " in text and " dot " in text)


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
    """Forty characters such as an AWS secret: as mixed as chance makes them, so no path, hash or camel-case name."""
    text = match[0]
    if not (any(map(str.islower, text)) and any(map(str.isupper, text)) and not text.isalpha()):
        return False
    if len(_WORD_IN_KEY.findall(text)) > 1:
        return False
    entropy_bits = -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
    return entropy_bits > 4.2


def is_phone(match: re.Match[str]) -> bool:
    """An international number, or a national one in its usual shape, or any that a word such as `call` announces."""
    text = match[0]
    digits = re.sub(r"\D", "", text)
    if text.startswith("+") or (text.startswith("00") and digits[2:3] != "0" and len(digits) >= 11):
        return len(digits) >= 8 and _is_possible("+" + digits.removeprefix("00"), None)
    if _NORTH_AMERICAN.match(text):
        return True
    if _DATE.match(text) or len(digits) < 9:
        return False
    groups = re.findall(r"\d+", text)
    trunk = (
        digits[0] == "0" and digits[1] != "0" and 10 <= len(digits) <= 12 and len(groups) <= 5 and len(groups[0]) > 1
    )
    dotted = "." in text and any(len(group) != 2 for group in groups)
    if trunk and not dotted and (len(groups) == 1 or any(group[0] != "0" for group in groups)):
        return any(_is_possible(digits, region) for region in PHONE_REGIONS)
    announced = _PHONE_WORD_BEFORE.search(match.string[max(0, match.start() - 40) : match.start()])
    return (
        bool(announced)
        and "." not in text
        and len(groups[0]) > 1
        and any(_is_valid(digits, region) for region in PHONE_REGIONS)
    )


def _is_possible(number: str, region: str | None) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def _is_valid(number: str, region: str) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False
