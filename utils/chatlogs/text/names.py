"""Invented names in place of other people's: in labels, in mentions, and where somebody is named in the text.

A pseudonym depends on the person's id alone, as long as no two people would get the same, so it is the same in every
record of a run, and in most cases of the next run. Not found, and so kept: the name of somebody who wrote nothing in
the exports where it stands without an @, a nickname that nobody carried as an account's or a server's name, and names
that are everyday words ("Will", "May") where they stand without an @ and don't address anybody.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from utils.chatlogs.people import MANY_PEOPLE, Person

MIN_NAME_LETTERS = 3  # a shorter name in the text is found after an @ only

_STARTS = (
    "Al",
    "Be",
    "Ca",
    "Da",
    "El",
    "Fi",
    "Ga",
    "Hu",
    "Il",
    "Jo",
    "Ka",
    "Lu",
    "Mi",
    "No",
    "Or",
    "Pe",
    "Ri",
    "Sa",
    "Ta",
    "Ul",
    "Ve",
    "Wi",
    "Ya",
    "Ze",
)
_MIDDLES = ("b", "d", "dr", "f", "g", "l", "ld", "m", "n", "nd", "r", "rv", "s", "t", "th", "v", "x", "z", "br", "mn")
_LINKS = ("al", "an", "ar", "el", "en", "er", "il", "in", "ol", "or")
_ENDS = ("a", "ea", "ia", "o", "io", "an", "en", "in", "on", "is", "us", "el")
# What people write without meaning anybody, though somebody may be called so.
_EVERYDAY = """
able about above actually after again all almost alone along already also always amazing and angel animal another
any anyone anything apple april are art ask august autumn away baby back bad banana base bat beach bear beast beat
beautiful because bed been beer before being best better big bill bird bit black blood blue board body book boss bot
both bottom box boy bread break bro brother brown bug build bus but buy cake call can card care cat chance change
chat cheese cherry chief child chill city class clean close cloud code coffee cold color come cookie cool could
crazy cry cup cute dad dance dark data date dawn day dead deal dear death deep devil did dirt doctor does dog done
door down dragon dream drive drop duck dude dust each earth easy eat echo egg eight end enough even ever every
everyone evil eye face faith fall family fan far fast father fear feel few fire first fish five flash fly food fool
for four fox frank free friend frog from fun future game gate get ghost girl give glass glitch god gold good got
grace grant green grey guest guy had half hand happy hard has hat hate have hawk head heart heat hello help her
here hero hey hide high him his hit home honey hope hot house how human hunter ice idea into iron its jack jade
jazz job joker joy july june just keep key kid kill king kitty knight know lady lake last late laugh law lazy leaf
left less let life light like lily line link linux lion list little live lol long look lord lost lot love low luck
lucky mac machine mad made magic mail main make man many map march mark master mate matt max may maybe mean men
mercy metal mind mine mint miss money monkey month moon more morning most mother mouse move much music must myself
name near need never new news next nice night nine none nope not nothing now null number off old once one only open
orange other our out over own page pain panda panic paper party past path patience pay peace people person phone
pig pilot pink place play please point poison pop post power pretty prince pro pure purple put queen question quick
quiet rabbit rain rainbow rat ray read ready real red rest rich right ring rise river road robin rob rock root rose
round ruby run sad safe said salt same sand saw say scout sea second see seen self send server seven shade shadow
she shop should show sign silver simple since sir sister six skill skip sky sleep slow small smile smoke snow
some someone something sonic soon sorry soul sound space spark speed spirit spring square stay steel still stone
stop storm stormy story strange stuff such sue sugar summer sun sunny sure sweet system take talk tank tea team tech
tell ten than thank thanks that the their them then there these they thing think this those three through thunder
tiger time tiny today together token tom too top total toy tree trick true try turn two ubuntu under unit until user
very void wait walk want war was water wave way web well went were west what when where which while white who why
wild will win wind windows wine wing winter wish wit with wolf woman wonder word work world would wow yeah year
yellow yes yet you young your zero zone
"""
EVERYDAY_WORDS = frozenset(_EVERYDAY.split())

_WORD = re.compile(r"\w+")
_MENTION = re.compile(r"(?<![\w/.@])@(?!(?:everyone|here)\b)([^\W\d_][\w-]{1,31})(?![\w/@]|\.\w)")
_EDGES = re.compile(r"\A\W+|\W+\Z")


class Pseudonyms:
    """The invented name of everybody but the persona, and where their real names stand in a text."""

    def __init__(self, people: Mapping[int, Person], persona: Person):
        own = {name.lower() for name in _spellings(persona)}
        others = [person for person in people.values() if person.id != persona.id]
        self._taken = {name.lower() for person in people.values() for name in person.names}
        self._given: dict[int, str] = {}
        for person in sorted(others, key=lambda person: person.id):
            self._given[person.id] = self._invent(str(person.id))
        # who is meant by a name that several carry: the one who wrote most
        self._by_first_word: dict[str, list[tuple[str, str]]] = {}
        known: set[str] = set()
        for person in sorted(others, key=lambda person: (-person.messages, person.id)):
            for spelling in _spellings(person):
                name = spelling.lower()
                if name not in known and name not in own:
                    known.add(name)
                    first = _WORD.match(name)
                    pair = (name, self._given[person.id])
                    self._by_first_word.setdefault(first[0] if first else "", []).append(pair)
        for names in self._by_first_word.values():
            names.sort(key=lambda pair: -len(pair[0]))
        self._own = own
        self._invented = {name.lower() for name in self._given.values()}

    @property
    def all(self) -> Iterable[str]:
        return self._given.values()

    def name(self, person_id: int, shown: str = "") -> str:
        """Of a person; `shown` tells people apart who share an id."""
        if shown or person_id not in self._given:
            return _invented(f"{person_id}/{shown}", 0)
        return self._given[person_id]

    def replace(self, text: str) -> str:
        """The text with the names of others replaced, in capitals where they stood in capitals."""
        pieces, done = [], 0
        for match in _WORD.finditer(text):
            start = match.start()
            if start < done:
                continue
            for name, pseudonym in self._by_first_word.get(match[0].lower(), ()):
                end = start + len(name)
                if (
                    text[start:end].lower() == name
                    and not text[end : end + 1].isalnum()
                    and _is_meant(text, start, end)
                ):
                    pieces += [text[done:start], _in_case_of(text[start:end], pseudonym)]
                    done = end
                    break
        return _MENTION.sub(self._unknown, "".join([*pieces, text[done:]]))

    def _unknown(self, match: re.Match[str]) -> str:
        """Somebody who wrote nothing themselves."""
        name = match[1].lower()
        return match[0] if name in self._own or name in self._invented else "@" + _invented(name, 0)

    def _invent(self, key: str) -> str:
        attempt = 0
        while (name := _invented(key, attempt)).lower() in self._taken:
            attempt += 1
        self._taken.add(name.lower())
        return name


def _spellings(person: Person) -> list[str]:
    """The names as people write them: without the signs around, the first word of several, and a surname alone."""
    whole = [_EDGES.sub("", name) for name in person.names if name != MANY_PEOPLE]
    words = [name.split() for name in whole if " " in name]
    surnames = [name[1] for name in words if len(name) == 2 and all(word[0].isupper() for word in name)]
    parts = [_EDGES.sub("", part) for part in [*(name[0] for name in words), *surnames]]
    return [name for name in dict.fromkeys([*whole, *parts]) if name]


def _is_meant(text: str, start: int, end: int) -> bool:
    """A name after an @ or before a colon at the start means the person; a short or everyday word alone does not."""
    if text[start - 1 : start] == "@" or (text[:start].strip() == "" and text[end : end + 1] in (":", ",")):
        return True
    name = text[start:end].lower()
    return len(name) >= MIN_NAME_LETTERS and name not in EVERYDAY_WORDS and not name.isdigit()


def _in_case_of(written: str, pseudonym: str) -> str:
    if written.islower():
        return pseudonym.lower()
    return pseudonym.upper() if written.isupper() and len(written) > 1 else pseudonym


def _invented(key: str, attempt: int) -> str:
    """A readable name; after a few that were taken, longer ones."""
    draws = iter(hashlib.sha256(f"{key} {attempt}".encode()).digest())

    def pick(parts: tuple[str, ...]) -> str:
        return parts[next(draws) % len(parts)]

    middle = pick(_MIDDLES) if attempt < 3 else pick(_MIDDLES) + pick(_LINKS) + pick(_MIDDLES)
    return pick(_STARTS) + middle + pick(_ENDS)
