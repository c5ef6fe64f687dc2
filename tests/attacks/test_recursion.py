"""An IPAM plugin that is this very plugin: refused at once, and no reason to keep a pod."""

from pathlib import Path

import pytest
from attacker import end_within
from doubles import stand_in
from executable import Executable
from runtime import PLUGINS, call_environment, network, stdin_of
from scene import Scene


@pytest.mark.parametrize("disguise", ["itself", "link", "script"])
def test_calling_itself_is_refused_at_once(
    scene: Scene, ipvlan: Executable, tmp_path: Path, disguise: str
) -> None:
    other = tmp_path / "other"
    if disguise == "link":
        other.symlink_to(ipvlan.path)
    elif disguise == "script":
        stand_in(tmp_path, "other", f'exec {ipvlan.path} "$@"')
    directory = Path(ipvlan.path).parent if disguise == "itself" else tmp_path
    conf = stdin_of(network(ipam={"type": "ipvlan" if disguise == "itself" else "other"}))
    path = {"CNI_PATH": f"{directory}:{PLUGINS}"}
    with scene.unchanged():
        add, delete = (
            end_within(ipvlan.start(call_environment(verb, scene.one, **path), conf), 20)
            for verb in ("ADD", "DEL")
        )

    error = add.error()
    if disguise == "itself":
        assert (error["code"], "ipam" in error["msg"]) == (7, True)
    delete.succeeds()
