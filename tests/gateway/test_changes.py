"""Whether an error may say that nothing was stored."""

from __future__ import annotations

import contextvars

from inference_gateway import changes


def test_of_what_belongs_to_no_request_it_may_not() -> None:
    assert contextvars.Context().run(changes.have_begun)


def test_of_a_new_request_it_may_until_something_is_committed() -> None:
    def request() -> list[bool]:
        changes.new_request()
        before = changes.have_begun()
        changes.begin()
        return [before, changes.have_begun()]

    assert contextvars.Context().run(request) == [False, True]
