"""Connections as the kernel lists them."""

from __future__ import annotations

import os
import socket

from harness.faults.sockets import (
    encode,
    established,
    parse_table,
    provider_address,
    socket_inodes,
)

TABLE = b"""\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 900 1 f
   1: 0100007F:9C40 0201607F:4E20 01 00000000:00000000 00:00000000 00000000     0        0 901 1 f
   2: 0100007F:9C42 0201607F:4E20 06 00000000:00000000 03:00000000 00000000     0        0 0 3 f
   3: 0100007F:9C44 0201607F:4E21 01 00000000:00000000 00:00000000 00000000     0        0 902 1 f
"""


def test_only_established_connections_to_the_peers_count() -> None:
    """Listeners, TIME_WAIT and other ports are left out."""
    peer = ("127.96.1.2", 20000)
    assert encode(peer) == b"0201607F:4E20"
    assert parse_table(TABLE, {encode(peer): peer}) == {901: peer}


def test_own_connection_is_found_by_its_inode() -> None:
    """A real connection shows in the kernel's table and among the process's descriptors."""
    with socket.create_server(("127.96.250.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as client:
            found = established({address})
            assert found == {os.fstat(client.fileno()).st_ino: address}
            assert found.keys() <= socket_inodes(os.getpid())
        assert established({address}) == {}


def test_a_process_that_is_gone_has_no_sockets() -> None:
    """No error for a pid that does not exist."""
    assert socket_inodes(2**22 - 1) == set()


def test_the_address_of_the_provider_is_read_from_its_url() -> None:
    """Host and port of the base URL."""
    assert provider_address("http://127.96.1.3:9000/v1") == ("127.96.1.3", 9000)
