"""What cannot run here is held against its own schema: compose, Kubernetes, the Dockerfile."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from retune.cli.app import app
from tests.retune.registry.test_registering import write_model
from tests.tiny_models import REPOSITORY

DEPLOYMENTS = REPOSITORY / "deployments"
KUBERNETES = DEPLOYMENTS / "kubernetes"
VERSION = "1.33"
MANIFESTS = sorted(set(KUBERNETES.glob("*.yaml")) - {KUBERNETES / "kustomization.yaml"})


def documents() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.name}:{found['kind']}", found)
        for path in MANIFESTS
        for found in yaml.safe_load_all(path.read_text("utf-8"))
    ]


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text("utf-8"))
    return found


def test_compose_files_keep_to_the_compose_specification() -> None:
    """Its own JSON schema, as check-jsonschema ships it."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    files = [str(DEPLOYMENTS / name) for name in ("compose.yaml", "compose.cuda.yaml")]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_names_only_what_there_is() -> None:
    """Services, volumes and configs that are waited for or mounted are declared; no secret is."""
    found = compose()
    services = found["services"]
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            assert other in services, name
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in found["volumes"], name
        for key, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|AUTH", key):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", str(value)), f"{name}: {key}"
    example = (DEPLOYMENTS / "compose.env.example").read_text("utf-8")
    variables = set(re.findall(r"\$\{(\w+)", (DEPLOYMENTS / "compose.yaml").read_text("utf-8")))
    assert variables == set(re.findall(r"^(\w+)=", example, re.MULTILINE))


def test_vllm_is_started_with_what_retune_prints_for_it(tmp_path: Path) -> None:
    """Only where it is asked for, on the port that is published, over the files of the worker."""
    engine = "http://vllm:8001"
    model = write_model(tmp_path / "m", 1)
    printed = CliRunner().invoke(app, ["serve", str(model), "--engine", engine, "--print-vllm"])
    words = shlex.split(printed.stdout)
    services = compose()["services"]
    vllm = services["vllm"]

    assert vllm["entrypoint"] == words[:2] and vllm["command"] == "${VLLM_ARGUMENTS:-}"
    assert words[-4:] == ["--host", "0.0.0.0", "--port", vllm["ports"][0].rpartition(":")[2]]
    assert vllm["volumes"] == [f"{each}:ro" for each in services["worker"]["volumes"][:1]]
    assert vllm["profiles"] == ["vllm"] and re.search(r":v\d+\.\d+\.\d+$", vllm["image"])


@pytest.mark.parametrize("manifest", [found for _, found in documents()], ids=lambda each: "")
def test_manifests_keep_to_the_schemas_of_kubernetes(manifest: dict[str, Any]) -> None:
    """Strictly: a key that Kubernetes does not know is refused."""
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_a_wrong_manifest_is_refused() -> None:
    """The schemas are asked: a misspelt key does not pass."""
    found = next(each for name, each in documents() if name == "worker.yaml:Deployment")
    found["spec"]["template"]["spec"]["containrs"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found, VERSION, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here")
def test_kustomize_builds_them_all() -> None:
    """One command applies all manifests, with the images of a registry of one's own."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True
    )
    built = [each["kind"] for each in yaml.safe_load_all(done.stdout)]
    assert sorted(built) == sorted(found["kind"] for _, found in documents())
    assert "image: retune:" not in done.stdout


def test_nothing_runs_as_root_or_without_bounds() -> None:
    """Each pod has numbers of a user, and each container a limit of memory and no more rights."""
    pods = [
        found["spec"]["template"]["spec"]
        for _, found in documents()
        if found["kind"] == "Deployment"
    ]
    pods.append(job_template()["job_configuration"]["job_manifest"]["spec"]["template"]["spec"])
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"]["memory"]


def job_template() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((KUBERNETES / "base-job-template.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("gpus", [1, 0, 4])
def test_a_run_becomes_a_job_that_asks_for_its_gpus(gpus: int) -> None:
    """Prefect's worker fills the template in, and Kubernetes takes what comes out."""
    from prefect.utilities.templating import apply_values
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    template = job_template()
    variables = template["variables"]["properties"]
    values = {name: variable["default"] for name, variable in variables.items()}
    values |= {"gpus": gpus, "memory": "64Gi", "env": {"HF_HUB_OFFLINE": "1"}}
    filled = apply_values(template["job_configuration"], values)
    job = KubernetesWorkerJobConfiguration.model_validate(filled).job_manifest
    pod = job["spec"]["template"]["spec"]
    resources = pod["containers"][0]["resources"]
    assert resources["limits"] == {"memory": "64Gi", "nvidia.com/gpu": gpus}
    assert resources["requests"]["nvidia.com/gpu"] == gpus
    # Kubernetes starts nothing again: Prefect does, once, and knows of it.
    assert job["spec"]["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    job["metadata"].setdefault("name", "retune")
    for container in pod["containers"]:
        container["args"] = ["prefect", "flow-run", "execute"]
        container["env"] = [{"name": "HF_HUB_OFFLINE", "value": "1"}]
    kubernetes_validate.validate(job, VERSION, strict=True)


def test_volumes_and_secrets_of_a_job_are_those_of_the_manifests() -> None:
    """A claim or an account that is only named would keep the pod waiting for ever."""
    pod = job_template()["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    there = {(found["kind"], found["metadata"]["name"]) for _, found in documents()}
    assert ("ServiceAccount", pod["serviceAccountName"]) in there
    claims = [each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"][:1]]
    assert {("PersistentVolumeClaim", claim) for claim in claims} <= there


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, with continued lines joined."""
    text = (DEPLOYMENTS / "Dockerfile").read_text("utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (line.split(None, 1)[0], line.split(None, 1)[1])
        for line in text.splitlines()
        if line.strip()
    ]


def test_the_image_is_pinned_unprivileged_and_without_secrets() -> None:
    """A tag that moves, a root user or an ADD of everything are what images are caught by."""
    found = instructions()
    images = [value for name, value in found if name == "ARG" and value.startswith("PYTHON_IMAGE")]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.11\.\d+-slim-\w+", images[0])
    users = [value for name, value in found if name == "USER"]
    assert users == ["10001:10001"]
    assert found[-1][0] == "CMD" and json.loads(found[-1][1])[0] == "prefect"
    assert not [name for name, _ in found if name == "ADD"]
    assert not [value for name, value in found if name in ("ARG", "ENV") and "PASSWORD" in value]
    install = next(value for name, value in found if name == "RUN" and "pip install" in value)
    assert "-c constraints.txt" in install and "/whl/cpu" in install


def test_what_the_image_copies_is_there_and_sent() -> None:
    """Each path is in the repository, and .dockerignore lets it through."""
    allowed = [
        line[1:]
        for line in (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    ]
    for name, value in instructions():
        if name != "COPY" or "--from=" in value:
            continue
        for source in [part for part in value.split() if not part.startswith("--")][:-1]:
            assert (REPOSITORY / source).exists(), source
            assert any(Path(source).is_relative_to(each) for each in allowed), source


def test_a_prefect_that_is_away_for_a_minute_ends_no_run_of_a_deployment() -> None:
    """Each of its requests is tried longer, whatever jitter of a fifth takes off the waits."""
    found = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text("utf-8"))
    for deployment in found["deployments"]:
        variables = deployment["work_pool"]["job_variables"]["env"]
        retries = int(variables["PREFECT_CLIENT_MAX_RETRIES"])
        assert 0.8 * sum(2**number for number in range(1, retries + 1)) > 60, deployment["name"]
