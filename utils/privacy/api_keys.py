"""What the keys of well-known services look like: each issuer marks its own, so that scanners can find them.

(hints, pattern): a text without any of the hints, in small letters, holds no such key.
"""

from __future__ import annotations

_START = r"(?<![A-Za-z0-9])"
_HEX = "[0-9a-fA-F]"
# A mark and what follows it, letters and digits without more of a shape: at least so many.
_MARKED = {
    "glpat-": 20,  # GitLab
    "hvs.": 24,  # Vault
    "r8_": 37,  # Replicate
    "gsk_": 40,  # Groq
    "xai-": 60,
    "pplx-": 40,  # Perplexity
    "lin_api_": 32,  # Linear
    "ntn_": 40,  # Notion
    "figd_": 36,  # Figma
    "dckr_pat_": 24,  # Docker
    "tskey-": 20,  # Tailscale
    "whsec_": 24,  # webhooks of Stripe and others
    "sq0csp-": 40,  # Square
    "pmak-": 40,  # Postman
    "dop_v1_": 60,  # DigitalOcean
    "sbp_": 40,  # Supabase
    "shpat_": 32,  # Shopify
    "shpss_": 32,
}

PATTERNS = (
    ("gh", rf"{_START}gh[oprsu]_[A-Za-z0-9]{{30,255}}"),  # GitHub
    ("github_pat_", rf"{_START}github_pat_\w{{22,255}}"),
    (
        "sk-",  # OpenAI, Anthropic, OpenRouter
        rf"{_START}sk-(?:(?:proj|svcacct|admin|ant|or|None)-[\w-]{{16,300}}|[A-Za-z0-9_]{{20,200}}[\w-]{{0,200}})",
    ),
    ("xox", rf"{_START}xox[a-z](?:\.xox[a-z])?-(?:\d-)?(?:[A-Za-z0-9-]|%[0-9A-F]{{2}}){{10,250}}"),  # Slack
    ("xapp-", rf"{_START}xapp-\d-[A-Za-z0-9-]{{10,250}}"),
    ("aiza", rf"{_START}AIza[\w-]{{30,45}}"),  # Google
    ("ya29.", rf"{_START}ya29\.[\w-]{{20,500}}"),
    ("gocspx-", rf"{_START}GOCSPX-[\w-]{{20,40}}"),
    ("1//0", rf"{_START}(?<!/)1//0[\w-]{{40,200}}"),
    (
        "akia asia agpa aida aipa anpa anva aroa abia acca",  # AWS
        rf"{_START}A(?:KIA|SIA|GPA|IDA|IPA|NPA|NVA|ROA|BIA|CCA)[A-Z0-9]{{16}}(?![A-Za-z0-9])",
    ),
    ("k_", rf"{_START}[rs]k_(?:live|test)_[A-Za-z0-9]{{10,200}}"),  # Stripe
    ("hf_", rf"{_START}hf_[A-Za-z0-9]{{30,60}}"),  # Hugging Face
    ("npm_", rf"{_START}npm_[A-Za-z0-9]{{36}}"),
    ("pypi-", rf"{_START}pypi-[\w-]{{50,400}}"),
    ("sg.", r"(?<![\w.-])SG\.[\w-]{20,24}\.[\w-]{39,50}"),  # SendGrid
    (":", r"(?<![A-Za-z0-9:])\d{8,10}:AA[A-Za-z0-9_-]{32,34}(?![A-Za-z0-9-])"),  # a Telegram bot
    ("dapi", rf"{_START}dapi{_HEX}{{32}}(?!{_HEX})"),  # Databricks
    ("key-", rf"{_START}key-{_HEX}{{32}}(?!{_HEX})"),  # Mailgun
    ("sk ac", rf"{_START}(?:SK|AC){_HEX}{{32}}(?!{_HEX})"),  # Twilio
    ("oauth:", rf"{_START}oauth:[a-z0-9]{{30}}(?![A-Za-z0-9])"),  # Twitch
    ("age-secret-key-1", rf"{_START}(?i:AGE-SECRET-KEY-1[A-Z0-9]{{50,60}})"),
    ("accountkey=", rf"{_START}(?i:AccountKey=)[A-Za-z0-9+/]{{40,90}}={{0,2}}"),  # Azure
    (" ".join(_MARKED), "|".join(rf"{_START}(?i:{mark})[\w-]{{{size},300}}" for mark, size in _MARKED.items())),
)
