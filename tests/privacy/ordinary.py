"""Ordinary chat lines, seeded: full of numbers, times, versions and code, with nothing personal in them."""

from __future__ import annotations

import base64
import random
import string
import uuid
from collections.abc import Callable, Iterator

from tests.privacy.planted import digits, some

HEX = "0123456789abcdef"
WORDS = (
    *(
        "yeah",
        "the",
        "printer",
        "lid",
        "is",
        "stuck",
        "again",
        "lol",
        "nope",
        "screw",
        "wait",
        "what",
        "ok",
        "so",
        "it",
        "works",
    ),
    *("on", "my", "machine", "home", "dot", "token", "secret", "key", "password", "email", "card", "cells"),
)
NAMES = ("mags", "dale", "Rohan", "ines_", "bob2", "xX_dave_Xx")
MONTHS = ("Jan", "Feb", "March", "Apr", "May", "June", "July", "Aug", "Sept", "Oct", "Nov", "Dec")


def number(rng: random.Random, low: int = 0, high: int = 999) -> str:
    return str(rng.randint(low, high))


def clock(rng: random.Random) -> str:
    hour, minute, second = rng.randrange(24), rng.randrange(60), rng.randrange(60)
    shapes = [
        f"{hour}:{minute:02}",
        f"{hour:02}:{minute:02}:{second:02}",
        f"{hour % 12 + 1}:{minute:02}pm",
        f"{hour % 12 + 1} am",
    ]
    return rng.choice(
        [
            *shapes,
            f"{hour:02}h{minute:02}",
            f"{hour:02}.{minute:02}",
            f"{hour:02}:{minute:02}:{second:02}.{digits(rng, 3)}",
        ]
    )


def date(rng: random.Random) -> str:
    year, month, day = rng.randint(1970, 2039), rng.randint(1, 12), rng.randint(1, 28)
    shapes = [
        f"{year}-{month:02}-{day:02}",
        f"{day}.{month}.{year}",
        f"{day:02}/{month:02}/{year % 100:02}",
        f"{month}/{day}/{year}",
    ]
    shapes += [
        f"{MONTHS[month - 1]} {day}, {year}",
        f"{day}. {MONTHS[month - 1]}",
        f"{year}{month:02}{day:02}",
        f"{year}",
    ]
    shapes += [
        f"{year}-{month:02}-{day:02}T{rng.randrange(24):02}:00:0{rng.randrange(10)}Z",
        f"{year}/{month:02}/{day:02} {clock(rng)}",
    ]
    return rng.choice(
        [
            *shapes,
            f"{year}-{month:02}-{day:02} 0{rng.randrange(10)}:30:00.{digits(rng, 6)}+02:00",
            f"{day:02}-{month:02}-{year}",
        ]
    )


def version(rng: random.Random) -> str:
    n = [rng.randrange(20) for _ in range(4)]
    shapes = [
        f"v{n[0]}.{n[1]}.{n[2]}",
        f"{n[0]}.{n[1]}",
        f"2.6.{rng.randrange(40)}-{n[1]}-generic",
        f"{n[0]}.{n[1]}.{n[2]}-rc{n[3]}",
    ]
    shapes += [
        f"version {rng.randrange(200)}.0.{rng.randrange(7000)}.{rng.randrange(300)}",
        f"{n[0]}:{n[1]}.{n[2]}-0ubuntu{n[3]}",
        f"py3{n[0]}",
    ]
    shapes += [
        f"v10.0.{rng.randrange(30000)}.{rng.randrange(5000)}",
        f"{n[0] % 10}.{n[1]}.{n[2]}.{n[3]}",
        f"2.6.{rng.randrange(40)}.{rng.randrange(60)}",
    ]
    return rng.choice(
        [
            *shapes,
            f"^{n[0]}.{n[1]}.{n[2]}",
            f"{rng.choice(['react', 'lodash', '@types/node'])}@{n[0]}.{n[1]}.{n[2]}",
            f"~={n[0]}.{n[1]}",
        ]
    )


def price(rng: random.Random) -> str:
    whole, cents = rng.randint(1, 99999), rng.randrange(100)
    shapes = [
        f"${whole}",
        f"€{whole}.{cents:02}",
        f"{whole},{cents:02} €",
        f"${whole:,}.{cents:02}",
        f"{whole:,} bucks",
        f"£{whole}k",
        f"{whole}円",
    ]
    return rng.choice(
        [
            *shapes,
            f"1.{rng.randint(100, 999)}.{rng.randint(100, 999)},{cents:02} €",
            f"{whole // 10 * 10000:,}".replace(",", " "),
            f"-{cents}%",
        ]
    )


