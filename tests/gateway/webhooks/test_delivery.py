from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook

from inference_gateway.webhooks import sending
from inference_gateway.webhooks.claims import MOST, Claims, Receiver, choose
from inference_gateway.webhooks.retry import DeliveryState, Next, Receipt
from inference_gateway.webhooks.sending import Sender

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_a_delivery_is_signed_and_marked(lab: Any, receiver: Any, wait_until: Any) -> None:
    it = receiver((200, {}))
    delivery = lab.insert(it.url)
    lab.delivery().step()
    wait_until(lambda: lab.row(delivery)["state"] == "delivered")
    ((path, headers, body),) = it.got
    assert path == "/hook?a=1"
    assert headers["webhook-id"] == f"msg_{delivery}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    content = Webhook(SECRET).verify(body, dict(headers))
    assert headers["Host"] == f"127.0.0.1:{it.port}"
    assert (content["status"], content["output"]) == ("succeeded", "héllo")
    assert "secret" not in body.decode()
    row = lab.row(delivery)
    assert (row["attempts"], row["last_status"], row["last_error"]) == (1, 200, None)
    assert row["delivered_at"] is not None


@pytest.mark.parametrize(
    ("script", "state", "status", "due_in"),
    [
        ((500, {}), "pending", 500, 5),
        ((302, {"Location": "http://127.0.0.1:1/"}), "pending", 302, 5),
        ((410, {}), "failed", 410, None),
        ((429, {"Retry_After": "100"}), "pending", 429, 100),
        ("flood", "delivered", 200, None),
        ("drip", "pending", None, 5),
        ("silence", "pending", None, 5),
    ],
)
def test_what_a_receiver_may_do(
    lab: Any,
    receiver: Any,
    wait_until: Any,
    script: Any,
    state: str,
    status: int | None,
    due_in: float | None,
) -> None:
    it = receiver(script)
    delivery = lab.insert(it.url)
    lab.delivery(timeout=0.5).step()
    wait_until(lambda: (r := lab.row(delivery))["last_status"] or r["last_error"])
    row = lab.row(delivery)
    assert (row["state"], row["last_status"]) == (state, status)
    assert len(it.got) == 1
    if due_in is not None:
        assert due_in - 2 < row["due_in"] < due_in * 1.2 + 1
        assert row["last_error"]


def test_nobody_listens(lab: Any, wait_until: Any) -> None:
    delivery = lab.insert("http://127.0.0.1:1/")
    lab.delivery().step()
    row = wait_until(lambda: (r := lab.row(delivery))["last_error"] and r)
    assert (row["state"], row["attempts"]) == ("pending", 1)


def test_the_next_attempt_has_the_same_id(lab: Any, receiver: Any, wait_until: Any) -> None:
    it = receiver((500, {}), (200, {}))
    delivery = lab.insert(it.url)
    for attempt, status, state in ((1, 500, "pending"), (2, 200, "delivered")):
        lab.make_due()
        lab.delivery().step()
        row = wait_until(
            lambda status=status: (r := lab.row(delivery))["last_status"] == status and r
        )
        assert (row["state"], row["attempts"], len(it.got)) == (state, attempt, attempt)
    assert len({headers["webhook-id"] for _, headers, _ in it.got}) == 1


class Killed(Claims):
    """Of a process that ends before it writes down what came of it."""

    def mark(self, *_: object) -> None:
        pass


def test_killed_between_sending_and_marking_it_sends_again(
    lab: Any, receiver: Any, wait_until: Any
) -> None:
    it = receiver((200, {}))
    delivery = lab.insert(it.url)
    lab.delivery(claims=Killed(lab.engine, hold_seconds=5)).step()
    wait_until(lambda: it.got)
    assert lab.row(delivery)["state"] == "pending"
    assert lab.row(delivery)["due_in"] > 5
    lab.make_due()  # the claim has run out
    lab.delivery().step()
    wait_until(lambda: lab.row(delivery)["state"] == "delivered")
    assert [headers["webhook-id"] for _, headers, _ in it.got] == [f"msg_{delivery}"] * 2


