"""The trials of a search in Optuna's storage, shared by workers, and who works on which.

A trial is its number. Optuna gives numbers out, each once; beside its tables is one of
claims, which says whose a trial is. A worker that is alive changes its claim every few
seconds. One that is dead, since its process is gone or its claim stands still, loses the
trial to whoever looks next: the claim changes hands in one statement, which only one can win.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sql
import sqlalchemy.exc
from optuna.exceptions import (
    DuplicatedStudyError,
    StorageInternalError,
    UpdateFinishedTrialError,
)
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from generator.errors import fail
from generator.runtime.search_draw import distribution
from generator.search.goals import Objective
from generator.search.space import Choice
from generator.spec.words import listed

BEAT = 2.0  # seconds between two signs of life
STILL = 60.0  # seconds without one, after which a worker elsewhere counts as dead
MAKING = 2.0  # seconds in which tables are made
RECORD = "record"  # under which a trial has all that is known of it
SCORES = "scores"  # under which a study has those of blocks and units, once known

_TABLES = sql.MetaData()
CLAIMS = sql.Table(
    "gen_claims",
    _TABLES,
    sql.Column("study", sql.String(200), primary_key=True),
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("owner", sql.String(200), nullable=False),
    sql.Column("beat", sql.Integer, nullable=False),
)
# How a trial that ended stands in Optuna's own tables.
STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "duplicate": TrialState.PRUNED,
    "refused": TrialState.FAIL,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class Stored:
    """A trial as the storage has it."""

    number: int
    id: int
    ended: bool
    record: dict[str, Any]


@dataclass
class Store:
    """The trials of one study."""

    name: str
    storage: RDBStorage
    engine: sql.Engine
    study: int
    me: str = field(default_factory=lambda: owner(os.getpid()))
    seen: dict[int, tuple[str, int, float]] = field(default_factory=dict)

    def trials(self) -> list[Stored]:
        """All of them, by number."""
        found = self.storage.get_all_trials(self.study, deepcopy=False)
        return [
            Stored(
                t.number,
                t._trial_id,
                t.state.is_finished(),
                json.loads(t.user_attrs.get(RECORD, "{}")),
            )
            for t in sorted(found, key=lambda t: t.number)
        ]

    def untouched(self) -> bool:
        """Whether no trial has ended, and nobody is at work on one."""
        if any(t.ended for t in self.trials()):
            return False
        return all(lives(owner) is False for owner, _ in self._claims().values())

    def about(self) -> dict[str, Any]:
        return self.storage.get_study_user_attrs(self.study)

    def note(self, name: str, value: Any) -> None:
        self.storage.set_study_user_attr(self.study, name, value)

    # ------------------------------------------------------------------------- claims

    def take(self) -> Stored | None:
        """A new trial, which is this worker's; None where another was quicker to claim
        it."""
        id = self.storage.create_new_trial(self.study)
        number = self.storage.get_trial_number_from_id(id)
        return Stored(number, id, False, {}) if self._claim(number) else None

    def adopt(self, trials: Sequence[Stored]) -> Stored | None:
        """A trial whose worker is dead, which is now this one's."""
        claims = self._claims()
        for one in trials:
            if one.ended:
                continue
            claim = claims.get(one.number)
            if claim is None:
                if self._claim(one.number):
                    return one
            elif self._dead(one.number, *claim) and self._seize(one.number, *claim):
                return one
        return None

    def release(self, trial: Stored) -> None:
        """Leave a trial to whoever looks next."""
        mine = (CLAIMS.c.study == self.name) & (CLAIMS.c.number == trial.number)
        mine &= CLAIMS.c.owner == self.me
        with self.engine.begin() as connection:
            connection.execute(sql.delete(CLAIMS).where(mine))

    def beat(self, number: int) -> bool:
        """Say that this worker is alive; whether the trial is still its own."""
        mine = (CLAIMS.c.study == self.name) & (CLAIMS.c.number == number)
        mine &= CLAIMS.c.owner == self.me
        change = sql.update(CLAIMS).where(mine).values(beat=CLAIMS.c.beat + 1)
        with self.engine.begin() as connection:
            return connection.execute(change).rowcount == 1

    def _claims(self) -> dict[int, tuple[str, int]]:
        query = sql.select(CLAIMS).where(CLAIMS.c.study == self.name)
        with self.engine.connect() as connection:
            return {r.number: (r.owner, r.beat) for r in connection.execute(query)}

    def _claim(self, number: int) -> bool:
        row = {"study": self.name, "number": number, "owner": self.me, "beat": 0}
        try:
            with self.engine.begin() as connection:
                connection.execute(sql.insert(CLAIMS).values(row))
        except sqlalchemy.exc.IntegrityError:
            return False
        return True

    def _seize(self, number: int, owner: str, beat: int) -> bool:
        theirs = (CLAIMS.c.study == self.name) & (CLAIMS.c.number == number)
        theirs &= (CLAIMS.c.owner == owner) & (CLAIMS.c.beat == beat)
        change = sql.update(CLAIMS).where(theirs).values(owner=self.me, beat=beat + 1)
        with self.engine.begin() as connection:
            return connection.execute(change).rowcount == 1

    def _dead(self, number: int, owner: str, beat: int) -> bool:
        if owner == self.me:
            return False
        alive = lives(owner)
        if alive is not None:
            return not alive
        known = self.seen.get(number)
        if known is None or known[:2] != (owner, beat):
            self.seen[number] = (owner, beat, time.monotonic())
            return False
        return time.monotonic() - known[2] > STILL

    # ------------------------------------------------------------------------ results

    def progress(self, trial: Stored, record: Mapping[str, Any]) -> None:
        """Write down how far a trial is."""
        self.storage.set_trial_user_attr(trial.id, RECORD, json.dumps(record))

    def finish(
        self,
        trial: Stored,
        record: Mapping[str, Any],
        choices: Sequence[Choice],
        objectives: Sequence[Objective],
    ) -> bool:
        """Write down what came of a trial, all of it before it counts as ended. Whether
        it did: a worker that was taken for dead has nothing to say."""
        if not self.beat(trial.number):
            return False
        state = STATES[record["state"]]
        try:
            known = self.storage.get_trial(trial.id)
            for one in choices:
                if one.key in record["params"] and one.key not in known.params:
                    kind = distribution(one)
                    stored = kind.to_internal_repr(record["params"][one.key])
                    self.storage.set_trial_param(trial.id, one.key, stored, kind)
            self.progress(trial, record)
            values = None
            if state is TrialState.COMPLETE:
                values = [record["values"][o.name] for o in objectives]
            self.storage.set_trial_state_values(trial.id, state, values)
        except UpdateFinishedTrialError:
            return False
        return True


