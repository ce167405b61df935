"""One authority per test module; every test that asks for `sdk` runs with blocking and with async calls."""

import os
from collections import namedtuple

import pytest

from support import Authority, Sdk

# The package itself would follow a proxy of the environment even to this machine.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
os.environ["CLERK_TELEMETRY_DISABLED"] = "1"

Trio = namedtuple("Trio", "receiver sender stranger")


@pytest.fixture(scope="module")
def authority():
    running = Authority()
    yield running
    running.stop()


@pytest.fixture(params=[False, True], ids=["blocking", "async"])
def sdk(authority, request):
    return Sdk(authority, is_async=request.param)


@pytest.fixture
def trio(sdk):
    """A receiver, a sender that may call it, and a stranger that may not."""
    receiver = sdk.machine(name="Receiver")
    return Trio(receiver, sdk.machine(name="Sender", scoped_machines=[receiver.id]), sdk.machine(name="Stranger"))
