"""contrib/kserve's manifest against the published models of KServe and Kubernetes: every field known, of its type, and
what is required there. No cluster is at hand: it was never applied."""

import copy
import importlib
import importlib.util
import re
import subprocess
import sys
import types

import pytest
from running_server import COMMAND, REPOSITORY

_WHY = "The models of KServe are not installed: ./dev test --all does it"
yaml = pytest.importorskip("yaml", reason=_WHY)
kubernetes = pytest.importorskip("kubernetes", reason=_WHY)
if importlib.util.find_spec("kserve") is None:
    pytest.skip(_WHY, allow_module_level=True)

pytestmark = pytest.mark.long

MANIFEST = REPOSITORY / "contrib" / "kserve" / "torusml.yaml"
_PLAIN = {"str": str, "int": int, "bool": bool, "object": object, "ResourceQuantity": str}
_KINDS = {
    "InferenceService": "V1beta1InferenceService",
    "PersistentVolumeClaim": "V1PersistentVolumeClaim",
    "NetworkPolicy": "V1NetworkPolicy",
}


@pytest.fixture(scope="module")
def kserve_models():
    """kserve.models alone: the package itself would bring its model server along."""
    spec = importlib.util.find_spec("kserve")
    package = types.ModuleType("kserve")
    package.__path__ = spec.submodule_search_locations
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "kserve"}
    sys.modules["kserve"] = package
    yield importlib.import_module("kserve.models")
    for name in [name for name in sys.modules if name.split(".")[0] == "kserve"]:
        del sys.modules[name]
    sys.modules.update(kept)


@pytest.fixture(scope="module")
def documents():
    return list(yaml.safe_load_all(MANIFEST.read_text()))


@pytest.fixture(scope="module")
def service(documents):
    (found,) = [document for document in documents if document["kind"] == "InferenceService"]
    return found


def class_named(name, models):
    name = {"K8sIoApiAppsV1DeploymentStrategy": "V1DeploymentStrategy"}.get(name, name)
    found = getattr(models, name, None) or getattr(kubernetes.client, name, None)
    assert found is not None, f"no model {name}"
    return found


def check(value, kind, models, where):
    """A value of a manifest against a type as the generated models write it: list[] and dict(), or List[] and Dict[]."""
    kind = kind.replace("List[", "list[").replace("Dict[", "dict(")
    if kind.startswith("list["):
        assert isinstance(value, list), f"{where} is no list"
        return [check(item, kind[5:-1], models, f"{where}[{i}]") for i, item in enumerate(value)]
    if kind.startswith("dict("):
        assert isinstance(value, dict), f"{where} is no map"
        inner = kind[5:-1].split(", ")[1]
        return {key: check(item, inner, models, f"{where}.{key}") for key, item in value.items()}
    if kind in _PLAIN:
        assert isinstance(value, _PLAIN[kind]) and (kind != "int" or not isinstance(value, bool)), f"{where}: {value!r}"
        return value
    model = class_named(kind, models)
    assert isinstance(value, dict), f"{where} is no map"
    names = {json_name: name for name, json_name in model.attribute_map.items()}
    unknown = set(value) - set(names)
    assert not unknown, f"{where} has {unknown}, which {kind} has not"
    fields = {names[k]: check(v, model.openapi_types[names[k]], models, f"{where}.{k}") for k, v in value.items()}
    try:
        return model(**fields)  # refuses what lacks a required field
    except ValueError as error:
        raise AssertionError(f"{where}: {error}") from None


def test_every_document_has_the_fields_that_its_kind_takes(kserve_models, documents):
    assert [document["kind"] for document in documents].count("InferenceService") == 1
    for document in documents:
        check(document, _KINDS[document["kind"]], kserve_models, document["kind"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.update(minReplica=1), "minReplica"),
        (lambda p: p.update(minReplicas="one"), "minReplicas"),
        (lambda p: p["containers"][0].pop("name"), "name"),
        (lambda p: p["containers"][0]["readinessProbe"]["httpGet"].pop("port"), "port"),
        (lambda p: p["volumes"][0]["persistentVolumeClaim"].update(claim="x"), "claim"),
        (lambda p: p["containers"][0].update(volumeMounts={}), "volumeMounts"),
    ],
)
def test_the_check_finds_what_is_wrong(kserve_models, service, change, message):
    changed = copy.deepcopy(service)
    change(changed["spec"]["predictor"])
    with pytest.raises(AssertionError, match=message):
        check(changed, "V1beta1InferenceService", kserve_models, "InferenceService")


def test_names_within_the_manifest_agree(documents, service):
    predictor = service["spec"]["predictor"]
    (container,) = predictor["containers"]
    assert container["name"] == "kserve-container"
    volumes = {volume["name"]: volume for volume in predictor["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    claims = {d["metadata"]["name"] for d in documents if d["kind"] == "PersistentVolumeClaim"}
    wanted = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}
    assert wanted == claims
    ports = {port["containerPort"] for port in container["ports"]}
    probes = [container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert {probe["port"] for probe in probes} == ports
    assert {probe["path"] for probe in probes} == {"/v2/health/live", "/v2/health/ready"}
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 1)
    (policy,) = [d for d in documents if d["kind"] == "NetworkPolicy"]
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == ports
    assert policy["spec"]["podSelector"]["matchLabels"] == {
        "serving.kserve.io/inferenceservice": service["metadata"]["name"]
    }


def test_the_command_takes_the_arguments(service):
    arguments = service["spec"]["predictor"]["containers"][0]["args"]
    text = subprocess.run([COMMAND, "serve", "--help"], check=True, capture_output=True, text=True).stdout
    options = {argument.split("=")[0] for argument in arguments[1:]}
    assert arguments[0] == "serve" and options <= set(re.findall(r"--[a-z-]+", text))
    mounts = {mount["mountPath"] for mount in service["spec"]["predictor"]["containers"][0]["volumeMounts"]}
    paths = [a.split("=")[1] for a in arguments if a.startswith(("--model=", "--data="))]
    assert all(any(path == mount or path.startswith(mount + "/") for mount in mounts) for path in paths)
