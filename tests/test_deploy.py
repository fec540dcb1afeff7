"""The files of deploy/: checked by the tools that read them, and against what the worker really knows."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from worker.settings.config import ServeConfig
from worker.settings.sources import resolve
from worker.settings.table import PREFIX, build

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
KUBERNETES_VERSION = "1.33"
SECONDS = 60
# Kinds that are no part of Kubernetes: their operators bring the schemas.
FOREIGN = {"PodMonitor", "ScaledObject"}
PORTS = {"grpc": 50051, "http": 8080, "metrics": 9464}
MARGIN_SECONDS = 5  # between the end of the drain and the kill


def tool(name: str) -> str:
    """Returns the path of a tool, or skips the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on this machine")
    return found


def run(*argv: str, **options: Any) -> str:
    """Runs a tool that must succeed, and returns what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False, **options)
    assert done.returncode == 0, f"{argv}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return str(done.stdout)


def documents(text: str) -> list[dict[str, Any]]:
    """Returns the YAML documents of a text."""
    return [one for one in yaml.safe_load_all(text) if one is not None]


def built(folder: str) -> dict[tuple[str, str], Any]:
    """Returns what kustomize makes of a folder, by kind and name without its hash."""
    made = documents(run(tool("kubectl"), "kustomize", str(KUBERNETES / folder)))
    return {(one["kind"], re.sub(r"-[a-z0-9]{10}$", "", one["metadata"]["name"])): one for one in made}


def config_of(variables: dict[str, str]) -> ServeConfig:
    """Returns the configuration that `serve` reads from these variables; unknown ones are refused."""
    ours = {name: value for name, value in variables.items() if name.startswith(PREFIX)}
    resolved = resolve({}, ours, None)
    return build(resolved.values, resolved.sources, processes=1, pins=(None,))


def seconds(text: str) -> float:
    """Returns the seconds of a duration such as `45s`."""
    assert text.endswith("s")
    return float(text[:-1])


def image_variables() -> dict[str, str]:
    """Returns the settings that the worker image carries."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    return dict(re.findall(rf"({PREFIX}\w+)=(\S+)", re.sub(r"(?m)^#.*$", "", dockerfile)))


