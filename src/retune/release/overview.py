"""The page of a registered model: how its versions did, who was champion when, and at what price.

Everything on it comes from the model's ledger and the manifests of its versions, so that it can be
written anew at any time; nothing is measured for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from retune.pages.numbers import ABSENT
from retune.pages.templates import page_templates
from retune.records import Record
from retune.registry.records import TRAINING_HOURS, LedgerEntry, LedgerKind, VersionManifest
from retune.release.error_budget import count_left
from retune.release.ledger_figures import metric_of, show_figure, show_hours
from retune.release.overview_picture import OverviewPoint, Reign, draw_svg
from retune.release.spending import sum_spent
from retune.scoring import showing

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE = "overview.html"
PRICE = "price"
"""What a ledger's line calls the time and the price of a retrain among its figures."""
_DIGITS_SHOWN = 8
_MOVES: tuple[LedgerKind, ...] = ("promoted", "rolled_back", "withdrawn")
"""Lines after which another version is champion, or none."""
_STYLES: dict[LedgerKind, str] = {
    "promoted": "yes",
    "approved": "yes",
    "rejected": "no",
    "failed": "no",
    "withdrawn": "no",
    "rolled_back": "over",
    "refused": "no",
    "let_go": "over",
}
_SHOWN_LINKS = {
    "mlflow_run": "MLflow run",
    "prefect_flow_run": "Prefect flow run",
    "report": "report",
}


class OverviewLine(Record):
    """One line of the ledger, as the page shows it."""

    at: str
    word: str
    style: str
    version: str
    champion: str
    """Who is champion after it, where that changed."""
    figure: str
    cost: str
    reason: str
    actor: str
    links: dict[str, str]
    """Address by what is there; only those that a browser opens."""


class TestSet(Record):
    """Held-out rows, and what decisions spent of the error that they may make together."""

    digest: str
    used: int
    """Shares that are gone: a decision that promotes gets its own back."""
    of: int
    """How many there are, by the recipe of the latest manifest."""
    spent: float
    """What is gone of the error."""

    @property
    def worn_out(self) -> bool:
        """Whether no decision is left."""
        return self.used >= self.of


class Overview(Record):
    """All that the page says."""

    name: str
    metric: str | None
    """The figure that decided last; None where none was scored."""
    champion: int | None
    since: str
    """When it became so; empty for none."""
    champion_figure: str
    lines: tuple[OverviewLine, ...]
    """Latest first."""
    points: tuple[OverviewPoint, ...]
    reigns: tuple[Reign, ...]
    test_sets: tuple[TestSet, ...]
    """Latest first."""
    error: float
    """What may be spent on one of them."""
    hours: float | None
    price: str
    retrains: int
    """Trainings whose time is known."""
    notes: tuple[str, ...] = Field(default=())


def write_overview(
    name: str,
    versions: Sequence[VersionManifest],
    entries: Sequence[LedgerEntry],
    folder: Path,
) -> Path:
    """Write the page of a registered model.

    Args:
        name: The registered model.
        versions: Manifests of its versions; may lack some, or all.
        entries: Its ledger in order; may be empty.
        folder: Where the page goes; made when missing.

    Returns:
        The page.
    """
    overview = gather_overview(name, versions, entries)
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / PAGE
    page.write_text(render_overview(overview), encoding="utf-8")
    return page


def render_overview(overview: Overview) -> str:
    """Render the page.

    Args:
        overview: What it says.

    Returns:
        One HTML page that needs nothing beside it.
    """
    picture = ""
    if overview.points or overview.reigns:
        picture = draw_svg(overview.points, overview.reigns, overview.metric)
    template = _templates().get_template("overview.html.j2")
    return template.render(overview=overview, picture=picture, digits=_DIGITS_SHOWN)


def gather_overview(
    name: str, versions: Sequence[VersionManifest], entries: Sequence[LedgerEntry]
) -> Overview:
    """Bring ledger and manifests into what the page says.

    Args:
        name: The registered model.
        versions: Manifests of its versions.
        entries: Its ledger in order.

    Returns:
        The page's content.
    """
    recipes = {each.version: each.recipe for each in versions}
    last = versions[-1].recipe if versions else {}
    metric = next((found for each in reversed(entries) if (found := metric_of(each))), None)
    reigns = list_reigns(entries)
    champion = reigns[-1].version if reigns and reigns[-1].until is None else None
    gate = last.get("gate", {})
    error = float(gate.get("error", 0.05))
    costs = [cost_of(each, recipes.get(each.version, last)) for each in entries]
    paid = _count_once(entries, costs)
    hours = [each.hours for each in paid if each.hours is not None]
    return Overview(
        name=name,
        metric=metric,
        champion=champion,
        since=_day(reigns[-1].since) if champion is not None else "",
        champion_figure=_figure_of_version(champion, entries),
        lines=tuple(
            _line(entry, cost) for entry, cost in reversed(list(zip(entries, costs, strict=True)))
        ),
        points=tuple(_points(entries, metric)),
        reigns=reigns,
        test_sets=list_test_sets(entries, error, int(gate.get("decisions_per_test_set", 20))),
        error=error,
        hours=sum(hours) if hours else None,
        price=_total(paid),
        retrains=len(hours),
        notes=tuple(_notes(entries, metric)),
    )


def list_reigns(entries: Sequence[LedgerEntry]) -> tuple[Reign, ...]:
    """Return who was champion from when to when.

    Args:
        entries: The ledger in order.

    Returns:
        In order; the last one has no end where its version is still champion.
    """
    reigns: list[Reign] = []
    for entry in entries:
        now = reigns[-1].version if reigns and reigns[-1].until is None else None
        if not _moves(entry) or entry.to_version == now:
            continue
        at = datetime.fromisoformat(entry.at)
        if now is not None:
            reigns[-1] = reigns[-1].model_copy(update={"until": at})
        if entry.to_version is not None:
            reigns.append(Reign(version=entry.to_version, since=at))
    return tuple(reigns)


