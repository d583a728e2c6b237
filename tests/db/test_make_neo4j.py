"""`make neo4j` and `make neo4j-stop`: by Docker where it runs, else our own server; what the compose file says."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from db import server

ROOT = Path(__file__).parents[2]
RECORDER = '#!/bin/sh\necho "$(basename "$0") $*" >> "$RECORD"\n'


@pytest.fixture
def service() -> dict[str, Any]:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return dict(compose["services"]["neo4j"])


def made(target: str, tmp_path: Path, *, docker: str) -> list[str]:
    """Run a target of the Makefile where `docker` does this, and return which commands it called."""
    if shutil.which("make") is None:
        pytest.skip("needs `make`")
    for name, text in (("venv/bin/python", RECORDER), ("bin/docker", RECORDER + docker)):
        program = tmp_path / name
        program.parent.mkdir(parents=True)
        program.write_text(text)
        program.chmod(0o755)
    (tmp_path / "venv" / ".ready").touch()  # newer than pyproject.toml: nothing is installed
    record = tmp_path / "record"
    places = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "RECORD": str(record)}
    command = ["make", "--no-print-directory", f"VENV={tmp_path / 'venv'}", target]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **places}, check=True, timeout=60)
    return record.read_text().splitlines()


@pytest.mark.parametrize(("target", "does"), [("neo4j", "up -d --wait"), ("neo4j-stop", "stop")])
def test_where_docker_runs_the_service_of_the_compose_file_is_used(tmp_path: Path, target: str, does: str) -> None:
    assert made(target, tmp_path, docker="") == ["docker info", f"docker compose {does}"]


@pytest.mark.parametrize(("target", "does"), [("neo4j", "start"), ("neo4j-stop", "stop")])
def test_where_docker_does_not_run_our_own_server_is_used(tmp_path: Path, target: str, does: str) -> None:
    called = made(target, tmp_path, docker="exit 1\n")
    assert called == ["docker info", f"python -m db server {does}"]


def test_the_service_is_the_community_server_of_the_jars_on_loopback_with_a_password(service: dict[str, Any]) -> None:
    assert service["image"] == f"neo4j:{server.NEO4J_VERSION}-community"
    ports = (server.BOLT_PORT, server.HTTP_PORT)
    assert service["ports"] == [f"127.0.0.1:{port}:{port}" for port in ports]
    assert service["environment"]["NEO4J_AUTH"].startswith("neo4j/${NEO4J_PASSWORD:?")
    assert "NEO4J_PASSWORD=" in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()


def test_the_service_has_the_limits_of_our_own_server(service: dict[str, Any], tmp_path: Path) -> None:
    server._configure(tmp_path, server.BOLT_PORT, server.HTTP_PORT, auth=True)
    ours = dict(line.split("=", 1) for line in (tmp_path / "conf" / "neo4j.conf").read_text().splitlines())
    for name in ("server.memory.pagecache.size", "dbms.memory.transaction.total.max", "dbms.usage_report.enabled"):
        assert service["environment"][f"NEO4J_{name.replace('_', '__').replace('.', '_')}"] == ours[name]


def test_the_jvm_of_the_service_has_the_memory_of_our_own_server(service: dict[str, Any]) -> None:
    environment = service["environment"]
    heap = [environment[f"NEO4J_server_memory_heap_{which}__size"] for which in ("initial", "max")]
    options = environment["NEO4J_server_jvm_additional"].split()
    no_g1 = options.index("-XX:-UseG1GC")
    assert no_g1 < options.index("-XX:+UseParallelGC")
    del options[no_g1]
    assert {f"-Xms{heap[0]}", f"-Xmx{heap[1]}", *options} == set(server.MEMORY)


def test_a_jvm_takes_the_options_of_the_service_after_those_of_the_image(service: dict[str, Any]) -> None:
    if shutil.which("java") is None:
        pytest.skip("needs `java`")
    options = ["-XX:+UseG1GC", *service["environment"]["NEO4J_server_jvm_additional"].split()]
    command = ["java", "-Xmx1g", *options, "-XX:+PrintFlagsFinal", "-version"]
    flags = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"bool UseParallelGC +:?= true", flags)
