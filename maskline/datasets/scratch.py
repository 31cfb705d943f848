"""What a reader remembers of a data set of any size: in a database on disk, so that memory stays flat."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def scratch_database(tables: str) -> Iterator[sqlite3.Connection]:
    """An empty database with these tables, gone when the block ends. It has a file only if it grows."""
    # A reader is an iterator, and its caller may go on with it in another thread.
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    try:
        database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA cache_size = -16384; {tables}; BEGIN")
        yield database
    finally:
        database.close()


class KnownIds:
    """The ids that were seen, and where."""

    TABLES = "CREATE TABLE known (id TEXT PRIMARY KEY, position INTEGER) WITHOUT ROWID"

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add(self, id: str, position: int) -> int | None:
        """Remember an id; the position where it was seen before, or None."""
        try:
            self._database.execute("INSERT INTO known VALUES (?, ?)", (id, position))
        except sqlite3.IntegrityError:
            return self._database.execute("SELECT position FROM known WHERE id = ?", (id,)).fetchone()[0]
        return None
