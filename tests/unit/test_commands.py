"""iproute.commands: the words of a command."""

from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.commands import Command, batch
from cni_ipvlan.iproute.namespace import Namespace

NAMESPACE = Namespace("/var/run/netns/blue", "blue", (4, 4026532001))


def test_batch_of_changes_has_no_options() -> None:
    up, delete = commands.link_set("-j", "up"), commands.link_delete("\udcff")
    joined = batch(*map(Command, (up, delete)))
    assert joined
    assert joined.argv == ("ip", "-batch", "-")
    assert joined.stdin == b"link set dev -j up\nlink delete dev \xff\n"
    assert joined.batch_lines == ["link set dev -j up", "link delete dev \ufffd"]


def test_command_that_a_batch_would_split_or_with_its_own_settings_makes_no_batch() -> None:
    for argv in (
        *(
            commands.link_set(name, "up")
            for name in ("#x", "it's", '"q"', "a\\b", "a b", "a\nb", "")
        ),
        commands.sysctl_read("a"),
        commands.route_show("default", family="-4"),
        ("ip", "-n", "x", "link"),
    ):
        assert batch(*map(Command, (commands.link_set("net1", "up"), argv))) is None


def test_parameters_stand_before_what_a_shell_runs() -> None:
    variables = {"PATH": "/bin", "CNI_B": "2", "CNI_A": "1 1", "CNI_IPVLAN_LOG": "/root/log"}
    command = Command(("/cni/x",), netns=NAMESPACE, environment=variables)
    assert command.entered_argv == ("ip", "netns", "exec", "blue", "/cni/x")
    assert command.full_argv == ("env", "CNI_A=1 1", "CNI_B=2", *command.entered_argv)


def test_query_is_distinguished_from_a_change() -> None:
    assert commands.prints_json(commands.link_show("x"))
    assert not commands.prints_json(commands.link_set("x", "up"))
    assert not commands.prints_json(commands.link_set("-j", "up"))
    assert commands.prints_json(commands.route_show("default", family="-6"))
