"""The store of a sweep: one SQLite file that survives a kill at any moment and takes several sweeps at once.

Every result is one transaction in a write-ahead log: it is there whole or not at all. Results are found by what they rest on (kernel, source
digest, compiler, device, problem), so the same command later finds what is finished, and another source finds nothing and disturbs nothing:
rows of other sources stay and are marked stale. States of a point only move forward.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from kgen.errors import KgenError
from kgen.sweep.records import RANK, Checked, Origin, Stage, State, Time, Timed, ratios

SCHEMA = 1
_WAIT = 60.0  # seconds for another sweep's transaction; each takes milliseconds
_TABLES = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS point(
  arch TEXT NOT NULL, family TEXT NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL, compiler TEXT NOT NULL,
  state TEXT NOT NULL, why TEXT NOT NULL DEFAULT '', spec TEXT NOT NULL, resources TEXT NOT NULL DEFAULT '{}',
  likeness TEXT NOT NULL DEFAULT '', twin_of TEXT NOT NULL DEFAULT '', stale INTEGER NOT NULL DEFAULT 0, at REAL NOT NULL,
  PRIMARY KEY(arch, name, source, compiler));
CREATE INDEX IF NOT EXISTS point_likeness ON point(arch, likeness);
CREATE TABLE IF NOT EXISTS checked(
  arch TEXT NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL, compiler TEXT NOT NULL, device TEXT NOT NULL,
  workload TEXT NOT NULL, ok INTEGER NOT NULL, why TEXT NOT NULL, max_err REAL, tolerance REAL, at REAL NOT NULL,
  PRIMARY KEY(arch, name, source, compiler, device, workload));
CREATE TABLE IF NOT EXISTS timed(
  arch TEXT NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL, compiler TEXT NOT NULL, device TEXT NOT NULL,
  workload TEXT NOT NULL, stage TEXT NOT NULL, kind TEXT NOT NULL, clock TEXT NOT NULL, rounds TEXT NOT NULL,
  over_pick TEXT NOT NULL, over_torch TEXT NOT NULL, floor_us REAL, pick TEXT NOT NULL, details TEXT NOT NULL DEFAULT '{}',
  at REAL NOT NULL,
  PRIMARY KEY(arch, name, source, compiler, device, workload, stage));
CREATE TABLE IF NOT EXISTS claim(arch TEXT NOT NULL, name TEXT NOT NULL, holder TEXT NOT NULL, PRIMARY KEY(arch, name));
"""


