"""Files of deployments and automations: what is wrong is said before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from retune.cli.services.automation_file import read_automations, save_webhook
from retune.cli.services.deploying import read_project, say_next
from retune.cli.services.deployment_file import read_deployments
from retune.errors import ConfigError
from tests.tiny_models import REPOSITORY

SHIPPED = Path("deployments/prefect.yaml")
RECIPE = "conf/recipes/text_to_sql_demo.yaml"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of a file start at the working folder, as they do for a worker."""
    monkeypatch.chdir(REPOSITORY)


def write(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "prefect.yaml"
    path.write_text(yaml.safe_dump({"deployments": list(entries)}), "utf-8")
    return path


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "name": "mine",
        "entrypoint": "flows.finetune.finetune",
        "parameters": {"recipe": RECIPE},
        "work_pool": {"name": "retune"},
        **changes,
    }


def test_the_shipped_files_are_right() -> None:
    """Every flow has its deployment, its recipes load, and automations run what is there."""
    project = read_project(SHIPPED)
    flows = {each.name.partition("/")[0] for each in project.deployments}
    assert flows >= {"retrain", "finetune", "evaluate", "compare", "sweep", "collect"}
    assert project.pool == "retune"
    events = {name for each in project.automations for name in each["trigger"]["expect"]}
    kinds = ("promoted", "rejected", "failed", "rolled-back", "skipped")
    assert events >= {f"retune.{kind}" for kind in kinds}


def test_the_form_offers_the_recipes_of_the_project_and_takes_another_file() -> None:
    """A list to choose from, beside a field for a path; settings are held against their form."""
    found = next(each for each in read_deployments(SHIPPED) if each.name.startswith("finetune/"))
    named, other = found.schema["properties"]["recipe"]["anyOf"]
    assert RECIPE in named["enum"] and len(named["enum"]) == len(
        list(Path("conf/recipes").iterdir())
    )
    assert "enum" not in other
    assert "pattern" in found.schema["properties"]["overrides"]["items"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schedules": [{"cron": "61 3 * * *"}]}, "cron: found '61 3 * * *'"),
        (
            {"schedules": [{"cron": "0 3 * * *", "timezone": "America/Natall"}]},
            "timezone: found 'America/Natall'",
        ),
        ({"schedules": [{"crom": "0 3 * * *"}]}, "expected one of cron, interval, rrule"),
        ({"schedules": [{"cron": "0 3 * * *", "time_zone": "UTC"}]}, "time_zone is none of"),
        ({"schedules": [{"rrule": "FREQ=DAYLYY"}]}, "rrule: found 'FREQ=DAYLYY'"),
        ({"entrypoint": "flows.finetune.finetun"}, "flows.finetune.finetun is no flow"),
        ({"entrypoint": "flows.nowhere.finetune"}, "flows.nowhere.finetune is no flow"),
        ({"work_pool": {}}, "work_pool.name is missing"),
        ({"work_pool": "retune"}, "work_pool: found 'retune'"),
        ({"parameters": [RECIPE]}, "parameters: found ["),
        ({"schedules": {"cron": "0 3 * * *"}}, "schedules: found {"),
        (
            {"parameters": {"recipe": RECIPE, "overides": []}},
            "no parameter overides; it has recipe, overrides",
        ),
        (
            {"parameters": {"recipe": RECIPE, "overrides": ["training.steps"]}},
            "overrides.0: 'training.steps' does not match",
        ),
        (
            {"parameters": {"recipe": RECIPE, "overrides": ["training.lerning_rate=1"]}},
            "did you mean training.learning_rate?",
        ),
        ({"parameters": {"recipe": "nowhere.yaml"}}, "nowhere.yaml"),
        (
            {
                "entrypoint": "flows.collect.collect",
                "parameters": {"settings": {"rows": "pears"}},
            },
            "settings.rows: 'pears' is not one of",
        ),
        (
            {"entrypoint": "flows.collect.collect", "parameters": {"settings": {"atempts": 3}}},
            "atempts",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    """Schedule, zone, flow and parameter: found, and what was expected."""
    with pytest.raises(ConfigError) as caught:
        read_deployments(write(tmp_path, entry(**changes)))
    assert told in caught.value.message
    assert "deployments[1] (mine)" in caught.value.message


def test_all_faults_of_all_deployments_are_told_at_once(tmp_path: Path) -> None:
    """Nobody corrects one line, starts again, and is told of the next."""
    wrong = entry(entrypoint="nowhere", name="first"), entry(work_pool={"name": "other"})
    with pytest.raises(ConfigError) as caught:
        read_deployments(write(tmp_path, *wrong, entry(name="third"), entry(name="third")))
    for told in ("(first)", "found work pools other, retune", "finetune/third stands here twice"):
        assert told in caught.value.message


@pytest.mark.parametrize("text", ["{", "deployments: 3", "name: retune", ""])
def test_a_file_without_deployments_is_refused(tmp_path: Path, text: str) -> None:
    """And says what was expected."""
    path = tmp_path / "prefect.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"no YAML|expected one as in"):
        read_deployments(path)
    with pytest.raises(ConfigError, match="--deployments"):
        read_deployments(tmp_path / "nowhere.yaml")


def test_what_prefect_fills_in_is_left_to_it(tmp_path: Path) -> None:
    """A value from a variable or from the environment is not known here."""
    given = {"recipe": "{{ $RECIPE }}"}
    schedules = [{"cron": "{{ prefect.variables.nightly }}"}]
    path = write(tmp_path, entry(parameters=given, schedules=schedules))
    assert [each.name for each in read_deployments(path)] == ["finetune/mine"]


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (
            {"type": "run-deployment", "deployment_id": "evaluate/gone"},
            "no deployment evaluate/gone",
        ),
        ({"type": "sing"}, "sing"),
        ("run-deployment", "mine"),
    ],
)
def test_a_wrong_automation_is_refused(tmp_path: Path, action: Any, told: str) -> None:
    """A deployment that is not in the file, and what Prefect's own form does not have."""
    trigger = {"type": "event", "posture": "Reactive", "expect": ["retune.promoted"]}
    path = tmp_path / "automations.yaml"
    found = {"automations": [{"name": "mine", "trigger": trigger, "actions": [action]}]}
    path.write_text(yaml.safe_dump(found), "utf-8")
    with pytest.raises(ConfigError) as caught:
        read_automations(path, ["evaluate/champion"])
    assert told in caught.value.message and "mine" in caught.value.message


def test_an_address_that_is_none_is_refused_and_not_shown() -> None:
    """It may be a secret, whatever is wrong with it."""
    with pytest.raises(ConfigError) as caught:
        save_webhook("RETUNE_NOTIFY_URL", "hooks.example/T0P")
    assert "RETUNE_NOTIFY_URL" in caught.value.message and "T0P" not in caught.value.message


def test_the_next_run_is_told_in_the_zone_of_its_schedule() -> None:
    """The earliest of those that are on; three in the morning of São Paulo is no three of UTC."""
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.schedules import CronSchedule

    def schedule(cron: str, *, active: bool) -> DeploymentSchedule:
        timed = CronSchedule(cron=cron, timezone="America/Sao_Paulo")
        return DeploymentSchedule(schedule=timed, active=active)

    nightly, often = schedule("0 3 * * *", active=True), schedule("* * * * *", active=False)
    assert say_next([nightly, often]).endswith("03:00 America/Sao_Paulo")
    assert say_next([often]) == "by hand; its schedule is off"
    assert say_next([]) == "by hand"