def test_two_claim_each_delivery_once(lab: Any, receiver: Any, wait_until: Any) -> None:
    it = receiver((200, {}))
    deliveries = [lab.insert(it.url) for _ in range(8)]
    pair = [lab.delivery(), lab.delivery()]
    threads = [threading.Thread(target=delivery.step) for delivery in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(3):
        pair[0].step()
    wait_until(lambda: all(lab.row(d)["state"] == "delivered" for d in deliveries))
    assert len(it.got) == 8


def test_what_another_is_claiming_is_left_to_it(lab: Any) -> None:
    deliveries = [lab.insert("https://example.com/hook") for _ in range(2)]
    with ThreadPoolExecutor() as threads, lab.engine.begin() as other:
        lock = text("SELECT id FROM webhook_deliveries WHERE id = :id FOR UPDATE")
        other.execute(lock, {"id": deliveries[0]})
        claimed = threads.submit(lab.claims().take, {}).result(timeout=10)
    assert [one.id for one in claimed] == deliveries[1:]


def test_what_was_delivered_stays_so(lab: Any) -> None:
    """One whose claim had run out says last that it failed."""
    delivery = lab.insert("https://example.com/hook")
    late = lab.claims()
    (claimed,) = late.take({})
    lab.sql("UPDATE webhook_deliveries SET state = 'delivered'")
    late.mark(claimed.id, Receipt(error="no answer", final=True), Next(DeliveryState.FAILED))
    assert lab.row(delivery)["state"] == "delivered"


def test_a_dead_receiver_does_not_delay_the_others(
    lab: Any, receiver: Any, wait_until: Any
) -> None:
    dead, alive = receiver("silence"), receiver((200, {}))
    for _ in range(40):
        lab.insert(dead.url)
    deliveries = [lab.insert(alive.url) for _ in range(20)]
    delivery = lab.delivery(timeout=3)

    def all_delivered() -> bool:
        delivery.step()
        return all(lab.row(d)["state"] == "delivered" for d in deliveries)

    wait_until(all_delivered, timeout=2.5)
    assert len(dead.got) <= 8


def test_the_account_is_gone(lab: Any, wait_until: Any) -> None:
    delivery = lab.insert("http://127.0.0.1:1/")
    lab.sql("DELETE FROM users")
    lab.delivery().step()
    wait_until(lambda: lab.row(delivery)["state"] == "failed")


def test_a_private_address_is_final() -> None:
    sender = Sender(timeout_seconds=1, allow_loopback=False)
    answer = sender.send("http://127.0.0.1:80/", {}, [b""])
    assert answer.final
    assert answer.error is not None
    assert "not a public address" in answer.error


@pytest.mark.parametrize("is_admin", [True, False])
def test_only_an_administrators_webhook_reaches_this_machine(
    lab: Any, receiver: Any, wait_until: Any, is_admin: bool
) -> None:
    """Also by a name, which nobody resolved when the prediction was made."""
    it = receiver((200, {}))
    lab.sql("UPDATE users SET is_admin = :is_admin", is_admin=is_admin)
    deliveries = [lab.insert(it.url), lab.insert(f"http://localhost:{it.port}/")]
    lab.delivery().step()
    wanted = "delivered" if is_admin else "failed"
    wait_until(lambda: [lab.row(d)["state"] for d in deliveries] == [wanted, wanted])
    assert len(it.got) == (2 if is_admin else 0)


def test_the_environments_proxies_are_not_used(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, it = receiver((200, {})), receiver((204, {}))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    sender = Sender(timeout_seconds=5, allow_loopback=True)
    assert sender.send(it.url, {}, [b""], trusted=True).status == 204
    assert proxy.got == []


def test_an_answer_is_read_so_far_only(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_MAX_ANSWER_BYTES", 10)
    sender = Sender(timeout_seconds=5, allow_loopback=True)
    answer = sender.send(receiver("flood").url, {}, [b""], trusted=True)
    assert answer.status == 200


@pytest.fixture
def silent() -> Iterator[list[str]]:
    """URLs of 192 receivers on 64 addresses, which accept and say nothing."""
    listeners = [socket.create_server(("0.0.0.0", 0), backlog=512) for _ in range(3)]
    ports = [listener.getsockname()[1] for listener in listeners]
    yield [f"http://127.0.0.{host}:{port}/" for host in range(1, 65) for port in ports]
    for listener in listeners:
        listener.close()


def test_hanging_receivers_of_one_account_do_not_delay_a_stranger(
    lab: Any, receiver: Any, silent: list[str], wait_until: Any
) -> None:
    alive = receiver((200, {}))
    lab.account("bob")
    for url in silent:
        lab.insert(url)
    delivery = lab.delivery(timeout=10)
    delivery.step()
    strangers = [lab.insert(alive.url, owner="bob") for _ in range(3)]

    def all_delivered() -> bool:
        delivery.step()
        return all(lab.row(d)["state"] == "delivered" for d in strangers)

    wait_until(all_delivered, timeout=5)  # half the time that a hanging one is waited for


class Patient:
    """Can be told to wait longer."""

    def __init__(self, sender: Sender) -> None:
        self.now = sender

    def send(self, *arguments: Any, **options: Any) -> Receipt:
        return self.now.send(*arguments, **options)


def test_accounts_that_conspire_leave_room_for_strangers(
    lab: Any, receiver: Any, silent: list[str], wait_until: Any
) -> None:
    """They take all there is, once: from then on they are known to be slow."""
    alive = receiver((200, {}))
    names = [f"guest-{number}" for number in range(5)]
    for name in (*names, "bob"):
        lab.account(name)
    sender = Patient(Sender(timeout_seconds=2.5, allow_loopback=True))
    delivery = lab.delivery(sender=sender)
    for number, url in enumerate(silent[:160]):
        lab.insert(url, owner=names[number % 5])
    delivery.step()
    tried = "SELECT id FROM webhook_deliveries WHERE last_error IS NOT NULL"
    wait_until(lambda: len(lab.sql(tried)) == MOST)
    sender.now = Sender(timeout_seconds=10, allow_loopback=True)
    lab.make_due()
    delivery.step()
    stranger = lab.insert(alive.url, owner="bob")

    def delivered() -> bool:
        delivery.step()
        return bool(lab.row(stranger)["state"] == "delivered")

    wait_until(delivered, timeout=5)


def test_a_long_backlog_of_one_account_hides_nobody_elses(
    lab: Any, receiver: Any, silent: list[str], wait_until: Any
) -> None:
    alive = receiver((200, {}))
    lab.account("bob")
    for _ in range(6):
        for url in silent:
            lab.insert(url)
    stranger = lab.insert(alive.url, owner="bob")
    lab.delivery(timeout=10).step()
    wait_until(lambda: lab.row(stranger)["state"] == "delivered", timeout=5)


IDS = [uuid.UUID(int=number) for number in range(80)]
ADA, BOB, EVE = (uuid.UUID(int=number) for number in (1000, 2000, 3000))


def at(owner: uuid.UUID, origin: str = "a") -> Receiver:
    return Receiver(owner, origin)


MANY = [(number, at(ADA, str(position))) for position, number in enumerate(IDS)]


@pytest.mark.parametrize(
    ("due", "active", "slow", "chosen"),
    [
        ([], {}, [], []),
        ([(IDS[0], at(ADA)), (IDS[1], at(ADA))], {at(BOB, "b"): 63}, [], [IDS[0]]),
        ([(number, at(ADA)) for number in IDS], {}, [], IDS[:8]),
        ([(number, at(ADA)) for number in IDS], {at(ADA): 7}, [], IDS[:1]),
        ([(IDS[0], at(ADA)), (IDS[1], at(ADA, "b"))], {at(ADA): 8}, [], [IDS[1]]),
        # Another's deliveries to the same address are not one's own.
        ([(IDS[0], at(ADA))], {at(BOB): 8}, [], [IDS[0]]),
        (MANY, {}, [], IDS[:16]),
        # Who has less under way is first, though it came later.
        ([*MANY[:9], (IDS[9], at(BOB))], {at(ADA, "x"): 4, at(EVE): 8}, [], [IDS[9], *IDS[:9]]),
        ([(IDS[0], at(ADA)), (IDS[1], at(BOB))], {at(EVE, "x"): 32}, [ADA, EVE], [IDS[1]]),
    ],
)
def test_choose(
    due: Any, active: dict[Receiver, int], slow: list[uuid.UUID], chosen: list[uuid.UUID]
) -> None:
    assert choose(due, active, slow) == chosen