class Store:
    """An open store; use one per thread. `path` is made when it is not there.

    Raises KgenError for a file that is no store, or of another schema.
    """

    def __init__(self, path: Path, arch: str):
        self.path, self.arch = path, arch
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # SQLite does not wait while a file becomes one with a write-ahead log
            self._db, found = _opened(path)
        if found != str(SCHEMA):
            raise KgenError(f"{path}: a store of schema {found}, this kgen has {SCHEMA}\n  try: another --out folder")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def remember(self, key: str, value: Any) -> None:
        """Keep a JSON value under a key, in place of an earlier one."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (key, json.dumps(value, sort_keys=True)))

    def recall(self, key: str) -> Any:
        """A value that was kept, None if there is none."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    # ---- points

    def put_points(self, rows: Iterable[tuple[str, str, Mapping[str, Any], State, str]]) -> None:
        """Points of a plan that rest on no source: (family, name, spec values, state, why). What is there is brought up to date."""
        now = time.time()
        self._many(
            "INSERT INTO point(arch, family, name, source, compiler, state, why, spec, at) VALUES(?, ?, ?, '', '', ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET state = excluded.state, why = excluded.why, at = excluded.at"
            " WHERE state <> excluded.state OR why <> excluded.why",
            [
                (self.arch, family, name, state, why, json.dumps(spec, sort_keys=True), now)
                for family, name, spec, state, why in rows
            ],
        )

    def put_built(
        self,
        family: str,
        name: str,
        origin: Origin,
        spec: Mapping[str, Any],
        resources: Mapping[str, Any],
        likeness: str,
    ) -> None:
        """A point that was compiled (or failed to be); rows of its other sources become stale."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO point(arch, family, name, source, compiler, state, spec, resources, likeness, at)"
                " VALUES(?, ?, ?, ?, ?, 'built', ?, ?, ?, ?) ON CONFLICT DO UPDATE SET stale = 0",
                (
                    *(self.arch, family, name, origin.source, origin.compiler),
                    *(json.dumps(spec, sort_keys=True), json.dumps(resources, sort_keys=True), likeness, time.time()),
                ),
            )
            self._db.execute(
                "UPDATE point SET stale = 1 WHERE arch = ? AND name = ? AND source <> '' AND (source <> ? OR compiler <> ?)",
                (self.arch, name, origin.source, origin.compiler),
            )

    def advance(self, name: str, origin: Origin, state: State, why: str = "", twin_of: str = "") -> None:
        """Move a point forward; one that is further already stays."""
        behind = [known for known, rank in RANK.items() if rank < RANK[state]]
        marks = ", ".join("?" * len(behind))
        self._db.execute(
            f"UPDATE point SET state = ?, why = ?, twin_of = ?, at = ? WHERE arch = ? AND name = ? AND source = ? AND compiler = ?"
            f" AND state IN ({marks})",
            (state, why, twin_of, time.time(), self.arch, name, origin.source, origin.compiler, *behind),
        )

    def state(self, name: str, origin: Origin) -> tuple[str, str]:
        """(state, why) of a point of this source; ("planned", "") when it is not known."""
        row = self._db.execute(
            "SELECT state, why FROM point WHERE arch = ? AND name = ? AND source = ? AND compiler = ?",
            (self.arch, name, origin.source, origin.compiler),
        ).fetchone()
        return (row[0], row[1]) if row else ("planned", "")

    def owner_of(self, likeness: str, name: str, compiler: str) -> str | None:
        """The first other point with the same machine code and launch that is no twin itself, None if this one is the first."""
        row = self._db.execute(
            "SELECT name FROM point WHERE arch = ? AND likeness = ? AND compiler = ? AND stale = 0 AND name <> ?"
            " AND state NOT IN ('twin', 'failed') ORDER BY at, name LIMIT 1",
            (self.arch, likeness, compiler, name),
        ).fetchone()
        return row[0] if row else None

    def points(self, family: str, stale: bool = False) -> list[dict[str, Any]]:
        """All points of a family, current or stale ones, each by its furthest row: name, state, why, twin_of, spec, resources, source."""
        rows = self._db.execute(
            "SELECT name, state, why, twin_of, spec, resources, source, compiler FROM point"
            " WHERE arch = ? AND family = ? AND stale = ? ORDER BY name, source <> '', at",
            (self.arch, family, int(stale)),
        )
        names = ("name", "state", "why", "twin_of", "spec", "resources", "source", "compiler")
        found = (dict(zip(names, row, strict=True)) for row in rows)
        every = [{**row, "spec": json.loads(row["spec"]), "resources": json.loads(row["resources"])} for row in found]
        return every if stale else list({row["name"]: row for row in every}.values())

    # ---- who works on what

    def claim(self, names: Iterable[str]) -> set[str]:
        """Those of the points that are this process's to work on: not held by another one that still runs."""
        mine, got = _holder(os.getpid()), set()
        with self._transaction():
            held = dict(self._db.execute("SELECT name, holder FROM claim WHERE arch = ?", (self.arch,)))
            for name in names:
                other = held.get(name)
                if other is None or other == mine or _holder(int(other.split()[0])) != other:
                    self._db.execute("INSERT OR REPLACE INTO claim VALUES(?, ?, ?)", (self.arch, name, mine))
                    got.add(name)
        return got

    def release(self, names: Iterable[str]) -> None:
        """Give points back that this process holds."""
        mine = _holder(os.getpid())
        self._many(
            "DELETE FROM claim WHERE arch = ? AND name = ? AND holder = ?", [(self.arch, name, mine) for name in names]
        )

    # ---- results

    def put_checked(self, name: str, origin: Origin, device: str, results: Iterable[Checked]) -> None:
        """What a check of a kernel found."""
        now = time.time()
        self._many(
            "INSERT OR REPLACE INTO checked VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    self.arch,
                    name,
                    origin.source,
                    origin.compiler,
                    device,
                    r.workload,
                    int(r.ok),
                    r.why,
                    r.max_err,
                    r.tolerance,
                    now,
                )
                for r in results
            ],
        )

    def checked(self, name: str, origin: Origin, device: str) -> dict[str, bool]:
        """Workload key -> whether the kernel is right on it; "" stands for its odd shapes."""
        rows = self._db.execute(
            "SELECT workload, ok FROM checked WHERE arch = ? AND name = ? AND source = ? AND compiler = ? AND device = ?",
            (self.arch, name, origin.source, origin.compiler, device),
        )
        return {workload: bool(ok) for workload, ok in rows}

    def put_timed(self, stage: Stage, found: Timed, pick: str, origins: Mapping[str, Origin]) -> None:
        """One batch of times, whole: every contender, with its ratios to the pick and to torch formed round by round."""
        base, torch = found.us.get(pick), found.us.get("torch")
        now = time.time()
        rows = []
        for name, rounds in found.us.items():
            origin = origins.get(name, Origin())
            over_pick = ratios(rounds, base) if base else ()
            over_torch = ratios(rounds, torch) if torch else ()
            key = (self.arch, name, origin.source, origin.compiler, found.device.name, found.workload, stage)
            numbers = (json.dumps(rounds), json.dumps(over_pick), json.dumps(over_torch), found.floor_us)
            details = json.dumps(found.details.get(name, {}))
            rows.append((*key, found.kind, found.device.clock, *numbers, pick, details, now))
        self._many("INSERT OR REPLACE INTO timed VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def times(self, device: str, stage: Stage | None = None, name: str | None = None) -> list[Time]:
        """Times on a device, of current sources only; torch's included."""
        rows = self._db.execute(
            "SELECT t.name, t.workload, t.stage, t.kind, t.device, t.clock, t.rounds, t.over_pick, t.over_torch, t.floor_us, t.pick,"
            " t.details, t.at FROM timed t LEFT JOIN point p USING(arch, name, source, compiler)"
            " WHERE t.arch = ? AND t.device = ? AND COALESCE(p.stale, 0) = 0"
            " AND COALESCE(p.state, '') NOT IN ('failed', 'wrong') AND (? IS NULL OR t.stage = ?)"
            " AND (? IS NULL OR t.name = ?) ORDER BY t.at",
            (self.arch, device, stage, stage, name, name),
        )
        return [
            Time(
                name_,
                key,
                stage_,
                kind,
                device_,
                clock,
                tuple(json.loads(rounds)),
                tuple(json.loads(over_pick)),
                tuple(json.loads(over_torch)),
                floor_us,
                pick,
                json.loads(details),
                at,
            )
            for name_, key, stage_, kind, device_, clock, rounds, over_pick, over_torch, floor_us, pick, details, at in rows
        ]

    def devices(self) -> list[str]:
        """Devices that have times in the store, latest first."""
        rows = self._db.execute(
            "SELECT device FROM timed WHERE arch = ? GROUP BY device ORDER BY MAX(at) DESC", (self.arch,)
        )
        return [device for (device,) in rows]

    def counts(self, family: str) -> dict[str, int]:
        """Points per state, current ones; `stale` counts rows of other sources."""
        out: dict[str, int] = {}
        for point in self.points(family):
            out[point["state"]] = out.get(point["state"], 0) + 1
        out["stale"] = len(self.points(family, stale=True))
        return out

    # ---- transactions

    def _many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            with self._transaction():
                self._db.executemany(statement, rows)

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


def _holder(pid: int) -> str:
    """A process as no other one is called: its number and when it started, in ticks since the machine did; "PID gone" when it is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return f"{pid} gone"
    return f"{pid} {stat.rpartition(')')[2].split()[19]}"


def _opened(path: Path) -> tuple[sqlite3.Connection, str]:
    """The file as a store, made if it is not there, and its schema."""
    db = sqlite3.connect(path, timeout=_WAIT, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")  # a killed process loses nothing; a lost disk may lose the last seconds
        db.executescript("BEGIN IMMEDIATE;" + _TABLES + "COMMIT;")
        db.execute("INSERT OR IGNORE INTO meta VALUES('schema', ?)", (str(SCHEMA),))
        return db, db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0]
    except sqlite3.DatabaseError as error:
        words = f"{path}: not a sweep store ({error})\n  try: another --out folder, or remove the file"
        raise KgenError(words) from error


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT: a writer waits for another at the beginning, never in the middle."""

    def __init__(self, db: sqlite3.Connection):
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