def list_test_sets(entries: Sequence[LedgerEntry], error: float, of: int) -> tuple[TestSet, ...]:
    """Return how worn each set of held-out rows is, as the gate counts it.

    Args:
        entries: The ledger in order.
        error: What decisions on one set may spend together.
        of: In how many shares.

    Returns:
        Latest first; only rows that a decision rests on.
    """
    return tuple(
        TestSet(digest=digest, used=of - count_left(error, of, spent), of=of, spent=spent)
        for digest, spent in reversed(sum_spent(entries).items())
    )


class Cost(Record):
    """What a retrain took."""

    hours: float | None
    price: float | None
    currency: str


def cost_of(entry: LedgerEntry, recipe: Mapping[str, object]) -> Cost:
    """Return what a line's retrain took.

    Args:
        entry: The line.
        recipe: Of its version; says what an hour of the device costs, where the line has no price.
    """
    device = recipe.get("device")
    device = device if isinstance(device, Mapping) else {}
    hours, price = entry.figures.get(TRAINING_HOURS), entry.figures.get(PRICE)
    per_hour = device.get("price_per_hour")
    if price is None and hours is not None and isinstance(per_hour, int | float):
        price = hours * per_hour
    return Cost(hours=hours, price=price, currency=str(device.get("currency", "USD")))


def _moves(entry: LedgerEntry) -> bool:
    # An approval may make the champion itself, or leave that to a line of its own.
    return entry.kind in _MOVES or (entry.kind == "approved" and entry.to_version is not None)


def _line(entry: LedgerEntry, cost: Cost) -> OverviewLine:
    metric = metric_of(entry)
    changed = _moves(entry) and entry.from_version != entry.to_version
    return OverviewLine(
        at=_minute(entry.at),
        word=entry.kind.replace("_", " "),
        style=_STYLES.get(entry.kind, "none"),
        version=ABSENT if entry.version is None else str(entry.version),
        champion=f"champion: {_numbered(entry.to_version)}" if changed else "",
        figure=show_figure(entry, metric) if metric else ABSENT,
        cost=", ".join(_cost_parts(cost)) or ABSENT,
        reason=entry.reason,
        actor=entry.actor,
        links={
            _SHOWN_LINKS.get(name, name): address
            for name, address in entry.links.items()
            if address.startswith(("http://", "https://"))
        },
    )


def _cost_parts(cost: Cost) -> list[str]:
    parts = [] if cost.hours is None else [show_hours(cost.hours)]
    return parts if cost.price is None else [*parts, _show_price(cost.price, cost.currency)]


def _show_price(price: float, currency: str) -> str:
    return f"{price:,.{2 if price >= 1 else 4}f} {currency}"


def _count_once(entries: Sequence[LedgerEntry], costs: Sequence[Cost]) -> list[Cost]:
    """Leave out later lines on the same version: a person's answer cost no training."""
    seen: set[int] = set()
    found = []
    for entry, cost in zip(entries, costs, strict=True):
        if entry.version is None or entry.version not in seen:
            found.append(cost)
        if entry.version is not None and cost.hours is not None:
            seen.add(entry.version)
    return found


def _total(costs: Sequence[Cost]) -> str:
    sums: dict[str, float] = {}
    for each in costs:
        if each.price is not None:
            sums[each.currency] = sums.get(each.currency, 0.0) + each.price
    return " + ".join(_show_price(price, currency) for currency, price in sums.items())


def _figure_of_version(version: int | None, entries: Sequence[LedgerEntry]) -> str:
    """Return the deciding figure of a version, as it was when it was decided on last."""
    found = (
        show_figure(each, metric)
        for each in reversed(entries)
        if version is not None and each.version == version and (metric := metric_of(each))
    )
    return next(found, "")


def _points(entries: Sequence[LedgerEntry], metric: str | None) -> list[OverviewPoint]:
    """Return what the picture shows: lines with the figure, and marks of those without."""
    points = []
    for entry in entries:
        own = metric_of(entry) if metric_of(entry) == metric else None
        if entry.kind == "pending" and _is_answered(entry, entries):
            own = None
        figures = entry.figures
        points.append(
            OverviewPoint(
                at=datetime.fromisoformat(entry.at),
                kind=entry.kind,
                version=entry.version,
                value=figures[own] if own else None,
                low=figures.get(f"{own}.low") if own else None,
                high=figures.get(f"{own}.high") if own else None,
            )
        )
    return points


def _is_answered(asked: LedgerEntry, entries: Sequence[LedgerEntry]) -> bool:
    """Tell whether a later line says, with the same figures, what became of the question."""
    return any(
        each.number > asked.number and each.version == asked.version and metric_of(each)
        for each in entries
    )


def _notes(entries: Sequence[LedgerEntry], metric: str | None) -> list[str]:
    others = sorted({found for each in entries if (found := metric_of(each))} - {metric})
    if not others:
        return []
    names = ", ".join(showing.label_of(each) for each in others)
    return [f"Earlier decisions rest on another figure ({names}); the picture leaves them out."]


def _numbered(version: int | None) -> str:
    return "none" if version is None else f"version {version}"


def _minute(at: str) -> str:
    return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M")


def _day(at: datetime) -> str:
    return at.strftime("%Y-%m-%d")


@lru_cache
def _templates() -> Environment:
    return page_templates(Path(__file__).parent / "templates", show=showing, show_hours=show_hours)
