"""docs/operations.md does what it says, and its tables are complete.

Its `bash` blocks run on one machine, in order; those of a cluster are read by the real kubectl and
Helm.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import guide
import httpx
import psycopg2
import pytest
import yaml
from guide import Bash
from inference_stack import Stack

from inference_contract import statefile
from inference_contract.inferencemodel import Reason
from inference_operator.cluster.metrics import ClusterMetrics

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent
CHART = ROOT / "charts" / "inference-server"
GUIDE = (ROOT / "docs" / "operations.md").read_text()
SECTION = re.compile(r"^## (.+)\n", re.MULTILINE)
OF_THE_COMMAND = re.compile("unknown|usage|must specify|required|invalid", re.IGNORECASE)
RECORDS = """#!{python}
import json, sys
with open({calls!r}, "a") as calls:
    calls.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
"""
"""In place of a tool: a line for each call."""
MODEL = f"""
apiVersion: inference-server.dev/v1alpha1
kind: InferenceModel
metadata: {{name: patient, namespace: admin}}
spec:
  type: custom
  source: {{path: {HERE / "models"}}}
  engine: {{className: "patient:Patient"}}
  inputSchema:
    text: {{type: string}}
    until: {{type: string, default: ""}}
"""


def sections() -> dict[str, str]:
    """Heading → what stands under it, in order; the first has none."""
    first, *rest = SECTION.split(GUIDE)
    return {"": first, **dict(zip(rest[::2], rest[1::2], strict=True))}


def rows(section: str) -> list[list[str]]:
    """The cells of its tables' rows, heads and rules left out."""
    lines = [line for line in sections()[section].splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


class Client:
    """Of one home's server, as its administrator; asks on a new connection each time."""

    def __init__(self, home: Path) -> None:
        state = statefile.read(home / "run" / "supervisor.json") or {}
        self.url, self.database_url = str(state["url"]), str(state["database_url"])
        self._headers = {"Authorization": f"Bearer {(home / 'token').read_text().strip()}"}

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        options = {"headers": self._headers, "timeout": 30, **options}
        return httpx.request(method, self.url + path, **options)

    def create(self, text: str, until: Path | None = None) -> str:
        inputs = {"text": text, "until": str(until or "")}
        body = {"model_id": "admin/patient", "input": inputs}
        return str(self.call("POST", "/v1/predictions", json=body).raise_for_status().json()["id"])

    def get(self, prediction: str) -> Any:
        return self.call("GET", f"/v1/predictions/{prediction}").raise_for_status().json()

    def secret(self) -> str:
        """That signs the webhooks."""
        return str(self.call("GET", "/v1/webhooks/default/secret").json()["key"])

    def has(self, prediction: str, status: str) -> Callable[[], bool]:
        return lambda: self.get(prediction)["status"] == status

    def crashes(self, prediction: str) -> int:
        connection = psycopg2.connect(self.database_url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT crashes FROM predictions WHERE id = %s", (prediction,))
                return int(cursor.fetchall()[0][0])
        finally:
            connection.close()


class Guided:
    """The guide's blocks for one machine, run section by section in one session."""

    def __init__(self, bash: Bash) -> None:
        self._bash = bash
        self._left = list(sections())

    def read(self, last: str) -> str:
        """Run all that is left, up to this section's end. Returns what the last block wrote."""
        written = ""
        while True:
            heading = self._left.pop(0)
            for block in guide.blocks(sections()[heading]):
                if block.language == "bash":
                    script = block.text.replace(".venv/bin/", f"{BIN}/")
                    written = self._bash.run(script.replace("--port 8001", "--port 0"))
            if heading == last:
                return written


@pytest.fixture
def server(new_home: Callable[..., Stack]) -> Iterator[Stack]:
    """With leases of 6 s, for a prediction that runs at the backup is waited for so long."""
    made = new_home(LEASE_SECONDS="6").start()
    folder = made.home.parent
    try:
        yield made
    finally:
        for until in ("backed-up", "restored-up"):
            (folder / until).touch()
        if (folder / "restored").exists():
            made.run("down", "--home", str(folder / "restored"))


def _apply(stack: Stack, folder: Path) -> None:
    (folder / "patient.yaml").write_text(MODEL)
    done = stack.run("models", "apply", "-f", str(folder / "patient.yaml"))
    assert done.returncode == 0, done.stderr


def test_one_machine(server: Stack, wait_until: Callable[..., Any]) -> None:
    folder = server.home.parent
    _apply(server, folder)
    with Bash(server.env, folder) as bash:
        guided = Guided(bash)
        guided.read("Metrics")
        before = Client(server.home)
        ended = before.create("ended")
        wait_until(before.has(ended, "succeeded"), 60)
        guided.read("Limits and quotas")

        before = Client(server.home)
        row = before.get(ended)
        running = before.create("running", folder / "backed-up")
        wait_until(before.has(running, "processing"), 60)
        waiting = before.create("waiting")
        listed = guided.read("Backup and restore")
        assert all(prediction in listed for prediction in (ended, running, waiting))
        (folder / "backed-up").touch()

        after = Client(folder / "restored")
        urls = {"urls": None}
        assert after.get(ended) | urls == row | urls
        for prediction, output in ((running, "RUNNING"), (waiting, "WAITING")):
            wait_until(after.has(prediction, "succeeded"), 60)
            assert after.get(prediction)["output"] == output
        assert (after.crashes(running), after.crashes(waiting)) == (1, 0)
        late = before.create("late")
        assert after.call("GET", f"/v1/predictions/{late}").status_code == 404

        access = _access_token(after, "ada")
        secret = after.secret()
        guided.read("Secrets")
        after = Client(folder / "restored")
        assert after.secret() not in (secret, "")
        headers = {"Authorization": f"Bearer {access}"}
        assert after.call("GET", "/v1/account", headers=headers).status_code == 401

        newest = after.create("newest")
        wait_until(after.has(newest, "succeeded"), 60)
        story = guided.read("Logs")
        assert newest in story
        guided.read("Troubleshooting")


def _access_token(client: Client, username: str) -> str:
    account = {"username": username, "email": f"{username}@example.com", "password": "a-password-"}
    client.call("POST", "/v1/auth/register", json=account).raise_for_status()
    login = {"username": username, "password": account["password"]}
    return str(client.call("POST", "/v1/auth/token", data=login, headers={}).json()["access_token"])


def exported(text: str) -> set[str]:
    """Names of what /metrics shows; what the client library adds by itself as `process_*`."""
    names = re.findall(r"^# HELP (\S+)", text, re.MULTILINE)
    ours = {name for name in names if not name.endswith("_created")}
    return {re.sub(r"^(process|python)_.*", r"\1_*", name) for name in ours}


def _of_all_modules() -> set[str]:
    """Whatever a module of the gateway registers: on one machine some are not imported."""
    script = """if True:
        import importlib, pkgutil, prometheus_client, inference_gateway
        for found in pkgutil.walk_packages(inference_gateway.__path__, "inference_gateway."):
            if not found.name.endswith(("__main__", ".env")):
                importlib.import_module(found.name)
        print(prometheus_client.generate_latest().decode())
    """
    argv = [sys.executable, "-c", script]
    return exported(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def test_every_metric_that_a_process_exports_has_a_row(
    stack: Stack, tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    documented = {
        process: {name.strip("`") for name, of, *_ in rows("Metrics") if process in of.split(", ")}
        for process in ("gateway", "dispatch", "operator", "kubernetes", "runner")
    }
    _apply(stack, tmp_path)
    client = Client(stack.home)
    wait_until(client.has(client.create("wake"), "succeeded"), 60)
    status = stack.run("status").stdout
    found = dict(re.findall(r"^(\w+) .*(http://\S+/metrics)$", status, re.MULTILINE))
    assert set(found) == {"gateway", "dispatch", "operator", "runner"}
    real = {process: exported(httpx.get(url).text) for process, url in found.items()}
    real["kubernetes"] = exported(ClusterMetrics().exposition().decode())
    real["gateway"] |= _of_all_modules() - real["dispatch"]  # On Kubernetes it has more.
    assert real == documented


def test_every_alert_of_the_chart_has_a_row() -> None:
    rule = (CHART / "templates" / "prometheusrule.yaml").read_text()
    alerts = re.findall(r"- alert: (\w+)", rule)
    assert sorted(row[0].strip("`") for row in rows("Alerts")) == sorted(alerts)


def test_every_reason_for_which_a_model_is_not_ready_has_a_row() -> None:
    passing = {Reason.READY, Reason.SCALED_TO_ZERO, Reason.STARTING}
    passing |= {Reason.DOWNLOADING_MODEL, Reason.LOADING_MODEL}
    text = GUIDE[GUIDE.index("### A model does not start") :].partition("\n### ")[0]
    named = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\|([^|]+)\|", text, re.MULTILINE)))
    assert sorted(named) == sorted(set(Reason) - passing)


def test_what_it_links_to_is_there() -> None:
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", GUIDE):
        target = ROOT / "docs" / (file or "operations.md")
        assert target.exists(), file
        headings = re.findall(r"^#+ (.+)$", target.read_text() if anchor else "", re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}
        assert not anchor or anchor in slugs, f"{file}#{anchor}"


def _tool(name: str) -> str:
    """From PATH, or built by `make cluster`."""
    cluster = Path(os.environ.get("CLUSTER_DIR") or Path.home() / ".cache" / "inference-cluster")
    found = shutil.which(name) or shutil.which(name, path=str(cluster / "bin"))
    if found is None:
        missing = f"no {name}: put it into PATH, or run `make cluster`, which builds it"
        (pytest.fail if "CI" in os.environ else pytest.skip)(missing)
    return found


def _recorded(folder: Path) -> list[list[str]]:
    """The commands of the guide's cluster blocks, as bash gives them to helm and kubectl."""
    tools = folder / "tools"
    tools.mkdir()
    calls = str(folder / "calls")
    for name in ("helm", "kubectl", "jq"):
        (tools / name).write_text(RECORDS.format(python=sys.executable, name=name, calls=calls))
        (tools / name).chmod(0o755)
    found = [block.text for block in guide.blocks(GUIDE) if block.language == "sh"]
    of_a_cluster = [text for text in found if re.search(r"^(helm|kubectl) ", text, re.MULTILINE)]
    with Bash({**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}, folder) as bash:
        for text in of_a_cluster:
            bash.run(text)
    lines = [json.loads(line) for line in Path(calls).read_text().splitlines()]
    return [call for call in lines if call[0] != "jq"]


def _rendered(arguments: Iterable[str]) -> subprocess.CompletedProcess[str]:
    argv = [_tool("helm"), "template", "inference", str(CHART), "--kube-version", "1.34.0"]
    return subprocess.run([*argv, *arguments], capture_output=True, text=True, check=False)


def _values(call: list[str]) -> list[str]:
    """What an upgrade sets."""
    return [word for pair in pairwise(call) if pair[0].startswith("--set") for word in pair]


def test_what_it_says_of_a_cluster(tmp_path: Path) -> None:
    calls = _recorded(tmp_path)
    made = yaml.safe_load_all(_rendered(["--namespace", "inference"]).stdout)
    names = {found["metadata"]["name"] for found in made if found}
    nowhere = {**os.environ, "KUBECONFIG": os.devnull, "HELM_NAMESPACE": "inference"}
    for call in calls:
        assert not _complaint(call, nowhere), call
        if call[:2] == ["helm", "upgrade"]:
            done = _rendered(_values(call))
            assert done.returncode == 0, f"{call}\n{done.stderr}"
        for word in call:
            if "inference-inference-server" in word:
                name = word.partition("/")[2] or word
                assert name.removesuffix("-0") in names, call


def _complaint(call: list[str], env: Mapping[str, str]) -> str:
    """Of the real tool, where there is no cluster: about the command, not about the cluster."""
    argv = [_tool(call[0]), *call[1:]]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run(argv, env=env, cwd=ROOT, timeout=60, check=False, **options)
    return done.stderr if OF_THE_COMMAND.search(done.stderr) else ""
