"""Leases of subnets: exclusive, inheritable, and clear about who holds one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.deploy import lease as leases
from harness.deploy.lease import Lease, free_stale, lock
from harness.errors import MissingPart, UserError

SUBNET = "127.93.200"


def test_two_leases_differ(tmp_path: Path) -> None:
    """Two runs never get the same subnet, and both are outside everybody's 127.0."""
    first, second = Lease.acquire(tmp_path), Lease.acquire(tmp_path)
    try:
        assert first.subnet != second.subnet
        for lease in (first, second):
            _, x, y = map(int, lease.subnet.split("."))
            assert 16 <= x < 80
            assert 0 <= y < 256
    finally:
        first.close()
        second.close()


def test_a_demanded_subnet_that_is_leased_names_its_holder(tmp_path: Path) -> None:
    """The message says which run has it and what to do; after its end the subnet is free."""
    lease = Lease.acquire(tmp_path, SUBNET)
    lease.describe("run demo (guardian pid 7)")
    with pytest.raises(UserError, match=r"leased by run demo \(guardian pid 7\).*harness clean"):
        Lease.acquire(tmp_path, SUBNET)
    lease.close()
    Lease.acquire(tmp_path, SUBNET).close()


def test_a_demanded_subnet_with_a_listener_names_the_port(tmp_path: Path) -> None:
    """A port that something else uses is found before anything is started."""
    taken = rf"something listens on {SUBNET}\.10:6379"
    with socket.create_server((f"{SUBNET}.10", 6379)), pytest.raises(UserError, match=taken):
        Lease.acquire(tmp_path, SUBNET)
    Lease.acquire(tmp_path, SUBNET).close()


def test_a_port_taken_everywhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on 0.0.0.0 takes its port on every subnet; the search ends and names it."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(leases, "PORTS", ((50, port),))
        with pytest.raises(UserError, match=rf"\.50:{port}, as on 63 other.*0\.0\.0\.0"):
            Lease.acquire(tmp_path)


@pytest.mark.parametrize("subnet", ["128.1.1", "127.1", "127.1.256", "127.1.1.1", "127.a.b"])
def test_a_malformed_subnet_is_refused(tmp_path: Path, subnet: str) -> None:
    """The form is checked before anything touches the file system."""
    with pytest.raises(UserError, match="expected the first three numbers"):
        Lease.acquire(tmp_path, subnet)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_none_of_this_machine_is_a_missing_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only 127.0.0.1 exists the message says how to add addresses; nothing stays locked."""
    real = leases._free
    monkeypatch.setattr(leases, "_free", lambda _host, port: real("192.0.2.1", port))
    with pytest.raises(MissingPart, match="ifconfig lo0 alias"):
        Lease.acquire(tmp_path, SUBNET)
    fd = lock(tmp_path / SUBNET)
    assert fd is not None
    os.close(fd)


def test_an_inherited_lease_outlives_its_first_holder(tmp_path: Path) -> None:
    """The lease lasts as long as any process that inherited it."""
    lease = Lease.acquire(tmp_path, SUBNET)
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lease.fd,)
    )
    lease.close()
    try:
        with pytest.raises(UserError, match="is taken"):
            Lease.acquire(tmp_path, SUBNET)
    finally:
        child.communicate(b"\n")
    Lease.acquire(tmp_path, SUBNET).close()


def test_stale_leases_are_freed_and_held_ones_kept(tmp_path: Path) -> None:
    """A sweep removes the file of a holder that is gone and leaves a living one's alone."""
    dead, living = Lease.acquire(tmp_path, SUBNET), Lease.acquire(tmp_path, "127.93.201")
    dead.describe("run killed")
    dead.close()
    try:
        assert free_stale(tmp_path) == [SUBNET]
        assert [path.name for path in tmp_path.iterdir()] == ["127.93.201"]
    finally:
        living.close()


def test_a_lease_file_that_was_removed_meanwhile_does_not_count(tmp_path: Path) -> None:
    """Who locks a file that a sweep removed holds nothing: another one would lock the new file."""
    path = tmp_path / SUBNET
    fd = lock(path)
    assert fd is not None
    path.unlink()
    second = lock(path)
    assert second is not None
    assert os.fstat(second).st_ino == path.stat().st_ino
    os.close(fd)
    os.close(second)
