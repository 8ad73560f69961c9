"""Requests that no browser sends, made from the description of all routes: never a 5xx."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from hebench.human.database import Database
from tests.human.made_study import published
from tests.human.web import ON_SQLITE, app_for, guest

pytestmark = [pytest.mark.slow, ON_SQLITE]

UNENDING = ("/leave", "/data/delete")  # these would end the session that the others need


@pytest.mark.parametrize("role", ["rater", "owner"])
def test_no_request_to_a_described_route_breaks_the_server(
    database: Database, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    for name in ("FAILURES_PER_ADDRESS", "PAGES_PER_RATER"):
        monkeypatch.setattr(f"hebench.human.visitors.{name}", 10**9)
    for name in ("ENTRIES_PER_ADDRESS", "VOTES_PER_RATER"):
        monkeypatch.setattr(f"hebench.human.rating.{name}", 10**9)
    published(database)
    app = app_for(database)
    visitor = guest(database, app, role=role)
    visitor.get("/data")
    token = dict(visitor.form("/leave"))["token"]
    sent: list[tuple[str, int]] = []
    described = schemathesis.openapi.from_dict(app.openapi())
    described.app = app
    for result in described.get_all_operations():
        operation = result.ok()
        if operation.path in UNENDING:
            continue

        def call(case: Any) -> None:
            response = case.call(
                headers={"x-form-token": token}, cookies=dict(visitor.client.cookies)
            )
            sent.append((case.path, response.status_code))

        checked = given(operation.as_strategy())(call)
        settings(
            max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )(checked)()
    broken = {(path, code) for path, code in sent if code >= 500}
    assert not broken and len(sent) > 100
    reached = {path for path, code in sent if code < 400}
    assert len(reached) >= 6, "the fuzzer came through the doors"