@contextmanager
def used() -> Iterator[None]:
    """What a database says of itself in the middle of a search, as a GenError."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        words = str(error.__cause__ or error).splitlines()[0][:200]
        raise fail(
            "G566",
            f"the database of the search cannot be used any more: {words}",
            help="mend that, and run this again: the trials that are done stay",
        ) from error


def _connected(url: str, options: Mapping[str, Any]) -> tuple[sql.Engine, RDBStorage]:
    """The database, with its tables, which are made where there are none."""
    engine = sql.create_engine(url, **options)
    storage = RDBStorage(url, engine_kwargs=dict(options))
    _TABLES.create_all(engine)
    return engine, storage


def open_store(
    url: str, name: str, objectives: Sequence[Objective], about: Mapping[str, Any]
) -> Store:
    """The study of this name, made where there is none. GenError where the database
    cannot be reached, or the study is of another search than `about` tells of."""
    engine_options: dict[str, Any] = {}
    if url.startswith("sqlite"):
        engine_options = {"connect_args": {"timeout": 60}}
    try:
        try:
            engine, storage = _connected(url, engine_options)
        except (
            sqlalchemy.exc.DBAPIError
        ):  # another command was making the tables, perhaps
            time.sleep(MAKING)
            engine, storage = _connected(url, engine_options)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        words = str(error).splitlines()[0][:200]
        raise fail(
            "G566",
            f"the database of the search cannot be used: {words}",
            help="mend the URL of storage in [search], or install its driver",
        ) from None
    directions = [
        (
            StudyDirection.MAXIMIZE
            if o.direction == "maximize"
            else StudyDirection.MINIMIZE
        )
        for o in objectives
    ]
    try:
        study = storage.create_new_study(directions, name)
        storage.set_study_user_attr(study, "about", dict(about))
    except DuplicatedStudyError:
        study = storage.get_study_id_from_name(name)
    store = Store(name, storage, engine, study)
    for _ in range(50):  # another may have made it just now
        if "about" in store.about():
            break
        time.sleep(0.1)
    known = store.about().get("about", {})
    differ = [key for key, value in about.items() if known.get(key) != value]
    if differ and store.untouched():  # it came to nothing, and was mended meanwhile
        store.note("about", dict(about))
        store.note(SCORES, None)
    elif differ:
        raise fail(
            "G567",
            f"the search {name} was begun before, with other {listed(differ, 'and')}",
            help="choose another --work for the search as it is now; its trials are no "
            "part of the one before",
        )
    return store


# ------------------------------------------------------------------------------- owners


def owner(pid: int) -> str:
    """A process by the machine, the space of its number, and when it started."""
    return f"{socket.gethostname()}|{_space()}|{pid}|{_started(pid)}"


def lives(owner: str) -> bool | None:
    """Whether a process is there; None of one on another machine, or where none can tell."""
    host, space, pid, started = owner.split("|")
    if not started or (host, space) != (socket.gethostname(), _space()):
        return None
    return _started(int(pid)) == started


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When it started, as the system counts; nothing where it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
