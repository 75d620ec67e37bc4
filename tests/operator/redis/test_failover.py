"""The operator's links, when Redis' old primary lives on as a replica and keeps its clients."""

from __future__ import annotations

import pytest
from failover import Failover

from inference_operator.redis.connection import RedisConnection, RedisUnavailable


def test_a_write_goes_to_the_new_primary_and_other_links_follow(failover: Failover) -> None:
    writer, watch = RedisConnection(failover.url), RedisConnection(failover.url)
    for link in (writer, watch):
        link.ask([("GET", "a")])
    failover.demote()
    failover.promote()
    assert writer.ask([("SET", "a", "1")]) == [b"OK"]
    watch.tell([("ACL", "SETUSER", "someone")])
    assert "someone" in failover.new.acl_users()
    assert watch.ask([("GET", "a")]) == [b"1"]
    for link in (writer, watch):
        link.close()


def test_no_user_is_made_on_a_replica(failover: Failover) -> None:
    failover.demote()
    link = RedisConnection(failover.url)
    for _ in range(2):
        with pytest.raises(RedisUnavailable, match="leads to a replica"):
            link.tell([("ACL", "SETUSER", "someone")])
    assert "someone" not in failover.old.acl_users()
    failover.promote()
    link.tell([("ACL", "SETUSER", "someone")])
    assert "someone" in failover.new.acl_users()
    link.close()
