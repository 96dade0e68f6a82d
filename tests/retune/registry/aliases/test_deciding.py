"""Champion, challenger and previous are moved by one decision at a time, and each is written down.

The versions here are names without files: what they hold is proved elsewhere.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from mlflow import MlflowClient

from retune.errors import ArtifactError, ConfigError, ServiceError
from retune.registry.aliases.deciding import (
    find_target,
    promote_version,
    record_decision,
    roll_back,
)
from retune.registry.aliases.moving import SOMEBODY
from retune.registry.aliases.refusing import refuse_version
from retune.registry.aliases.served import note_served
from retune.registry.ledger.ledger import Ledger
from retune.registry.records import LedgerEntry
from retune.tracking import connect, default_uri
from tests.serving import copy_tracking_database


class Registry:
    """A registered model whose versions are known by a digest alone."""

    def __init__(self, uri: str, name: str, folder: Path) -> None:
        self.uri, self.name, self.folder = uri, name, folder
        self.client = connect(uri)
        self.client.create_registered_model(name)

    def draft(self, digest: str, opponent: str = "", kind: str = "promoted") -> LedgerEntry:
        """Make a version, and what the gate says of it."""
        tags = {"retune.merged_digest": digest}
        source = str(self.folder)
        version = self.client.create_model_version(self.name, source, tags=tags)
        return LedgerEntry.model_validate(
            {
                "number": 0,
                "at": "2026-11-26T12:00:00+00:00",
                "kind": kind,
                "model_name": self.name,
                "actor": "gate",
                "version": int(version.version),
                "challenger": digest,
                "opponent": opponent,
                "decision": f"decision on {digest} against {opponent}",
                "test_rows": "rows",
                "alpha": 0.01,
                "reason": "because",
            }
        )

    def decide(self, draft: LedgerEntry) -> LedgerEntry:
        return record_decision(self.uri, self.folder, draft)

    def crown(self, *digests: str) -> None:
        """Promote one after the other."""
        for opponent, digest in zip(("", *digests), digests, strict=False):
            self.decide(self.draft(digest, opponent))

    def aliases(self) -> dict[str, int]:
        found = self.client.get_registered_model(self.name).aliases
        return {alias: int(version) for alias, version in found.items()}

    def lines(self) -> list[tuple[str, int | None, int | None]]:
        """Return kind, champion before and after of every line of a chain that holds."""
        entries = Ledger(self.uri, self.name, self.folder).entries()
        return [(each.kind, each.from_version, each.to_version) for each in entries]

    def take_back(self, reason: str = "it is rude", to: int | None = None) -> LedgerEntry:
        champion, target = find_target(self.uri, self.name, to=to, folder=self.folder)
        return roll_back(
            self.uri,
            self.name,
            taken_back=champion,
            to=target,
            folder=self.folder,
            actor="ada",
            reason=reason,
        )

    def promote(self, version: int, **options: Any) -> LedgerEntry:
        given = {"folder": self.folder, "actor": "ada", "reason": "I know it", **options}
        return promote_version(self.uri, self.name, version, **given)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("store")
    copy_tracking_database(folder)
    return default_uri(folder)


@pytest.fixture
def registry(uri: str, name: str, tmp_path: Path) -> Registry:
    return Registry(uri, name, tmp_path)


def test_promotions_move_champion_and_previous_and_are_written_down(registry: Registry) -> None:
    registry.crown("one", "two")

    assert registry.aliases() == {"champion": 2, "previous": 1}
    assert registry.lines() == [("promoted", None, 1), ("promoted", 1, 2)]


def test_what_a_server_says_of_a_version_is_one_line_until_the_champion_moves(
    registry: Registry,
) -> None:
    """One that is started again says the same; no alias moves, and addresses are taken out."""
    registry.crown("one", "two")

    def say(actor: str = "server a:1", reason: str = "ask ana@canarinho.com.br") -> Any:
        return note_served(
            *(registry.uri, registry.name, 2),
            **{"folder": registry.folder, "kind": "refused", "actor": actor, "reason": reason},
        )

    line = say()
    assert (line.kind, line.version, line.actor, line.reason) == (
        *("refused", 2, "server a:1"),
        "ask [e-mail]",
    )
    assert (line.from_version, line.to_version) == (2, 2)
    assert say() is None
    assert say("server b:1") is not None and say(reason="another") is not None
    assert registry.aliases() == {"champion": 2, "previous": 1}

    registry.take_back()
    registry.promote(2, allow=True)
    assert say() is not None
    kinds = [kind for kind, _, _ in registry.lines()]
    assert kinds == [*["promoted"] * 2, *["refused"] * 3, "rolled_back", "promoted", "refused"]


def test_a_rejected_model_is_challenger_until_it_is_promoted(registry: Registry) -> None:
    registry.crown("one")
    draft = registry.draft("two", "one", "rejected")
    registry.decide(draft)
    assert registry.aliases() == {"champion": 1, "challenger": 2}

    later = draft.model_copy(update={"kind": "promoted", "decision": "with other rows"})
    registry.decide(later)

    assert registry.aliases() == {"champion": 2, "previous": 1}
    assert registry.lines()[1:] == [("rejected", 1, 1), ("promoted", 1, 2)]


@pytest.mark.parametrize("kind", ["promoted", "rejected", "pending"])
def test_a_decision_that_is_repeated_has_one_line(registry: Registry, kind: str) -> None:
    registry.crown("one")
    draft = registry.draft("two", "one", kind)

    assert registry.decide(draft) == registry.decide(draft)
    assert len(registry.lines()) == 2


def test_a_decision_against_a_champion_that_was_replaced_is_refused(registry: Registry) -> None:
    registry.crown("one")
    stale = registry.draft("two", "one")
    registry.decide(registry.draft("three", "one"))

    with pytest.raises(ArtifactError, match="another run changed the champion"):
        registry.decide(stale)

    assert registry.aliases() == {"champion": 3, "previous": 1}
    assert registry.lines() == [("promoted", None, 1), ("promoted", 1, 3)]


def test_of_two_runs_that_finish_at_once_one_wins_and_the_history_is_whole(
    registry: Registry, tmp_path: Path
) -> None:
    registry.crown("one")
    drafts = [registry.draft(digest, "one") for digest in ("two", "three")]
    code = (
        "import sys; from pathlib import Path\n"
        "from retune.errors import ArtifactError\n"
        "from retune.registry.aliases.deciding import record_decision\n"
        "from retune.registry.records import LedgerEntry\n"
        "import mlflow, psutil\n"
        "uri, folder, line = sys.argv[1:]\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        "    record_decision(uri, Path(folder), LedgerEntry.model_validate_json(line))\n"
        "except ArtifactError:\n"
        "    sys.exit(4)\n"
    )
    # The stores are two: what keeps the runs apart is what both have, the registry.
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, registry.uri, str(folder), draft.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for draft, folder in zip(drafts, (tmp_path, tmp_path / "elsewhere"), strict=True)
    ]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.communicate()

    codes = [process.returncode for process in running]
    assert sorted(codes) == [0, 4]
    winner = drafts[codes.index(0)].version
    assert registry.aliases() == {"champion": winner, "previous": 1}
    assert registry.lines() == [("promoted", None, 1), ("promoted", 1, winner)]


WRITES = (
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "set_registered_model_tag",
    "delete_registered_model_tag",
    "set_model_version_tag",
)


def stop(*arguments: Any, **options: Any) -> None:
    """Die in the place of a call."""
    raise KeyboardInterrupt


def fail_at(monkeypatch: pytest.MonkeyPatch, nth: int, error: type[BaseException]) -> list[str]:
    """Let the nth call that writes to MLflow fail; return the names of those that were made."""
    calls: list[str] = []

    def failing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) == nth:
                raise error("away")
            return real(*arguments, **options)

        return call

    for name in WRITES:
        monkeypatch.setattr(MlflowClient, name, failing(name, getattr(MlflowClient, name)))
    return calls


@pytest.mark.parametrize("who", ["the same run", "another"])
def test_a_decision_that_is_cut_off_anywhere_is_completed_once(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """MLflow goes away, or the process dies, at every call that writes; then somebody goes on."""
    registry.crown("0")
    done = 0
    while True:
        before = registry.aliases()["champion"]
        draft = registry.draft(str(done + 1), str(done))
        with monkeypatch.context() as patch:
            calls = fail_at(patch, done + 1, KeyboardInterrupt)
            try:
                registry.decide(draft)
            except KeyboardInterrupt:
                pass
            else:
                break
        # Whatever it was cut off at: the champion is the old or the new one.
        assert registry.aliases()["champion"] in (before, draft.version), calls
        if who == "another":
            rejected = registry.draft(f"other than {done}", str(done), "rejected")
            registry.decide(rejected)
        registry.decide(draft)
        assert registry.aliases()["champion"] == draft.version, calls
        assert registry.aliases()["previous"] == before, calls
        done += 1

    assert done > 6
    promoted = [line for line in registry.lines() if line[0] == "promoted"]
    chain = [None, *[after for _, _, after in promoted]]
    assert [before for _, before, _ in promoted] == chain[:-1]
    assert len(promoted) == done + 2


@pytest.mark.parametrize(("kind", "line"), [("promoted", []), ("rejected", [("rejected", 1, 1)])])
def test_a_version_that_was_deleted_before_its_move_was_completed_blocks_nothing(
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    line: list[tuple[str, int, int]],
) -> None:
    """The process dies before the first alias moves, and a person deletes what it registered."""
    registry.crown("one")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", stop)
        with pytest.raises(KeyboardInterrupt):
            registry.decide(registry.draft("two", "one", kind))
    registry.client.delete_model_version(registry.name, "2")

    registry.decide(registry.draft("three", "one"))

    assert registry.aliases() == {"champion": 3, "previous": 1}
    assert registry.lines()[1:] == [*line, ("promoted", 1, 3)]


def test_while_mlflow_is_away_nothing_changes(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from requests.exceptions import ConnectionError as Away

    registry.crown("one")
    draft = registry.draft("two", "one")
    with monkeypatch.context() as patch:
        fail_at(patch, 1, Away)
        with pytest.raises(ServiceError):
            registry.decide(draft)

    assert registry.aliases() == {"champion": 1}
    assert registry.lines() == [("promoted", None, 1)]


def test_a_rollback_goes_to_the_last_good_champion_and_withdraws(registry: Registry) -> None:
    registry.crown("one", "two", "three")

    line = registry.take_back()

    assert (line.kind, line.from_version, line.to_version, line.actor) == (
        "rolled_back",
        3,
        2,
        "ada",
    )
    # Neither the version that was taken back, nor the one that is champion.
    assert registry.aliases() == {"champion": 2, "previous": 1}
    assert registry.client.get_model_version(registry.name, "3").tags["retune.withdrawn"] == (
        "it is rude"
    )
    assert registry.take_back().to_version == 1
    assert registry.aliases() == {"champion": 1}
    with pytest.raises(ConfigError, match="no earlier one"):
        registry.take_back()


@pytest.mark.parametrize(
    ("to", "expected"), [(3, "is champion"), (4, "was never champion"), (9, "no version 9")]
)
def test_a_rollback_to_what_it_cannot_go_back_to_is_refused(
    registry: Registry, to: int, expected: str
) -> None:
    registry.crown("one", "two", "three")
    registry.decide(registry.draft("four", "three", "rejected"))

    with pytest.raises(ConfigError, match=expected):
        registry.take_back(to=to)
    assert registry.aliases()["champion"] == 3


def test_a_champion_that_changed_during_the_proof_is_not_rolled_back(registry: Registry) -> None:
    registry.crown("one", "two")
    champion, target = find_target(registry.uri, registry.name, to=None, folder=registry.folder)
    registry.decide(registry.draft("three", "two"))

    with pytest.raises(ArtifactError, match="changed it meanwhile"):
        roll_back(
            registry.uri,
            registry.name,
            taken_back=champion,
            to=target,
            folder=registry.folder,
            actor="ada",
            reason="late",
        )
    assert registry.aliases() == {"champion": 3, "previous": 2}


def test_a_withdrawn_model_does_not_come_back_by_itself(registry: Registry) -> None:
    registry.crown("one", "two")
    registry.take_back("it is rude")

    # The same weights again, as another version, and good enough for the gate.
    line = registry.decide(registry.draft("two", "one"))

    assert line.kind == "rejected"
    assert "withdrawn" in line.reason and "it is rude" in line.reason and "ada" in line.reason
    assert registry.aliases() == {"champion": 1, "challenger": 3}
    with pytest.raises(ConfigError, match="--allow"):
        registry.promote(3)
    with pytest.raises(ConfigError, match="--allow"):
        find_target(registry.uri, registry.name, to=2, folder=registry.folder)

    registry.promote(3, allow=True)

    assert registry.aliases() == {"champion": 3, "previous": 1}
    # A person let it back in: from now on it is a model like others.
    registry.decide(registry.draft("four", "two"))
    assert registry.take_back().to_version == 3


def test_a_challenger_that_waits_is_champion_once_a_person_agrees(registry: Registry) -> None:
    registry.crown("one")
    draft = registry.draft("two", "one", "pending")
    registry.decide(draft)

    def approval() -> str:
        return registry.client.get_model_version(registry.name, "2").tags["retune.approval"]

    assert (registry.aliases(), approval()) == ({"champion": 1, "challenger": 2}, "pending")

    line = registry.promote(2, approved=True)

    assert (registry.aliases(), approval()) == ({"champion": 2, "previous": 1}, "approved")
    assert (line.kind, line.actor, line.decision) == ("promoted", "ada", draft.decision)
    assert (line.test_rows, line.alpha) == ("rows", 0.01)
    # Asked again, after a kill say, it is the same line.
    assert registry.promote(2, approved=True) == line
    assert len(registry.lines()) == 3


def test_an_approval_of_what_was_compared_with_another_champion_is_refused(
    registry: Registry,
) -> None:
    registry.crown("one")
    registry.decide(registry.draft("two", "one", "pending"))
    registry.decide(registry.draft("three", "one"))

    with pytest.raises(ArtifactError, match="another run changed the champion"):
        registry.promote(2, approved=True)
    assert registry.aliases()["champion"] == 3


@pytest.mark.parametrize("said", ["rejected", "expired"])
def test_an_answer_counts_once_and_whatever_was_trained_since(
    registry: Registry, said: Literal["rejected", "expired"]
) -> None:
    """Version 3 is challenger when version 2 is answered about; a late approval is refused."""
    registry.crown("one")
    registry.decide(registry.draft("two", "one", "pending"))
    registry.decide(registry.draft("three", "one", "rejected"))

    def refuse() -> LedgerEntry:
        links: dict[str, str] = {}
        given = {"actor": "ada", "reason": "no", "at": "2026-11-27T12:00:00+00:00"}
        folder = registry.folder
        return refuse_version(
            registry.uri, registry.name, 2, folder=folder, kind=said, links=links, **given
        )

    assert refuse().kind == said
    with pytest.raises(ArtifactError, match="no answer about version 2 is waited for"):
        refuse()
    with pytest.raises(ArtifactError, match="no answer about version 2 is waited for"):
        registry.promote(2, approved=True)
    assert registry.aliases() == {"champion": 1, "challenger": 3}


def test_a_persons_promotion_rests_on_no_decision(registry: Registry) -> None:
    registry.crown("one")
    registry.decide(registry.draft("two", "one", "rejected"))

    line = registry.promote(2)

    assert (line.actor, line.decision, line.test_rows, line.alpha) == ("ada", "", "", None)
    assert (line.challenger, line.opponent) == ("two", "one")
    assert registry.aliases() == {"champion": 2, "previous": 1}
    with pytest.raises(ConfigError, match="no version 7"):
        registry.promote(7)


def test_a_champion_that_was_moved_by_hand_is_adopted_as_somebodys_act(registry: Registry) -> None:
    registry.crown("one", "two")
    by_hand = registry.draft("three", "two")
    registry.client.set_registered_model_alias(registry.name, "champion", "3")

    # A decision against what was champion before does not count any more ...
    with pytest.raises(ArtifactError, match="another run changed the champion"):
        registry.decide(registry.draft("four", "two"))

    entries = Ledger(registry.uri, registry.name, registry.folder).entries()
    assert registry.lines()[2:] == [("promoted", 2, 3)]
    assert (entries[2].actor, entries[2].challenger) == (SOMEBODY, by_hand.challenger)
    assert registry.aliases() == {"champion": 3, "previous": 2}
    # ... and one against what is champion now does.
    assert registry.decide(registry.draft("five", "three")).to_version == 5


def test_a_withdrawn_model_that_was_made_champion_by_hand_stops_decisions(
    registry: Registry,
) -> None:
    registry.crown("one", "two")
    registry.take_back()
    registry.client.set_registered_model_alias(registry.name, "champion", "2")

    with pytest.raises(ArtifactError, match=r"moved by hand to version 2.*withdrawn"):
        registry.decide(registry.draft("three", "two"))

    assert len(registry.lines()) == 3
    assert registry.take_back().to_version == 1


def test_a_champion_that_was_taken_away_is_written_down_and_may_come_back(
    registry: Registry,
) -> None:
    registry.crown("one")
    registry.client.delete_registered_model_alias(registry.name, "champion")

    registry.decide(registry.draft("one"))

    assert registry.lines()[1:] == [("withdrawn", 1, None), ("promoted", None, 2)]


def test_a_champion_from_before_there_was_a_ledger_is_its_first_line(registry: Registry) -> None:
    registry.draft("one")
    registry.client.set_registered_model_alias(registry.name, "champion", "1")

    registry.decide(registry.draft("two", "one"))

    assert registry.lines() == [("promoted", None, 1), ("promoted", 1, 2)]
