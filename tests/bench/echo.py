"""The overhead: an echo through the whole server, held against a bare app and stock RQ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import report
from load import Load
from processes import cpu_seconds
from servers import Server, bare_app, stock_rq
from stack import Stack

CONNECTIONS = (1, 16, 64)
TURNS = 7
SECONDS = 2
WARM_SECONDS = 1
Samples = dict[tuple[str, int], list[Load]]


def measure(stack: Stack) -> None:
    report.title("echo, synchronous: answers/s (each row committed before its job runs)")
    model = stack.custom_model("echo", "models:Echo")
    ours = Server("ours", stack.url, {**stack.headers, "Prefer": "wait=60"}, stack.groups)
    with bare_app() as bare, stock_rq() as rq:
        samples, cpu = _rounds([bare, rq, ours], model)
    _print_rates(samples)
    _print_cpu(cpu)
    stack.verify(model, ours.answered)


def creates(stack: Stack) -> None:
    report.title("asynchronous creates (the model runs them at the same time)")
    model = stack.custom_model("creates", "models:Echo")
    ours = Server("creates", stack.url, stack.headers, stack.groups)
    rates = []
    for _ in range(report.ROUNDS):
        rates.append(ours.load(model, 64, SECONDS).rate)
        stack.wait_until_done(model)
    report.target("creates/s at c = 64", report.middle(rates), 6000, at_least=True)
    stack.verify(model, ours.answered)


def _rounds(servers: list[Server], model: str) -> tuple[Samples, dict[str, list[float]]]:
    """All servers are up all the time; they take turns within each round."""
    samples: Samples = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    for _ in range(TURNS):
        for connections in CONNECTIONS:
            for server in servers:
                server.load(model, connections, WARM_SECONDS)
                before = cpu_seconds(server.groups())
                sample = server.load(model, connections, SECONDS)
                after = cpu_seconds(server.groups())
                samples[server.name, connections].append(sample)
                if server.name == "ours" and connections == 64:
                    for name, seconds in after.items():
                        spent = seconds - before.get(name, 0)
                        cpu[name].append(spent / max(sample.answers, 1) * 1e6)
    return samples, cpu


def _print_rates(samples: Samples) -> None:
    def median_of(name: str, connections: int, value: Callable[[Load], float]) -> float:
        return report.middle(value(sample) for sample in samples[name, connections])

    def ratio_of(name: str, connections: int) -> float:
        ours, bare = samples[name, connections], samples["bare", connections]
        return report.ratio((s.rate for s in ours), (s.rate for s in bare))

    names = list(dict.fromkeys(name for name, _ in samples))
    rows = []
    for connections in CONNECTIONS:
        for name in names:
            rate = median_of(name, connections, lambda sample: sample.rate)
            p50 = median_of(name, connections, lambda sample: sample.p50)
            p99 = median_of(name, connections, lambda sample: sample.p99)
            failures = sum(sample.failures for sample in samples[name, connections])
            cells = (
                f"{rate:,.0f}",
                f"{p50:.2f}",
                f"{p99:.1f}",
                f"{ratio_of(name, connections):.3f}",
                failures,
            )
            rows.append((f"c={connections} {name}", *cells))
    report.table(("", "answers/s", "p50 ms", "p99 ms", "of bare", "failures"), rows)
    at_16 = ratio_of("ours", 16)
    report.target("rate at c = 16, of the bare app's", at_16, 0.44, at_least=True)
    p50 = median_of("ours", 1, lambda sample: sample.p50)
    report.target("p50 at c = 1", p50, 2.5, " ms")


def _print_cpu(cpu: dict[str, list[float]]) -> None:
    print("\nwhere the time of one prediction goes: CPU µs at c = 64")
    middles = {name: report.middle(values) for name, values in cpu.items()}
    rows = [(name, f"{value:.0f}") for name, value in middles.items()]
    report.table(("process", "µs"), [*rows, ("in all", f"{sum(middles.values()):.0f}")])
