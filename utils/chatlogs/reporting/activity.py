"""How much was written in each month, by everybody and by the persona."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

FIRST_DATE_MS = 946_684_800_000  # 2000-01-01; what lies before only counts places in a file

Months = dict[str, tuple[int, int]]  # "2024-05" -> (messages of everybody, messages of the persona); none is left out


def by_month(connection: duckdb.DuckDBPyConnection, persona_id: int) -> Months:
    """From the first month with a message to the last, UTC; text written by Discord itself doesn't count."""
    rows = connection.execute(
        "SELECT strftime(make_timestamp(unix_ms * 1000), '%Y-%m') AS month, count(*), "
        "count(*) FILTER (author_id = ?) FROM messages "
        "WHERE NOT is_system AND form <> 'forgotten' AND unix_ms >= ? GROUP BY month ORDER BY month",
        [persona_id, FIRST_DATE_MS],
    ).fetchall()
    found = {month: (everybody, persona) for month, everybody, persona in rows}
    return {month: found.get(month, (0, 0)) for month in months_between(*list(found)[:1], *list(found)[-1:])}


def months_between(first: str = "", last: str = "") -> list[str]:
    """ "2024-11" and "2025-01" -> those two and the one between; none where one is empty."""
    if not (first and last):
        return []
    start, end = (12 * int(month[:4]) + int(month[5:7]) - 1 for month in (first, last))
    return [f"{number // 12:04}-{number % 12 + 1:02}" for number in range(start, end + 1)]
