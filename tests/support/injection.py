"""Trouble at every step of an ADD, one at a time, and what is wrong afterwards."""

from doubles import Step, Steps
from lab import Node, Space
from runtime import Runtime, host_local, network

# Takes every kind of step: two families, routes, and IPv6 that is off.
CONF = network(
    ipam=host_local(
        "10.1.0.0/24", "fd00:1::/64", routes=[{"dst": "0.0.0.0/0"}, {"dst": "fd00:7::/64"}]
    )
)
IPAM = "host-local"


def prepare(container: Space) -> None:
    """Have IPv6 off, so that ADD switches it on, and without duplicate address detection."""
    container.ip("link set dev lo up")
    container.sysctl("net/ipv6/conf/default/accept_dad", 0)
    for name in ("all", "default"):
        container.sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)


def record(runtime: Runtime, container: Space, steps: Steps) -> list[Step]:
    """Return the steps of an ADD that succeeds."""
    prepare(container)
    steps.forget()
    runtime.add(container, CONF, **steps.environment).result()
    taken = steps.taken
    runtime.delete(container, CONF).succeeds()
    return taken


def disturb(
    node: Node, runtime: Runtime, container: Space, steps: Steps, script: str, expected: str
) -> dict[str, str]:
    """Run a script at each step of an ADD; return what is wrong, by the words of the step.

    Every ADD must fail with an error that contains ``expected``, release what it
    allocated once, and leave everything as it was.
    """
    recorded = record(runtime, container, steps)
    prepare(container)
    before = node.snapshot()
    wrong = {}
    for step in recorded:
        prepare(container)
        steps.forget()
        steps.at(step.number, script)

        answer = runtime.add(container, CONF, **steps.environment)

        if answer.status == 0:
            wrong[step.words] = "succeeded"
            runtime.delete(container, CONF).succeeds()
        elif expected not in f"{answer.error()}":
            wrong[step.words] = f"another error: {answer.error()}"
        elif steps.count(IPAM, "DEL") != steps.count(IPAM, "ADD"):
            wrong[step.words] = f"not released once: {steps.taken}"
        elif node.snapshot() != before:
            wrong[step.words] = f"left: {node.snapshot()}"
    assert len(recorded) > 8
    return wrong