def identifier(rng: random.Random) -> str:
    shapes: list[Callable[[], str]] = [
        lambda: some(rng, 32, HEX),
        lambda: some(rng, 40, HEX),
        lambda: some(rng, 7, HEX),
        lambda: some(rng, 64, HEX),
        lambda: some(rng, 40, "0123456789ABCDEF"),
        lambda: "sha256:" + some(rng, 64, HEX),
        lambda: "sha512-" + base64.b64encode(rng.randbytes(64)).decode(),
        lambda: str(uuid.UUID(int=rng.getrandbits(128))),
        lambda: ":".join(some(rng, 2, HEX) for _ in range(6)),
        lambda: "-".join(some(rng, 2, HEX).upper() for _ in range(6)),
        lambda: str(rng.randrange(10**17, 13 * 10**17)),
        lambda: str(rng.randrange(10**9, 19 * 10**8)),
        lambda: f"17{digits(rng, 11)}",
        lambda: "0x" + some(rng, rng.choice([2, 8, 12, 16]), HEX),
        lambda: "#" + some(rng, 6, HEX),
        lambda: f"#{rng.randint(1, 99999)}",
        lambda: f"{rng.choice(['LP', 'PR', 'CVE-2024-', 'RFC', 'ISO', 'issue '])}{rng.randint(100, 99999)}",
        lambda: f"ISBN 978-{rng.randrange(10)}-{digits(rng, 2)}-{digits(rng, 6)}-{rng.randrange(10)}",
        lambda: f"1Z{some(rng, 16, string.ascii_uppercase + string.digits)}",
        lambda: some(rng, 11, string.ascii_letters + string.digits),
    ]
    return rng.choice(shapes)()


def numbers(rng: random.Random) -> str:
    n = [rng.randrange(1, 500) for _ in range(6)]
    shapes = [
        f"{n[0]}-{n[1] % 10}",
        f"{n[0] % 30}/{n[1] % 20}/{n[2] % 40} kda",
        f"{n[0] * 4}x{n[1] * 4}@{n[2]}",
        f"{n[0]}°C",
        f"{n[0]} * {n[1]} = {n[0] * n[1]}",
    ]
    shapes += [
        f"{n[0] % 90}.{digits(rng, 6)}, -{n[1] % 180}.{digits(rng, 6)}",
        " ".join(map(str, range(1, n[0] % 20 + 2))),
        f"3.{digits(rng, 15)}",
    ]
    shapes += [
        f"{n[0]}, {n[1]}, {n[2]}, {n[3]}, {n[4]}",
        f"{n[0] % 7}-{n[1] % 7} ({n[2] % 5}-{n[3] % 5} pens)",
        f"+{n[0]} xp",
        f"{n[0]}k/{n[1]}k",
        "128 256 512 1024 2048",
    ]
    shapes += [
        f"{n[0] % 100}% of {n[1]}",
        f"d20 -> {n[0] % 20 + 1}",
        f"{n[0]}d{n[1] % 20}+{n[2] % 9}",
        f"1e-{n[0] % 9}",
        f"{n[0] // 5}-{n[1] // 5}-{n[2] // 5}",
        f"{n[0]:,},000",
    ]
    shapes += [
        f"({n[0]}, {n[1]})",
        f"[{n[0]}, {n[1]}, {n[2]}]",
        f"{n[0] % 12}'{n[1] % 12}\"",
        f"{n[0]}/10",
        f"no. {n[0]}",
        f"1:{n[0]}",
        f"{n[0]}:{n[1]}",
        f"chmod 0{n[0] % 7}{n[1] % 7}5",
    ]
    return rng.choice(shapes)


