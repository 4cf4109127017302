"""Is it a phone number, or only a row of digits?"""

from __future__ import annotations

import re

PHONE_REGIONS = ("US", "GB", "DE", "FR", "AU", "IN", "BR", "ES", "IT", "NL")  # where national numbers may be from
# and where those may be from that a word such as `call` announces
ANNOUNCED_REGIONS = (
    *PHONE_REGIONS,
    *("AT", "BE", "CH", "CZ", "DK", "FI", "GR", "HU", "IE", "NO", "PL", "PT", "RO", "RU", "SE", "TR", "UA"),
    *("AE", "AR", "BD", "CL", "CN", "CO", "EG", "ID", "IL", "JP", "KE", "KR", "MX", "MY", "NG", "NZ", "PH", "PK"),
    *("SA", "SG", "TH", "TW", "VN", "ZA"),
)

_PHONE_WORD_BEFORE = re.compile(
    r"\b(?:(?:tele)?phone|tel|mobile|cell|call|text|ring|sms|whatsapp|signal|telegram|handy|telefon|tél|numéro|fax|dial"
    r"|(?:my|his|her|their|your|our) (?:number|nr|digits)|reach \w{2,4} (?:at|on))\b[^\n]{0,24}\Z",
    re.I,
)
_DATE = re.compile(
    r"(?:(?:19|20)\d\d(?:0[1-9]|1[0-2])[0-3]\d|\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](?:\d{4}|\d{2}))(?:\D{1,3}\d{1,2}){0,3}\Z"
)
_NORTH_AMERICAN = re.compile(r"(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}\Z")


def is_phone(match: re.Match[str]) -> bool:
    """An international number, or a national one in its usual shape, or any that a word such as `call` announces."""
    text = match[0].removeprefix("(") if match[0].count("(") > match[0].count(")") else match[0]
    text = text.replace("(0)", "") if text.startswith(("+", "00")) else text
    digits = re.sub(r"\D", "", text)
    if text.startswith("+") or (text.startswith("00") and digits[2:3] != "0" and len(digits) >= 11):
        return len(digits) >= 8 and _is_possible("+" + digits.removeprefix("00"), None)
    if _NORTH_AMERICAN.match(text):
        return not all(int(group).bit_count() == 1 for group in re.findall(r"\d+", text))  # 256 512 1024
    if _DATE.match(text) or len(digits) < 8:
        return False
    groups = re.findall(r"\d+", text)
    trunk = (
        digits[0] == "0" and digits[1] != "0" and 10 <= len(digits) <= 12 and len(groups) <= 5 and len(groups[0]) > 1
    )
    dotted = "." in text and any(len(group) != 2 for group in groups)
    if trunk and match.string[max(0, match.start() - 6) : match.start()].lower() in ("chmod ", "umask "):
        return False
    if trunk and not dotted and (len(groups) == 1 or any(group[0] != "0" for group in groups)):
        return any(_is_possible(digits, region) for region in PHONE_REGIONS)
    if "." in text or len(groups[0]) < 2 or len(groups) > 6:
        return False
    announced = _PHONE_WORD_BEFORE.search(match.string[max(0, match.start() - 40) : match.start()])
    return bool(announced) and any(_is_valid(digits, region) for region in ANNOUNCED_REGIONS)


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
