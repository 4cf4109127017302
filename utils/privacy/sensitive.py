"""What secrets and personal data look like: the rules that masking.py applies, the most specific first.

Every pattern starts where a word starts and has bounded quantifiers, so that the time is linear in the text. Card
numbers, IBANs, addresses and phone numbers are checked, not only matched. A word starts after anything but an ASCII
letter or digit: markdown's `_` and text without spaces (Chinese, Japanese) may stand right before a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from utils.privacy import api_keys, identifiers, phones

Check = Callable[[re.Match[str]], bool]

_START = r"(?<![A-Za-z0-9])"
_NUMBER_START = (
    r"(?<![A-Za-z0-9.%])(?<![A-Za-z0-9]_)"  # no part of a longer number, of %20, and of no name such as img_4111
)
_NUMBER_END = r"(?![A-Za-z0-9])(?!_[A-Za-z0-9])"
_AT = r"(?:\s?(?:\[at\]|\(at\)|\{at\}|<at>|\sat\s)\s?|\s@\s|_at_)"
_DOT = r"\s?(?:\[dot\]|\(dot\)|\{dot\}|<dot>|\sdot\s|\.)\s?"
_SECRET_NAME = r"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|(?:api|access|secret|private)[ _-]?key)"


@dataclass(frozen=True)
class Rule:
    """A match holds one of `hints` in lower case and `min_digits` digits, so most texts never meet most patterns.
    `replacement` is a template for `Match.expand`; `check` refuses a match that only looks like the kind.
    `across_lines`: looked for in pieces as well, one message after the other. `grouped`: a match is groups of digits,
    and where `check` refuses all of them, fewer may be one: a card number with its expiry date behind it.
    """

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str
    check: Check | None = None
    across_lines: bool = True
    min_digits: int = 0
    grouped: bool = False


def _rule(
    kind: str,
    hints: str,
    pattern: str,
    *,
    replacement: str | None = None,
    check: Check | None = None,
    across_lines: bool = True,
    min_digits: int = 0,
    grouped: bool = False,
) -> Rule:
    """`hints` are given with spaces between."""
    compiled = re.compile(pattern)
    return Rule(
        kind, tuple(hints.split()), compiled, replacement or f"[{kind}]", check, across_lines, min_digits, grouped
    )


RULES = (
    _rule(
        "private key",
        "--begin",
        r"-{2,5}BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-{2,5}(?:(?!--)[\s\S]){0,20000}"
        r"(?:-{2,5}END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-{2,5})?",
        across_lines=False,  # its pattern holds the lines
    ),
    _rule(
        "webhook",
        "hook",
        r"(?i:(?:https?://)?(?:(?:www|canary|ptb)\.)?discord(?:app)?\.com/api/(?:v\d{1,2}/)?webhooks/\d{1,20}/"
        r"[\w-]{1,200}(?:[/?][\w/=&?-]{1,200})?"
        r"|(?:https?://)?hooks\.slack\.com/(?:services|workflows|triggers)/[\w/-]{1,200})",
    ),
    _rule(
        "signed link",
        ".discordapp.",
        r"(?i:(?:https?://)?(?:cdn|media|images-ext-\d)\.discordapp\.(?:com|net)/[^\s<>\"'`|()\[\]{}]{1,2000})",
    ),
    _rule(
        "signed link",
        "://",
        r"(?i:https?://[^\s<>\"'?]{1,1000}\?[^\s<>\"']{0,1500}?\b(?:x-amz-signature|x-goog-signature|signature|sig|hm)="
        r"[^\s<>\"']{8,2000})",
    ),
    _rule("discord token", "mfa.", rf"{_START}mfa\.[\w-]{{20,200}}"),
    # The first part is the bot's id in base64, and an id is digits, so it starts with M, N or O.
    _rule("discord token", ".", rf"{_START}[MNO][\w-]{{21,29}}\.[\w-]{{6,7}}\.[\w-]{{25,120}}"),
    # `{"`, `{ "` or `{` and a line break in base64; a signed one has three parts, an encrypted one five
    _rule(
        "json web token",
        "eyj eya ewo ewk",
        rf"{_START}(?:eyJ|eyA|ewo|ewk)[\w-]{{12,4000}}+\.[\w-]{{4,8000}}+(?:\.[\w-]{{0,2000}}+){{0,3}}",
    ),
    *(_rule("api key", hints, pattern) for hints, pattern in api_keys.PATTERNS),
    _rule(
        "api key",
        "",
        rf"{_START}(?<![/+.%])(?<![A-Za-z0-9/+.%-]-)[A-Za-z0-9/+]{{40}}(?![A-Za-z0-9/+=-])",
        check=identifiers.is_random_key,
    ),
    _rule(
        "credentials",
        "://",
        r"(?<![A-Za-z0-9.+])(?<![A-Za-z0-9.+-]-)([a-zA-Z][\w.+-]{1,20}://)[^\s/@:]{0,100}:[^\s/]{1,200}@(?=[\w\[])",
        replacement=r"\1[credentials]@",
    ),
    _rule(
        "credentials",
        "@",
        r"(?<![A-Za-z0-9.@:/+-])[\w.+-]{1,64}:[^\s@/:]{3,100}@"
        r"(?=(?:[\w-]{1,63}\.){1,8}[\w-]{1,63}|localhost(?![A-Za-z0-9])|[\w-]{1,63}:\d{2,5}(?![A-Za-z0-9]))",
        replacement="[credentials]@",
        check=identifiers.is_login,
    ),
    _rule(
        "password",
        "pass pwd secret token key",
        rf"(?i:((?<![A-Za-z0-9]){_SECRET_NAME}\b"
        r"[\"']?\s{0,3}(?:[:=]|\bis\b)\s{0,3})[\"']?([^\s\"',;]{6,200}))",
        replacement=r"\1[password]",
        check=identifiers.is_password,
        across_lines=False,
        min_digits=1,
    ),
    _rule(
        "invite",
        "discord dsc.gg invite.gg .gg/ .gg\\",
        r"(?i:(?:https?://)?(?:(?:www|ptb|canary|promos)\.)?"
        r"(?:(?:discord|dsc|invite)\s?\.\s?gg|discord(?:app)?\.com/(?:invite|gifts|template)"
        r"|discord\.(?:me|io|link|gift|new)|(?<![A-Za-z0-9.])\.gg(?=[/\\]))\s?[/\\]\s?(?:invite/)?[\w-]{2,64})",
    ),
    _rule(
        "email",
        "@ \uff20",  # the wide one of Chinese and Japanese keyboards, too
        r"(?<![\w.+%-])\w[\w.+%'-]{0,63}[@\uff20](?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![^\W_]|-[^\W_])",
        check=identifiers.is_email,
    ),
    _rule(
        "email",
        "dot at) at] at} at> _at_ @",
        rf"(?i:(?<![\w.+%-])[\w.+%-]{{1,64}}{_AT}[\w-]{{1,63}}(?:{_DOT}[\w-]{{1,63}}){{0,4}}{_DOT}[a-z]{{2,24}})(?![A-Za-z0-9])",
        check=identifiers.is_spelled_out_email,
        across_lines=False,
    ),
    _rule(
        "iban",
        "",
        rf"(?i:(?<![A-Z0-9])(?:{identifiers.IBAN_PATTERN})(?![A-Z0-9]))",
        check=identifiers.is_iban,
        min_digits=2,
    ),
    _rule(
        "card number",
        "",
        rf"{_NUMBER_START}\d(?:[ .\u00a0\u202f-]?\d){{12,18}}(?!-){_NUMBER_END}",
        check=identifiers.is_card,
        min_digits=13,
        grouped=True,
    ),
    _rule(
        "ip",
        ".",
        rf"{_NUMBER_START}\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?!\.?[A-Za-z0-9]|_[A-Za-z0-9]|\+|-[a-z])",
        check=identifiers.is_personal_ipv4,
        across_lines=False,
        min_digits=4,
    ),
    _rule(
        "ip",
        ":",
        r"(?<![A-Za-z0-9:.])(?<![A-Za-z0-9]_)(?=[0-9A-Fa-f:]{0,39}:[0-9A-Fa-f]{0,4}:)"
        r"(?:[0-9A-Fa-f]{0,4}:){2,8}(?:[0-9A-Fa-f]{0,4}|\d{1,3}(?:\.\d{1,3}){3})(?<!(?<!:):)(?:%[A-Za-z0-9]{1,16})?"
        r"(?![A-Za-z0-9]|:[0-9A-Fa-f:])(?!_[A-Za-z0-9])",
        check=identifiers.is_personal_ipv6,
        across_lines=False,
    ),
    _rule(
        "phone",
        "",
        r"(?:(?<![A-Za-z0-9.+:/#=%-])(?<![A-Za-z0-9]_)|(?<=[A-Za-z][:=])(?=\+))"
        rf"(?:\+|00)?\(?\d(?:[ ().\-/\u00a0\u2010-\u2015]{{0,3}}\d){{6,15}}(?!%){_NUMBER_END}",
        check=phones.is_phone,
        min_digits=7,
        grouped=True,
    ),
)
