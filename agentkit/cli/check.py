"""The findings of `check-endpoint` as a table for people, or as JSON."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from ..models.chat import ChatModel
from ..models.endpoint_check import Finding, Report, check_endpoint, estimate
from .exits import Exit
from .text import clean, money

__all__ = ["run_checks"]

_MARKS = {"yes": ("✓", "green"), "no": ("–", "dim"), "broken": ("✗", "red"), "unknown": ("?", "yellow")}


def run_checks(name: str | None, base_url: str | None, console: Console, *, dry_run: bool, as_json: bool) -> Exit:
    """Print the estimated cost of the checks, run them, and print the findings and the cost.

    Returns FAILED if something is broken or nothing could be checked.
    """
    model = ChatModel(name, base_url=base_url)
    model.endpoint.require_key()
    if not as_json:
        _plan(model, console)
    if dry_run:
        return Exit.ANSWER
    report = asyncio.run(check_endpoint(model, None if as_json else lambda finding: _show(finding, console)))
    if as_json:
        console.file.write(json.dumps(_data(model, report), indent=2, ensure_ascii=False) + "\n")
    else:
        _summary(report, console)
    is_broken = any(finding.verdict == "broken" for finding in report.findings)
    return Exit.FAILED if is_broken or not report.usage.requests else Exit.ANSWER


def _plan(model: ChatModel, console: Console) -> None:
    requests, usage, cost = estimate(model)
    price = "a price that this profile does not know"
    if cost is not None:
        note = f" ({model.profile.price_note})" if model.profile.price_note else ""
        price = f"about {money(cost)} at most{note}"
    console.print(Text(f"{model.name} at {model.endpoint.base_url}, profile {model.profile.name}", "bold"))
    console.print(
        Text(f"at most {requests} requests, {usage.input_tokens:,} tokens in and {usage.output_tokens:,} out: {price}\n", "dim")
    )


def _show(finding: Finding, console: Console) -> None:
    mark, style = _MARKS[finding.verdict]
    line = Text(f"{mark} ", style)
    line.append(f"{finding.check:22}", "default")
    line.append(clean(finding.detail), "dim")
    console.print(line)


def _summary(report: Report, console: Console) -> None:
    usage = report.usage
    spent = f", {money(report.cost)}" if report.cost is not None else ""
    console.print(
        Text(f"\n{report.requests} requests, {usage.input_tokens:,} tokens in and {usage.output_tokens:,} out{spent}", "dim")
    )
    if report.sent_again:
        console.print(
            Text(f"{report.sent_again} of them a second time, because the connection failed or the reply was cut", "dim")
        )
    if report.mark:
        console.print(Text(f"the server says what it is ({clean(report.mark)}): profile={report.profile.name!r}", "bold"))
    if not report.usage.requests:
        console.print(Text("no answer, so nothing else was checked", "bold"))
        return
    if not report.settings:
        console.print(Text(f"the profile {report.profile.name} fits", "bold"))
        return
    changes = ", ".join(f"{name}={value!r}" for name, value in report.settings.items())
    console.print(Text("the profile that fits:", "bold"))
    console.print(
        Text(f"  dataclasses.replace(agentkit.models.profiles.profile_named({report.profile.name!r}), {changes})"),
        soft_wrap=True,
    )


def _data(model: ChatModel, report: Report) -> dict[str, object]:
    return {
        "model": model.name,
        "base_url": model.endpoint.base_url,
        "profile": report.profile.name,
        "mark": report.mark,
        "settings": report.settings,
        "findings": [asdict(finding) for finding in report.findings],
        "requests": report.requests,
        "sent_again": report.sent_again,
        "usage": asdict(report.usage),
        "cost": report.cost,
    }
