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

# `call`, and words between it and the number: `me on`, `sarah at`, not `of duty 5 has` or `size`
_BETWEEN = (
    "me|us|him|her|them|mum|mom|dad|back|now|up|at|on|to|is|was|it|its|s|no|nr|num|number|nummer|here|there|under|with|via"
    "|please|pls|ist|est|es|the|my|your|this|that|or|and|for|if|direct|directly|instead|tonight|tomorrow|later|today|a"
    "|anytime|phone|cell|mobile|tel|fax|home|work|office|new|old|one|line|call|sms|text|whatsapp"
)
_PHONE_WORD_BEFORE = re.compile(
    r"(?:\b(?:(?:tele)?phone|tel|mobile|cell|call|text|ring|sms|whatsapp|signal|telegram|fax|dial|tél|num[ée]ro"
    r"|(?:handy|telefon)(?:nummer)?|(?:meine|mein|mijn|mitt?|min|mi|mon|mio|meu) (?:num?mer|nr|número)|nummer ist"
    r"|номер|телефон|(?:my|his|her|their|your|our) (?:number|nr|digits)|reach \w{2,4} (?:at|on))\b"
    r"|[\u260e\u2706\U0001f4de\U0001f4f1\U0001f4f2]\ufe0f?|手机|手機|电话|電話|携帯|전화)"
    rf"(?:(?:[^\w\n]{{1,3}}(?:{_BETWEEN})){{0,5}}|[^\w\n]{{1,3}}\w{{1,12}}[^\w\n]{{1,3}}(?:at|on|is|under))(?:[^\w\n]{{1,3}}\d)?[^\w\n]{{0,4}}\Z",
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
    announced = _PHONE_WORD_BEFORE.search(match.string[max(0, match.start() - 40) : match.start()])
    if _NORTH_AMERICAN.match(text):
        around = match.string[max(0, match.start() - 2) : match.start()] + "|" + match.string[match.end() :][:2]
        in_a_list = re.search(r"\d \||\| \d", around) and not announced  # 248 352 1728 2112
        return not in_a_list and not all(int(group).bit_count() == 1 for group in re.findall(r"\d+", text))
    if len(digits) < 8 or (_DATE.match(text) and not (announced and len(digits) == 10 and digits[0] == "0")):
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
    if len(groups[0]) < 2 or len(groups) > 6 or ("." in text and min(map(len, groups)) < 2):
        return False
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
