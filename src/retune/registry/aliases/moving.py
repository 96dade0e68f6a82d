"""Moving the aliases of a registered model: one writer, written down before and after.

MLflow moves one alias at a time, and a process may die between two of them or before the ledger
has its line. So what is about to be done stands in tags of the registered model first, and whoever
holds the model next completes it. An alias that a person moved in MLflow's own UI is adopted: what
`models:/NAME@champion` answers is the champion, whoever made it so, and the ledger gets a line that
says it was moved outside of retune.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from retune.errors import ArtifactError
from retune.records import Record
from retune.registry.ledger.facts import (
    champion_of,
    earlier_champions,
    say_brought_back,
    withdrawals,
)
from retune.registry.ledger.ledger import Ledger, say_now
from retune.registry.ledger.locking import hold_model
from retune.registry.ledger.places import drop_long_tag, read_long_tag, write_long_tag
from retune.registry.mlflow_calls import as_service_error
from retune.registry.records import LedgerEntry
from retune.registry.versions.finding import (
    CHALLENGER,
    CHAMPION,
    DIGEST_TAG,
    PREVIOUS,
    alias_holder,
    get_version,
)
from retune.tracking import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient

SOMEBODY = "somebody outside of retune"
"""Actor of a move that was found done."""

_INTENT_TAG = "retune.move"


class _Intent(Record):
    entry: LedgerEntry
    """The line, not numbered yet."""
    challenger: int | None
    """Version that the alias challenger points to afterwards."""


class HeldModel:
    """A registered model while it is held: what stands, and the way to change it.

    Args:
        client: From `connect`.
        name: The registered model.
        ledger: Its ledger.
    """

    def __init__(self, client: MlflowClient, name: str, ledger: Ledger) -> None:
        self.client, self.name, self._ledger = client, name, ledger
        self.entries = ledger.entries()

    @property
    def champion(self) -> int | None:
        """The version that the alias champion points to."""
        return alias_holder(self.client, self.name, CHAMPION)

    @property
    def challenger(self) -> int | None:
        """The version that the alias challenger points to."""
        return alias_holder(self.client, self.name, CHALLENGER)

    def digest_of(self, version: int | None) -> str:
        """Return the digest of a version's model; empty for none, or one of another maker."""
        found = None if version is None else get_version(self.client, self.name, version)
        return found.tags.get(DIGEST_TAG, "") if found else ""

    def tag(self, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, text in tags.items():
            self.client.set_model_version_tag(self.name, str(version), key, text)

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        """Write a line that moves no alias."""
        line = self._ledger.append(entry)
        self.entries = (*self.entries, line)
        return line

    def move(self, entry: LedgerEntry, *, challenger: int | None) -> LedgerEntry:
        """Move the aliases as a line says, and write it: both, or after a crash the next writer.

        Args:
            entry: The line; `to_version` becomes champion.
            challenger: Version that the alias challenger points to afterwards; None for none.

        Returns:
            The line as it stands.
        """
        intent = _Intent(entry=entry, challenger=challenger)
        write_long_tag(self.client, self.name, _INTENT_TAG, intent.model_dump_json())
        return self._carry_out(intent)

    def settle(self, *, accept_withdrawn: bool) -> None:
        """Complete what a process left half done, and adopt what was moved outside of retune.

        Args:
            accept_withdrawn: Whether a withdrawn model may be found as champion.

        Raises:
            ArtifactError: A withdrawn model was made champion by hand.
        """
        text = read_long_tag(self.client, self.name, _INTENT_TAG)
        if text is not None:
            self._complete(_Intent.model_validate_json(text))
        if self.champion != champion_of(self.entries):
            self._adopt(accept_withdrawn=accept_withdrawn)

    def _complete(self, intent: _Intent) -> None:
        entry = intent.entry
        done = any(_is_same(entry, line) for line in self.entries)
        stands = self.champion in (entry.from_version, entry.to_version)
        if not done and stands and self._is_there(entry.to_version):
            there = intent.challenger if self._is_there(intent.challenger) else None
            self._carry_out(intent.model_copy(update={"challenger": there}))
        else:
            # Done but for this tag; or a person moved the alias since, or deleted the version, and
            # what they did stands.
            drop_long_tag(self.client, self.name, _INTENT_TAG)

    def _is_there(self, version: int | None) -> bool:
        return version is None or get_version(self.client, self.name, version) is not None

    def _carry_out(self, intent: _Intent) -> LedgerEntry:
        entry = intent.entry
        self._point(CHAMPION, entry.to_version)
        self._point(CHALLENGER, intent.challenger)
        self._point(PREVIOUS, self._find_previous((*self.entries, entry)))
        line = self.append(entry)
        drop_long_tag(self.client, self.name, _INTENT_TAG)
        return line

    def _adopt(self, *, accept_withdrawn: bool) -> None:
        before, found = champion_of(self.entries), self.champion
        digest = self.digest_of(found)
        withdrawn = withdrawals(self.entries).get(digest)
        if withdrawn is not None and not accept_withdrawn:
            raise ArtifactError(
                f"{self.name}: nothing was changed: {say_brought_back(self.name, found, withdrawn)}"
            )
        entry = LedgerEntry(
            number=0,
            at=say_now(),
            kind="withdrawn" if found is None else "promoted",
            model_name=self.name,
            actor=SOMEBODY,
            from_version=before,
            to_version=found,
            version=before if found is None else found,
            challenger=digest,
            opponent=self.digest_of(before),
            reason=_say_found(self.entries, found),
        )
        if found is None:
            # The registered model itself may be gone with its aliases.
            self.append(entry)
        else:
            self.move(entry, challenger=self.challenger)

    def _find_previous(self, entries: tuple[LedgerEntry, ...]) -> int | None:
        there = (
            version
            for version in earlier_champions(entries)
            if get_version(self.client, self.name, version) is not None
        )
        return next(there, None)

    def _point(self, alias: str, version: int | None) -> None:
        if alias_holder(self.client, self.name, alias) == version:
            return
        if version is None:
            self.client.delete_registered_model_alias(self.name, alias)
        else:
            self.client.set_registered_model_alias(self.name, alias, str(version))


def settle_model(uri: str, model_name: str, folder: Path) -> None:
    """Complete what others left half done, and adopt what was moved by hand, before a long run.

    Args:
        uri: Address of MLflow.
        model_name: The registered model; need not exist.
        folder: The store's folder of ledgers.

    Raises:
        ArtifactError: The ledger does not hold, or a withdrawn model was made champion by hand: no
            decision could be written down at the end.
        ServiceError: MLflow does not answer, or somebody else holds the model.
    """
    with hold(uri, model_name, folder):
        pass


@contextmanager
def hold(
    uri: str, model_name: str, folder: Path, *, accept_withdrawn: bool = False
) -> Iterator[HeldModel]:
    """Hold a registered model, with what others left half done completed.

    Args:
        uri: Address of MLflow.
        model_name: The registered model; need not exist.
        folder: The store's folder of ledgers.
        accept_withdrawn: Whether a withdrawn model that a person made champion is adopted.

    Yields:
        The model; nobody else who asks this way changes it meanwhile.

    Raises:
        ArtifactError: The ledger does not hold, or a withdrawn model was made champion by hand.
        ServiceError: MLflow does not answer, or somebody else holds the model.
    """
    with as_service_error(uri):
        client = connect(uri)
        with hold_model(client, model_name):
            held = HeldModel(client, model_name, Ledger(uri, model_name, folder))
            held.settle(accept_withdrawn=accept_withdrawn)
            yield held


def _is_same(entry: LedgerEntry, line: LedgerEntry) -> bool:
    numbered = {"number": line.number, "previous": line.previous, "digest": line.digest}
    return entry.model_copy(update=numbered) == line


def _say_found(entries: tuple[LedgerEntry, ...], found: int | None) -> str:
    if champion_of(entries) is None and found is not None and not entries:
        return "it was champion when this ledger began"
    if found is None:
        return f"the alias {CHAMPION} was taken away outside of retune"
    return f"the alias {CHAMPION} was moved by hand, in MLflow and not by retune"
