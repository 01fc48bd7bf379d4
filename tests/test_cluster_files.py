"""The files in cluster/: what Ray, KubeRay and our command line would say of them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

from tune_adaptive.search import main
from tune_adaptive.system.packages import requirements

FOLDER = Path(__file__).resolve().parent.parent / "cluster"
RAY = "2.60.0"
"""What the files install."""


def command_lines() -> Iterator[tuple[str, str]]:
    """Every search that the files and their README tell a person to type."""
    yield "ray-job.yaml", job()["spec"]["entrypoint"]
    for name in ("README.md", "ray-job.yaml"):
        text = (FOLDER / name).read_text()
        for found in re.findall(r"python -m tune_adaptive\.search --.*", text):
            if found not in job()["spec"]["entrypoint"]:
                yield name, found


def job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / "ray-job.yaml").read_text())
    return loaded


def launcher() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / "ray-cluster.yaml").read_text())
    return loaded


@pytest.mark.parametrize(("name", "line"), list(command_lines()))
def test_every_command_is_one_of_ours(name: str, line: str) -> None:
    words = shlex.split(line)
    assert words[1:3] == ["-m", "tune_adaptive.search"]
    app = typer.Typer()
    app.command()(main)
    with typer.main.get_command(app).make_context("search", words[3:]) as context:
        given = context.params
    assert given["address"] == "auto"
    if given["resume"] is None:
        assert given["storage_path"], f"{name}: its cluster has several nodes"


def test_the_launchers_file_is_what_rays_schema_allows() -> None:
    validate_config(prepare_config(launcher()))


@pytest.mark.parametrize("spoil", ["provider", "cluster_name"])
def test_rays_schema_would_refuse_a_broken_one(spoil: str) -> None:
    broken = prepare_config(launcher())
    del broken[spoil]
    with pytest.raises(jsonschema.ValidationError, match=spoil):
        validate_config(broken)


def test_the_launcher_starts_this_ray_with_a_token_and_room_for_its_workers() -> None:
    config = launcher()
    assert f"ray[default]=={RAY}" in " ".join(config["setup_commands"])
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    for line in starts:
        assert "ray start" not in line or line.startswith("RAY_AUTH_MODE=token ")
    assert config["max_workers"] == len(config["provider"]["worker_ips"])


# The keys of KubeRay's RayJob, RayCluster and pod templates that the manifest uses. KubeRay's own
# schema is in no package that can be installed, so this is a check of structure only.
OBJECTS: dict[str, tuple[set[str], set[str]]] = {
    "": ({"apiVersion", "kind", "metadata", "spec"}, set()),
    "spec": (
        {"entrypoint", "rayClusterSpec"},
        {"shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit"},
    ),
    "spec.rayClusterSpec": (
        {"headGroupSpec", "workerGroupSpecs", "rayVersion"},
        {"authOptions"},
    ),
    "spec.rayClusterSpec.headGroupSpec": ({"rayStartParams", "template"}, set()),
    "spec.rayClusterSpec.workerGroupSpecs": (
        {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"},
        set(),
    ),
}


@pytest.mark.parametrize("path", OBJECTS)
def test_the_job_has_the_keys_that_kuberay_knows(path: str) -> None:
    found: Any = job()
    for key in path.split(".") if path else ():
        found = found[key]
    required, optional = OBJECTS[path]
    for each in found if isinstance(found, list) else [found]:
        assert required <= set(each) <= required | optional


def test_the_jobs_pods_share_an_image_a_ray_a_volume_and_time_to_end() -> None:
    assert (job()["apiVersion"], job()["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job()["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == RAY
    assert cluster["authOptions"] == {"mode": "token"}
    assert f"FROM rayproject/ray:{RAY}-py311-gpu\n" in (FOLDER / "Dockerfile").read_text()
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] >= 60
        [container] = pod["containers"]
        [volume] = pod["volumes"]
        [mount] = container["volumeMounts"]
        assert volume["name"] == mount["name"]
        for word in shlex.split(job()["spec"]["entrypoint"]):
            assert not word.startswith("/") or word.startswith(mount["mountPath"])
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups}
    claims = {
        group["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
        for group in groups
    }
    assert len(images) == len(claims) == 1
    [allowed] = [each for each in map(Requirement, requirements()) if "tune" in each.extras]
    assert RAY in allowed.specifier
