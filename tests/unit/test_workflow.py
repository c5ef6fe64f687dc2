"""The workflow for public forges, and how it gets the sources. Its form is lint's to check."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloning import commit, git

ROOT = Path(__file__).resolve().parents[2]
# In YAML 1.1, the key "on" is true.
WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
(JOB,) = WORKFLOW["jobs"].values()


@pytest.fixture
def forge(tmp_path: Path) -> Path:
    """Have a repository with a commit, and a branch that has gone on since."""
    repository = tmp_path / "forge/owner/project"
    repository.mkdir(parents=True)
    git(repository, "init", "--quiet", "--initial-branch=main")
    (repository / "file").write_text("tested")
    commit(repository)
    (repository / "file").write_text("later")
    commit(repository)
    return repository


def test_it_runs_all_tests_for_each_change_with_nothing_of_others() -> None:
    assert WORKFLOW[True] == ["push", "pull_request"]
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert [step for step in JOB["steps"] if "uses" in step] == []
    assert JOB["container"]["image"] == "debian:trixie"
    assert JOB["steps"][-1]["run"] == "scripts/test </dev/null"
    assert os.access(ROOT / "scripts/test", os.X_OK)


@pytest.mark.skipif(shutil.which("git") is None, reason="the step takes git")
def test_its_first_step_checks_out_the_commit_to_test(forge: Path, tmp_path: Path) -> None:
    place, apt = tmp_path / "work", tmp_path / "apt-get"
    place.mkdir()
    apt.write_text("#!/bin/sh\n")
    apt.chmod(0o755)
    variables = {
        "GITHUB_SERVER_URL": f"file://{tmp_path}/forge",
        "GITHUB_REPOSITORY": "owner/project",
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_SHA": git(forge, "rev-parse", "HEAD~1"),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    step = JOB["steps"][0]["run"]
    subprocess.run(["sh", "-e", "-c", step], check=True, cwd=place, env=os.environ | variables)
    assert (place / "file").read_text() == "tested"
    assert git(place, "rev-parse", "HEAD") == variables["GITHUB_SHA"]