CODE = (
    *("std::vector<int> v{{{n}, {n}}};", "ns::abc::def({n})", "a[{n}:{n}:{n}]"),
    *("for (int i = 0; i < {n}; i++) {{ x += {n}; }}", "::before {{ top: {n}px }}"),
    *("let x = {{'a': {n}, 'b': [{n}, {n}]}}", "print(f'{{x:.{n}f}}')", "`git checkout {h}`"),
    *("https://github.com/a/b/commit/{h}", "if x == 0x{h}: return -{n}"),
    *("SELECT * FROM t WHERE id = {s} LIMIT {n};", "docker run -p {n}:{n} redis:{n}.{n}-alpine"),
    *("redis@sha256:{h}{h}", "rgba({n}, {n}, {n}, 0.{n})", "s/{n}/{n}/g"),
    *("sudo apt-get install libgl1-mesa-dri={n}.{n}.{n}-1", "git@github.com:me/repo{n}.git"),
    *("icon@2x.png img_{n}@3x.jpg", "IMG_20240501_{n}{n}.jpg", "^\\d{{3,{n}}}$"),
    *("/dev/sda{n} on /mnt type ext4 (rw,uid={n})", "[ {n}.{f}] usb {n}-1: new device {n}"),
    *("cd /usr/share/doc/python3.{n}/examples/README.Debian", "localhost:{n}", "127.0.0.1:{n}"),
    *("const API_KEY = process.env.API_KEY", "token = os.environ['DISCORD_TOKEN']", "password: ******"),
    *("PASSWORD=$PASSWORD", "user:password@host", "secret santa is on the {n}th"),
    *("getUserNameByIdAndReturnItAsAStringPlease", "AbstractSingletonProxyFactoryBeanFactory{n}"),
    *("ssh user@host -p {n}", "npm i @types/node@{n}.{n}.{n}", "0.0.0.0/0 255.255.255.0 8.8.8.8"),
    *("https://example.org/watch?v=dQw4w9WgXcQ&t={n}s", "https://maps.example/@{n}.{f},-{n}.{f},15z"),
    *("https://example.org/p/{n}/{n}?page={n}#c{n}", "https://discord.com/channels/{s}/{s}/{s}"),
    *("<https://example.org/a_b-c/{n}>", "see [docs](https://example.org/v{n}.{n}/x.html)", "<:pepe:{s}>"),
    *(":thinking: x{n}", "key=value&n={n}", "data:image/png;base64,iVBORw0KGgo=", "eth0: {n} packets"),
)
LINES = (
    *("{w} {t} {w}", "{w} {w} {d} {w}", "meet at {t} on {d}?", "brb {t}", "since {d} {w} {w}", "{t} - {t} {w}"),
    *("from {d} to {d}", "{t} GMT+{n}", "<{name}> {w} {num}", "{t} <{name}> {w} {v}", "{v} {w}"),
    *("upgrade to {v} {w}", "{v} or {v}, {w}", "i'm on {v} since {d}", "{w} {p} {w}"),
    *("it's {p}, or {p} with shipping", "paid {p} on {d}", "{num}", "{w} {num} {w}", "{num} {num}", "gg {num}"),
    *("{id}", "{w} {id} {w}", "the hash is {id}", "id: {id}", "see {id} and {id}", "({id})", "`{id}`", "{c}"),
    *("{w} {c}", "try `{c}`", "```\n{c}\n{c}\n```", "@{name} {w} {num}?", "{name}: {w} {v}"),
    *("look at example dot com {w}", "found it at archive dot org", "{w} at {t} dot", "password is too short"),
    *("what's the ip of it?", "the token is missing {w}", "secret = something", "my email is broken since {d}"),
    *("call me in {n} minutes", "text me at {t}", "ring at {t}, floor {n}", "my number is {n}"),
    *("card {n} of {n}", "{w} {w} {w} {w}", "ACK {w}!!! {w}??", "{n} of {n} cells, {n} left", "signal {n} {n}"),
    *("DCC SEND file{n}.tar.gz", "* {name} has joined #chan{n}", "[{t}] {name}: {w}", "{t}:{n} lap"),
    *("{n}.{n}.{n}", "2x4 {n}x{n}x{n}mm", "{n}–{n}", "A{n} B{n} C{n}", "{w}: {w}, {w}; {w}/{w}"),
)


def ordinary(count: int, seed: int = 0) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(count):
        yield filled(rng, rng.choice(LINES))


def filled(rng: random.Random, template: str) -> str:
    """Fills each field anew wherever it stands."""
    makers = {"t": clock, "d": date, "v": version, "p": price, "id": identifier, "num": numbers, "n": number}
    pieces = []
    for literal, field, _, _ in string.Formatter().parse(template):
        pieces.append(literal)
        if field in makers:
            pieces.append(makers[field](rng))
        elif field == "w":
            pieces.append(rng.choice(WORDS))
        elif field == "name":
            pieces.append(rng.choice(NAMES))
        elif field == "h":
            pieces.append(some(rng, rng.choice([7, 8, 40]), HEX))
        elif field == "s":
            pieces.append(str(rng.randrange(10**17, 13 * 10**17)))
        elif field == "f":
            pieces.append(digits(rng, 6))
        elif field == "c":
            pieces.append(filled(rng, rng.choice(CODE)))
    return "".join(pieces)
