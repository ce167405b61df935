"""A small writer with the command line of `durability_probe`, on Python's own SQLite.

It shows that the power-cut replay judges rightly, whatever state the product is in: with `synchronous=FULL` nothing that was
acknowledged may be missing, with `NORMAL` the replay has to find losses.

    stand_in.py --data DIR --synchronous full|normal --operations N
    stand_in.py --data DIR --check
"""

import argparse
import os
import sqlite3
import sys


def write(folder: str, synchronous: str, operations: int) -> None:
    connection = sqlite3.connect(os.path.join(folder, "stand_in.db"), isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("PRAGMA wal_autocheckpoint=100")
    connection.execute("CREATE TABLE IF NOT EXISTS tokens (id TEXT PRIMARY KEY, revoked INTEGER NOT NULL, filling BLOB)")
    for number in range(operations):
        if number % 3 == 2:
            token = f"token{number - 2}"
            connection.execute("UPDATE tokens SET revoked = 1 WHERE id = ?", (token,))
            line = f"ack revoke {token}\n"
        else:
            token = f"token{number}"
            connection.execute("INSERT INTO tokens VALUES (?, 0, ?)", (token, os.urandom(200)))
            line = f"ack issue {token}\n"
        os.write(1, line.encode())


def check(folder: str) -> None:
    path = os.path.join(folder, "stand_in.db")
    connection = sqlite3.connect(path)
    if connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'tokens'").fetchone()[0]:
        for token, revoked in connection.execute("SELECT id, revoked FROM tokens"):
            print(token, "revoked" if revoked else "live")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--synchronous", choices=("full", "normal"))
    parser.add_argument("--operations", type=int, default=0)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.data)
    elif arguments.synchronous:
        write(arguments.data, arguments.synchronous, arguments.operations)
    else:
        sys.exit("either --synchronous or --check is needed")
