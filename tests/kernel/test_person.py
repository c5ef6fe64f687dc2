"""What a person is told who calls the plugin as a runtime would."""

from __future__ import annotations

from typing import Any

from lab import Node
from person import Person
from runtime import Runtime, network, static


def test_other_plugins_of_a_list_are_named_and_the_result_before_is_asked_for(
    node: Node, person: Person
) -> None:
    node.master()
    container = node.container()
    chained: dict[str, Any] = {"type": "ipvlan", "master": "eth0"}
    plugins = [{"type": "bridge"}, chained, {"type": "tuning"}, {"type": "sbr"}]
    conf = {"cniVersion": "1.0.0", "name": "chain", "plugins": plugins}
    about = f"-c {person.writes(conf, 'a.conflist')} --netns container1"
    left_out = "of the list chain, only ipvlan is called; left out: bridge, tuning, sbr\n"

    for verb in ("add", "add --dry-run"):
        status, out, err = person.types(f"ipvlan {verb} {about}")
        assert (status, out) == (2, "")
        assert err.startswith(
            f"{left_out}ipvlan: ipvlan comes after bridge in the list chain and needs its result: "
            "give that with --prev-result\n"
        )
    assert "net1" not in container.links()

    result = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]}
    person.writes(result, "result")
    status, _, err = person.types(f"ipvlan add {about} --container-id one --prev-result result")
    assert (status, err) == (0, left_out)
    assert container.addresses("net1") == ["10.1.0.9/24"]
    status, _, err = person.types(f"ipvlan del {about} --container-id one")
    assert (status, err) == (0, left_out)

    chained["ipam"] = static("10.1.0.3/24")
    about = f"-c {person.writes(conf, 'a.conflist')} --netns container1"
    status, _, err = person.types(f"ipvlan add {about} --container-id one")
    assert (status, err) == (
        0,
        f"{left_out}ipvlan comes after bridge, whose result --prev-result can give\n",
    )
    assert container.addresses("net1") == ["10.1.0.3/24"]


def test_an_error_names_the_option_for_a_person_and_the_variable_for_a_runtime(
    node: Node, person: Person, runtime: Runtime
) -> None:
    node.master()
    container = node.container()
    container.ip("link add name net1 type dummy")
    conf = person.writes(network())

    status, _, err = person.types(f"ipvlan add -c {conf} --netns container1")
    assert (status, "    try: choose another --ifname, or delete" in err) == (1, True)
    assert "CNI_IFNAME" not in err
    error = runtime.add(container, network()).error()
    assert "try: choose another CNI_IFNAME, or delete" in error["details"]
