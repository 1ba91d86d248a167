from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from kdtui.launch.alive import is_running, probe
from kdtui.store.identity import hostname, identity_of, own_identity, start_ticks
from kdtui.store.run import LaunchRecord
from kdtui.store.state import Liveness


def test_a_process_is_more_than_its_pid() -> None:
    me = own_identity()
    assert is_running(me)
    assert not is_running({**me, "start_ticks": me["start_ticks"] + 1})
    assert not is_running({**me, "boot_id": "another boot"})
    for broken in ({}, {"pid": None}, {**me, "pid": "1"}, {**me, "pid": -1}, {**me, "start_ticks": None}):
        assert not is_running(broken)


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    who = identity_of(child.pid)
    assert is_running(who)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet reaped
    assert not is_running(who)
    child.communicate()
    assert start_ticks(child.pid) is None
    assert not is_running(identity_of(child.pid))


def test_a_name_with_parentheses_is_read(tmp_path: object) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "open('/proc/self/comm', 'w').write('a) R (b'); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    assert is_running(identity_of(child.pid))
    child.communicate(b"\n")


def test_other_hosts_cannot_be_seen() -> None:
    me = own_identity()
    stranger = {**me, "start_ticks": 1}
    assert _probe(hostname(), stranger, me) is Liveness.ALIVE
    assert _probe(hostname(), stranger) is Liveness.DEAD
    assert _probe(hostname()) is Liveness.DEAD
    assert _probe("far", me) is Liveness.UNKNOWN
    assert _probe("", me) is Liveness.ALIVE
    assert _probe("", stranger) is Liveness.DEAD
    assert _probe("", {**me, "boot_id": "x"}) is Liveness.UNKNOWN


def _probe(host: str, *ranks: Mapping[str, Any]) -> Liveness:
    return probe(LaunchRecord(1, host, 0, 0, "", None, (), "cpu", 1, None, 0.0, ranks))
