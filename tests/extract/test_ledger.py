"""The ledger file: whose it is, what it keeps, who may write."""

import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from extract.claims import STALE_S, Runner
from extract.errors import LedgerError
from extract.ledger import Ledger
from extract.ledger_file import LEDGER_VERSION
from extract.ledger_rows import NewReply, StoredReply, beat, claim, release, store


def reply(key: str = "k", text: str = "{}") -> NewReply:
    return NewReply(StoredReply(key, text, False, 3, 2), "run", "unit", 1, "prompt", (), 0.1)


def test_a_stored_reply_is_found_again(tmp_path: Path) -> None:
    with Ledger(tmp_path / "new" / "ledger") as ledger:
        ledger.write(store(reply(text="夜 \0")))
    with Ledger(tmp_path / "new" / "ledger") as ledger:
        assert ledger.reply("k") == StoredReply("k", "夜 \0", False, 3, 2)
        assert ledger.reply("other") is None
        assert ledger.paid("run") == (1, 3, 2)


def test_the_first_reply_under_a_key_stands(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.write(store(reply(text="1")), store(reply(text="2")))
        assert ledger.reply("k") == reply(text="1").reply


@pytest.mark.parametrize("content", [b"This is a letter, not a database. " * 40, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"letter` is no ledger or is damaged: .*choose another path"):
        Ledger(path)
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="other` is a database of something else"):
        Ledger(path)
    assert path.read_bytes() == before


def test_another_version_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger").close()
    with sqlite3.connect(tmp_path / "ledger") as connection:
        connection.execute(f"PRAGMA user_version = {LEDGER_VERSION + 1}")
    connection.close()
    with pytest.raises(LedgerError, match=f"has version {LEDGER_VERSION + 1}, this kglift reads up to"):
        Ledger(tmp_path / "ledger")


def test_a_ledger_of_version_1_keeps_its_replies_and_learns_what_is_new(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.write(store(reply()))
    with sqlite3.connect(tmp_path / "ledger") as connection:
        connection.executescript("DROP TABLE holds; ALTER TABLE replies DROP COLUMN is_estimated")
        connection.executescript("ALTER TABLE units DROP COLUMN first_key")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with Ledger(tmp_path / "ledger") as ledger:
        assert ledger.reply("k") == reply().reply
        ledger.write(store(reply("new")._replace(reply=StoredReply("new", "", False, 1, 1, is_estimated=True))))
    with Ledger(tmp_path / "ledger") as ledger:
        assert (ledger.paid("run"), ledger.n_estimated("run")) == ((2, 4, 3), 1)


def test_a_directory_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="is a directory; give the path of a ledger file"):
        Ledger(tmp_path)


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(LedgerError, match="cannot make the directory of the ledger"):
        Ledger(tmp_path / "file" / "ledger")


def test_a_full_disk_is_one_clear_line_and_loses_nothing(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.write(store(reply("kept")))
        (pages,) = ledger._connection.execute("PRAGMA page_count").fetchone()
        ledger._connection.execute(f"PRAGMA max_page_count = {pages}")

        with pytest.raises(LedgerError, match="cannot be used: database or disk is full; what it holds is kept.*free"):
            ledger.write(store(reply("big", "x" * 100_000)))
        ledger._connection.execute("PRAGMA max_page_count = 1000000")
        assert ledger.reply("kept") is not None
        assert ledger.reply("big") is None


def test_what_was_committed_can_be_flushed_at_any_time(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.write(store(reply()))
        ledger.sync()
        ledger._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (tmp_path / "ledger-wal").unlink()
        ledger.sync()


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        raise KeyboardInterrupt

    with Ledger(tmp_path / "ledger") as ledger:
        with pytest.raises(KeyboardInterrupt):
            ledger.write(store(reply()), fail)
        assert ledger.reply("k") is None
        ledger.write(store(reply()))


def test_a_claim_is_exclusive_until_it_is_given_back(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as one, Ledger(tmp_path / "ledger") as other:
        assert one.write(claim(["k"], one.runner)) == [[(True, False)]]
        assert other.write(claim(["k"], other.runner)) == [[(False, False)]]
        one.write(release("k", one.runner))
        assert other.write(claim(["k"], other.runner)) == [[(True, False)]]
        other.close()
        assert one.write(claim(["k"], one.runner)) == [[(True, False)]]


def test_a_dead_process_loses_its_claims(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    runner = Runner("", 0, "", 0)
    started = Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    runner = Runner(Runner.this().host, child.pid, started, 0)
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.write(beat(str(runner)), claim(["k"], str(runner)))
        assert ledger.write(claim(["k"], ledger.runner)) == [[(False, False)]]
        child.communicate(b"\n")
        assert ledger.write(claim(["k"], ledger.runner)) == [[(True, False)]]


def test_a_pid_that_is_used_again_is_another_runner() -> None:
    this = Runner.this()
    assert this.is_alive(time.time())
    assert not Runner(this.host, os.getpid(), "1", 0).is_alive(time.time())


def test_a_runner_elsewhere_lives_as_long_as_it_says_so() -> None:
    far = Runner("elsewhere:8080", 1, "1", 0)
    assert Runner.parse(str(far)) == far
    assert far.is_alive(time.time())
    assert not far.is_alive(time.time() - STALE_S - 1)


def test_a_new_ledger_can_be_opened_by_many_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for n in range(30):
            for opened in [pool.submit(Ledger, tmp_path / str(n)) for _ in range(4)]:
                opened.result().close()
