"""The containers' files: what they promise is checked without an engine."""

from __future__ import annotations

import re
import shutil
import ssl
import stat
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
PICTURES = "${IMGSEARCH_PICTURES:-${HOME}/Pictures}"
LONG_RUNNING = {"elasticsearch", "kibana", "page", "jupyter"}
PROFILES = {
    "search": {"setup", "elasticsearch", "users", "page"},
    "research": {"setup", "elasticsearch", "users", "kibana", "dashboard", "jupyter"},
    "all": {"setup", "elasticsearch", "users", "kibana", "dashboard", "jupyter", "page"},
}


def of_services(test: Any) -> Any:
    return pytest.mark.parametrize("name", sorted(SERVICES))(test)


def test_hadolint_finds_nothing():
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"  # PATH may lack it
    run = subprocess.run(
        [hadolint, str(DOCKER / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_base_images_are_pinned():
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert len(stages) == DOCKERFILE.count("\nFROM ")
    own = {name for _, name in stages}
    foreign = [image for image, _ in stages if image not in own]
    assert foreign
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", image) for image in foreign)
    assert {"cpu", "openvino", "gpu"} <= own


@pytest.mark.parametrize("target", ["cpu", "openvino", "gpu"])
def test_images_are_of_an_ordinary_user_and_without_the_build(target):
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)$(.*?)(?=^FROM|\Z)", DOCKERFILE, re.M | re.S))
    parents = {child: parent for parent, child in re.findall(r"FROM (\S+) AS (\S+)", DOCKERFILE)}
    text, stage = "", target
    while stage in stages:
        assert not stage.startswith("build")
        text, stage = stages[stage] + text, parents[stage]
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["10001:10001"]
    assert "pip install" not in text


def test_what_the_image_copies_is_there_and_not_ignored():
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = set()
    for arguments in re.findall(r"^COPY (?!--from)(.*(?:\\\n.*)*)$", DOCKERFILE, re.MULTILINE):
        words = [w for w in arguments.replace("\\\n", " ").split() if not w.startswith("--")]
        copied |= set(words[:-1])
    assert copied == allowed
    assert all((ROOT / path).exists() for path in copied)


@of_services
def test_images_are_pinned(name):
    image = SERVICES[name]["image"]
    if "build" in SERVICES[name]:
        assert image.startswith("imgsearch-es:")
        assert SERVICES[name]["build"]["dockerfile"] == "docker/Dockerfile"
    else:
        assert re.fullmatch(r"docker\.elastic\.co/.+:\$\{ELASTIC_VERSION:-9\.\d+\.\d+\}", image)


def test_elasticsearch_and_kibana_are_of_one_version():
    tags = {SERVICES[name]["image"].partition(":")[2] for name in ("elasticsearch", "kibana")}
    assert len(tags) == 1


@of_services
def test_memory_is_limited_and_little_is_allowed(name):
    service = SERVICES[name]
    assert (name in LONG_RUNNING) == ("healthcheck" in service) == ("restart" in service)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    for volume in service.get("volumes", []):
        if volume != f"{PICTURES}:{PICTURES}:ro":  # the same path outside, so it can be typed
            assert volume.partition(":")[0] in COMPOSE["volumes"]
    assert re.search(r"\d[mg]\}?$", service["mem_limit"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    assert not service.get("privileged")
    assert service.get("network_mode") in (None, "none")


@of_services
def test_root_is_for_setup_only_and_sees_no_network_or_no_writing(name):
    service = SERVICES[name]
    if "user" not in service:
        return
    assert name in ("setup", "users")
    assert "ports" not in service
    writes = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    assert service.get("network_mode") == "none" or not writes


@of_services
def test_each_service_sees_its_own_secrets(name):
    allowed = {
        "setup": {"authority", "ca", "elasticsearch", "kibana", "imgsearch"},
        "users": {"ca", "elasticsearch", "kibana", "imgsearch"},
        "elasticsearch": {"ca", "elasticsearch"},
        "kibana": {"ca", "kibana"},
    }
    mounted = [volume for volume in SERVICES[name].get("volumes", []) if "secrets-" in volume]
    seen = {volume.partition(":")[0].removeprefix("secrets-") for volume in mounted}
    assert seen == allowed.get(name, {"ca", "imgsearch"})
    assert name == "setup" or all(volume.endswith(":ro") for volume in mounted)


def test_no_secret_is_written_down():
    for path in (ROOT / "compose.yaml", ROOT / ".env", *DOCKER.iterdir()):
        for line in path.read_text(encoding="utf-8").splitlines():
            found = re.search(r"(PASSWORD|TOKEN|API_KEY)\w*['\"]?[:=]\s*(\S+)", line)
            if found and "_FILE" not in found[0]:
                pytest.fail(f"{path.name}: {line}")


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles(profile):
    chosen = {name for name, service in SERVICES.items() if profile in service["profiles"]}
    assert chosen == PROFILES[profile]
    for name in chosen:
        assert set(SERVICES[name].get("depends_on", {})) <= chosen


def test_one_command_starts_everything_and_another_one_indexes():
    """`docker compose up` in a clone, and `docker compose run index ~/Pictures`."""
    lines = (ROOT / ".env").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["COMPOSE_PROFILES=all"]
    assert COMPOSE["x-image"]["build"]["context"] == "."
    index = SERVICES["index"]
    assert index["entrypoint"][:3] == [
        "/usr/local/lib/imgsearch/entrypoint.sh", "imgsearch", "index",
    ]  # fmt: skip
    assert index["command"] == [PICTURES]
    mounted = f"{PICTURES}:{PICTURES}:ro"
    for name in ("index", "imgsearch", "page", "jupyter"):
        assert mounted in SERVICES[name]["volumes"]
    assert f"--root={PICTURES}" in SERVICES["page"]["command"]
    assert set(index["depends_on"]) <= {
        name for name, service in SERVICES.items() if "tools" in service["profiles"]
    }


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "imgsearch"
    make_secrets(folder)
    return folder


def make_secrets(folder: Path) -> None:
    command = ["sh", str(DOCKER / "make_secrets.sh"), str(folder), "other.example"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_setup_makes_everything_once_and_other_secrets_elsewhere(secrets, tmp_path):
    made = files(secrets)
    assert {
        "ca/ca.crt", "authority/ca.key", "elasticsearch/elastic.password", "elasticsearch/http.crt",
        "elasticsearch/http.key", "kibana/kibana.yml", "imgsearch/imgsearch.password",
        "imgsearch/page.token", "imgsearch/jupyter.token",
    } <= set(made)  # fmt: skip
    make_secrets(secrets)
    assert files(secrets) == made
    make_secrets(tmp_path / "other")
    other = files(tmp_path / "other")
    assert [name for name, data in made.items() if other[name] == data] == []


def test_setup_goes_on_where_it_was_interrupted(secrets, tmp_path):
    shutil.copytree(secrets, tmp_path, dirs_exist_ok=True)
    kept = (tmp_path / "elasticsearch/elastic.password").read_bytes()
    (tmp_path / "elasticsearch/http.crt").unlink()
    (tmp_path / "kibana/kibana.yml").write_bytes(b"")
    make_secrets(tmp_path)
    made = files(tmp_path)
    assert made["elasticsearch/elastic.password"] == kept
    assert made["kibana/kibana.yml"]
    verify(tmp_path)


def test_only_the_authority_is_for_everybody(secrets):
    for path in secrets.rglob("*"):
        others = stat.S_IMODE(path.stat().st_mode) & 0o077
        assert (others == 0) == ("ca" not in path.relative_to(secrets).parts[0:1]), path


def test_the_certificate_is_of_the_authority_and_the_hosts(secrets):
    verify(secrets)
    text = openssl("x509", "-in", str(secrets / "elasticsearch/http.crt"), "-noout", "-text")
    for name in ("DNS:elasticsearch", "DNS:localhost", "IP Address:127.0.0.1", "DNS:other.example"):
        assert name in text
    ssl.create_default_context(cafile=str(secrets / "ca/ca.crt"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(secrets / "elasticsearch/http.crt", secrets / "elasticsearch/http.key")


def verify(folder: Path) -> None:
    authority, certificate = folder / "ca/ca.crt", folder / "elasticsearch/http.crt"
    assert openssl("verify", "-x509_strict", "-CAfile", str(authority), str(certificate))


def openssl(*arguments: str) -> str:
    run = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True)
    return run.stdout


def test_kibana_gets_a_configuration(secrets):
    chosen = yaml.safe_load((secrets / "kibana/kibana.yml").read_text(encoding="utf-8"))
    assert chosen["elasticsearch.username"] == "kibana_system"
    keys = [value for key, value in chosen.items() if key.endswith("encryptionKey")]
    assert len(set(keys)) == 3
    assert all(len(key) >= 32 for key in keys)
    assert "$" not in (secrets / "kibana/kibana.yml").read_text(encoding="utf-8")


def test_the_entry_point_reads_secrets_from_files(tmp_path):
    file = tmp_path / "token"
    file.write_text("a 'quoted' $secret\n", encoding="utf-8")
    given = {"IMGSEARCH_TOKEN_FILE": str(file), "IMGSEARCH_ES_PASSWORD": "given"}
    run = entry_point("printenv", **given)
    assert run.returncode == 0
    variables = dict(line.split("=", 1) for line in run.stdout.splitlines())
    for ours in ("PATH", "PWD", "SHLVL", "_", "OLDPWD"):
        variables.pop(ours, None)
    expected = {"IMGSEARCH_TOKEN": "a 'quoted' $secret", "IMGSEARCH_ES_PASSWORD": "given"}
    assert variables == expected


def test_the_entry_point_hands_on_the_exit_code_or_says_what_is_missing(tmp_path):
    assert entry_point("sh", "-c", "exit 3").returncode == 3
    run = entry_point("true", IMGSEARCH_TOKEN_FILE=str(tmp_path / "none"))
    assert run.returncode == 1
    assert "IMGSEARCH_TOKEN_FILE" in run.stderr
    assert "setup" in run.stderr


def entry_point(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(DOCKER / "entrypoint.sh"), *command],
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