def plain_manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the documents that are whole by themselves, with the names of their files."""
    patches = {"kustomization.yaml", "no-replicas.yaml", "adapter.yaml"}
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if path.name not in patches and path.parent.name not in {"tls", "tokens"}:
            for one in documents(path.read_text()):
                yield str(path.relative_to(KUBERNETES)), one


@pytest.mark.parametrize(("name", "one"), list(plain_manifests()))
def test_manifests_fit_the_schema_of_kubernetes(name: str, one: dict[str, Any]) -> None:
    """Every manifest passes the strict schema of its kind: no key is misspelt or out of place."""
    if one["kind"] in FOREIGN:
        assert one["metadata"]["name"] == "embedpool", name
    else:
        kubernetes_validate.validate(one, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("folder", ["base", "whole", "indexer"])
def test_kustomize_makes_manifests_that_fit(folder: str) -> None:
    """Base and components fit together, and what they make passes the schema too."""
    for (kind, _), one in built(folder).items():
        if kind not in FOREIGN:
            kubernetes_validate.validate(one, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("folder", ["base", "whole"])
def test_pods_run_with_settings_that_serve_knows(folder: str) -> None:
    """The pods' variables make a configuration, its ports are those shown, and it ends in time."""
    made = built(folder)
    config = config_of(made["ConfigMap", "embedpool-settings"]["data"])
    pod = made["Deployment", "embedpool"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == PORTS
    listens = (config.listen, config.http.listen, config.metrics.listen)
    assert [int(listen.rpartition(":")[2]) for listen in listens] == list(PORTS.values())
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= before + config.drain_seconds + MARGIN_SECONDS
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > config.start_seconds
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    files = (
        config.bundle,
        config.tls.cert,
        config.tls.key,
        config.auth.token_file,
        config.auth.admin_token_file,
    )
    assert all(any(path.is_relative_to(mount) for mount in mounts) for path in files if path is not None)
    encrypted = config.tls.cert is not None
    assert encrypted == (folder == "whole") == (not config.insecure)
    for probe in (startup, container["readinessProbe"]):
        assert probe.get("httpGet", {}).get("scheme") == ("HTTPS" if encrypted else None)
        assert ("grpc" in probe) != encrypted  # the kubelet's gRPC probes know no TLS


def test_pods_are_guaranteed_their_cpus_and_may_do_nothing_else() -> None:
    """Requests equal limits in whole CPUs; the root file system is read-only, no rights are there."""
    pod = built("base")["Deployment", "embedpool"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["resources"]["limits"]["cpu"].isdecimal()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsUser"] == int(
        re.findall(r"--uid (\d+)", (ROOT / "Dockerfile").read_text())[0]
    )
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert not rights["allowPrivilegeEscalation"]


@pytest.mark.parametrize(("folder", "kind"), [("base", "Deployment"), ("indexer", "Job")])
def test_pods_get_no_variables_of_services(folder: str, kind: str) -> None:
    """Kubernetes adds no EMBEDPOOL_PORT for our service; were it to, `serve` would still start."""
    (workload,) = (one for (own, _), one in built(folder).items() if own == kind)
    assert workload["spec"]["template"]["spec"]["enableServiceLinks"] is False
    links = {
        "EMBEDPOOL_SERVICE_HOST": "10.0.0.1",
        "EMBEDPOOL_SERVICE_PORT": "50051",
        "EMBEDPOOL_SERVICE_PORT_GRPC": "50051",
        "EMBEDPOOL_PORT": "tcp://10.0.0.1:50051",
        "EMBEDPOOL_PORT_50051_TCP": "tcp://10.0.0.1:50051",
        "EMBEDPOOL_PORT_50051_TCP_ADDR": "10.0.0.1",
        "EMBEDPOOL_HTTP_SERVICE_HOST": "10.0.0.2",
        "EMBEDPOOL_HTTP_PORT_8080_TCP_PROTO": "tcp",
    }
    assert config_of({"EMBEDPOOL_BUNDLE": "/bundle", **links}).listen == ServeConfig(Path("/bundle")).listen


@pytest.mark.parametrize("folder", ["base", "whole"])
def test_what_selects_pods_selects_the_workers_and_no_others(folder: str) -> None:
    """Services, budget, policy and scaling point to the Deployment's pods; callers are told by one label."""
    made = built(folder)
    own = made["Deployment", "embedpool"]["spec"]["template"]["metadata"]["labels"]
    assert made["Service", "embedpool"]["spec"]["clusterIP"] == "None"
    for name in ("embedpool", "embedpool-http"):
        assert made["Service", name]["spec"]["selector"] == own
    assert made["PodDisruptionBudget", "embedpool"]["spec"]["selector"]["matchLabels"] == own
    policy = made["NetworkPolicy", "embedpool"]["spec"]
    assert policy["podSelector"]["matchLabels"] == own
    callers = policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    job = built("indexer")["Job", "embedpool-index"]["spec"]["template"]
    assert callers.items() <= job["metadata"]["labels"].items()
    assert f"--worker=dns:///embedpool:{PORTS['grpc']}" in job["spec"]["containers"][0]["args"]
    if folder == "whole":
        assert made["PodMonitor", "embedpool"]["spec"]["selector"]["matchLabels"] == own
        assert "replicas" not in made["Deployment", "embedpool"]["spec"]
        rules = yaml.safe_load((KUBERNETES / "autoscale" / "adapter.yaml").read_text())["rules"]
        (metric,) = made["HorizontalPodAutoscaler", "embedpool"]["spec"]["metrics"]
        assert metric["pods"]["metric"]["name"] in {rule["name"]["as"] for rule in rules}


def test_compose_starts_a_worker_that_knows_its_settings() -> None:
    """Compose's worker has known settings and published ports, and is not killed before its drain ends."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    worker = services["worker"]
    config = config_of({**image_variables(), **worker["environment"]})
    assert seconds(worker["stop_grace_period"]) >= config.drain_seconds + MARGIN_SECONDS
    published = {int(port.rpartition(":")[2]) for port in worker["ports"]}
    assert published == {PORTS["grpc"], PORTS["http"]}
    assert f"AS {worker['build']['target']}\n" in (ROOT / "Dockerfile").read_text()
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source.startswith("${") or (DEPLOY / source).exists(), volume
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    version = re.findall(r'(?m)^version = "(.+)"', (ROOT / "pyproject.toml").read_text())[0]
    tags = [worker["image"], *(f"{path}" for path in _image_tags())]
    assert {tag.rpartition(":")[2] for tag in tags} == {version}


def _image_tags() -> Iterator[str]:
    for folder in ("base", "indexer"):
        for image in yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())["images"]:
            yield f"{image['name']}:{image['newTag']}"


def test_compose_reads_its_file() -> None:
    """`docker-compose config` takes the file."""
    run(
        tool("docker-compose"),
        "-f",
        str(DEPLOY / "compose.yaml"),
        "config",
        env={"BUNDLE": "/srv", "PATH": "/bin"},
    )


def test_prometheus_takes_configuration_and_alerts() -> None:
    """The real promtool accepts both, each alert fires in its own trouble, and none for a quiet server."""
    promtool = tool("promtool")
    run(promtool, "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    run(promtool, "test", "rules", str(DEPLOY / "prometheus" / "alerts.test.yml"))
    names = {
        rule["alert"]
        for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    }
    assert names == set(
        re.findall(r"alertname: (\w+)", (DEPLOY / "prometheus" / "alerts.test.yml").read_text())
    )


def test_scaling_asks_what_prometheus_understands(tmp_path: Path) -> None:
    """The queries of the autoscalers are PromQL."""
    (rule,) = yaml.safe_load((KUBERNETES / "autoscale" / "adapter.yaml").read_text())["rules"]
    (trigger,) = yaml.safe_load((KUBERNETES / "keda" / "scaled-object.yaml").read_text())["spec"]["triggers"]
    adapter = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'pod=~"a|b"')
    rules = [{"record": f"r:{n}", "expr": q} for n, q in enumerate([adapter, trigger["metadata"]["query"]])]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "scaling", "rules": rules}]}))
    run(tool("promtool"), "check", "rules", str(file))


def test_queries_name_metrics_of_the_page() -> None:
    """Every metric in alerts, scaling and their tests is one that the page has."""
    source = (ROOT / "worker" / "operation" / "metrics.py").read_text()
    families = {f"embedpool_{name}" for name in re.findall(r'"([a-z_]+)"', source)}
    suffix = r"_(?:total|sum|count|bucket)$"
    for path in [
        *DEPLOY.glob("prometheus/alerts*.yml"),
        *KUBERNETES.glob("*/*ada*.yaml"),
        *KUBERNETES.glob("keda/s*"),
    ]:
        names = set(re.findall(r"\bembedpool_\w+", path.read_text())) - {"embedpool_query_wait_seconds"}
        assert names, path
        assert {re.sub(suffix, "", name) for name in names} <= families, path


def test_grafana_finds_its_dashboard_and_its_source() -> None:
    """The folder that Grafana is told to read is where compose puts the dashboard."""
    provisioning = DEPLOY / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "embedpool.yml").read_text())["providers"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    targets = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/embedpool.json" in targets
    assert source["url"].removeprefix("http://").partition(":")[0] in services
    assert source["type"] == "prometheus"
