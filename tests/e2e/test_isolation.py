"""Nothing in the caller's surroundings changes what the command does."""

import pytest
from executable import Executable
from runtime import call_environment, network, stdin_of
from setup import Setup

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "nothing but CNI": {},
    "odd": {"LC_ALL": "C", "LANG": "tlh_KX", "PYTHONUTF8": "0", "LANGUAGE": "de", "PATH": ""},
}


# tests/node/test_installing.py has environments and directories that mean harm.
@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_no_environment_changes_an_add(setup: Setup, ipvlan: Executable, case: str) -> None:
    name = setup.node.make_master("ünï")  # whatever the locale, names are in UTF-8
    environment = call_environment("ADD", setup.container, CNI_IFNAME=name, **ENVIRONMENTS[case])
    answer = ipvlan(environment, stdin_of(network(master=name)))
    result = answer.result()
    assert result["interfaces"][0]["name"] == name
    assert result["ips"] == [{"interface": 0, "address": "10.1.0.2/24"}]
    assert setup.container.addresses(name) == ["10.1.0.2/24"]
    assert answer.stderr == ""
