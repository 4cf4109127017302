"""Whether Weights & Biases would find a key here, by the standard library alone: the doctor asks it too."""

from __future__ import annotations

import netrc
import os
from pathlib import Path

HOST = "api.wandb.ai"


def logged_in() -> bool:
    """Looks where wandb does: in the environment, then in the file that NETRC names, ~/.netrc or ~/_netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    named = os.environ.get("NETRC")
    try:
        places = [Path(place).expanduser() for place in ([named] if named else ["~/.netrc", "~/_netrc"])]
        path = next((place for place in places if place.exists()), None)
        login = netrc.netrc(path).authenticators(HOST) if path else None
    except (OSError, RuntimeError, netrc.NetrcParseError):
        return False
    return bool(login and login[2])
