"""The simulator's replies in the demo: the next move of an analyst, derived from the tools' results so far.

Nothing here knows the demo's files. Each reply is a function of the request, as with a real model: files are found with
`find_files`, their contents come from results of `read_file`, and numbers come from `calculate`.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..messages import Assistant, ToolCall
from ..models.scripted import call
from ..testing import SimRequest

__all__ = ["next_move"]

_RULE = re.compile(r"at least\s+([\d,.]+).*?([\d.]+)\s*%", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class _AnsweredCall:
    """A tool call with its result."""

    name: str
    arguments: dict[str, Any]
    content: str

    @property
    def failed(self) -> bool:
        return self.content.startswith("error: ")


@dataclass(frozen=True, slots=True)
class _Case:
    """The facts found so far: the sales of the month by region, and the discount rule."""

    month: str
    currency: str
    sales: dict[str, int]
    threshold: int
    percent: str

    @property
    def big(self) -> list[str]:
        """The regions that get the discount."""
        return [region for region, amount in self.sales.items() if amount >= self.threshold]

    def expressions(self) -> list[str]:
        """The expressions to calculate: all sales, the discount, and the remainder."""
        gross = " + ".join(str(amount) for amount in self.sales.values())
        discounted = " + ".join(str(self.sales[region]) for region in self.big) or "0"
        discount = f"({discounted}) * {self.percent} / 100"
        return [gross, discount, f"{gross} - {discount}"]


def next_move(request: SimRequest) -> Assistant:
    """The next message of the analyst: thinking, and either calls or the answer."""
    done = _results(request.messages)
    found = next((item.content.splitlines() for item in done if item.name == "find_files" and not item.failed), None)
    if found is None:
        return _calls("I do not know these files yet. First I look at what is there.", call("find_files", pattern="*"))
    config, table = _ending(found, ".toml"), _ending(found, ".csv")
    if config is None or table is None:
        return Assistant(f"I need a .toml file that names the month and a .csv file of sales. I found: {', '.join(found)}.")
    texts = {item.arguments.get("path", ""): _body(item) for item in done if item.name == "read_file" and not item.failed}
    unread = [path for path in (config, table) if path not in texts]
    if unread:
        thought = f"{config} should say which month, {table} has the numbers. Neither needs the other, so I read both at once."
        return _calls(thought, *(call("read_file", path=path) for path in unread))
    try:
        report = tomllib.loads(texts[config])["report"]
        rules = _rules_path(str(report["rules"]), texts, done, found)
        return rules if isinstance(rules, Assistant) else _worked_out(report, texts[table], texts[rules], done)
    except (KeyError, ValueError) as error:
        return Assistant(f"I cannot make sense of the files: {error!r}.")


def _rules_path(named: str, texts: dict[str, str], done: list[_AnsweredCall], found: list[str]) -> str | Assistant:
    """The path of the rules, if that file was read; otherwise the call that reads it, under another name after an error."""
    if named in texts:
        return named
    refused = next((item for item in done if item.failed and item.arguments.get("path") == named), None)
    if refused is None:
        return _calls(f"The configuration says that the rules for discounts are in {named}.", call("read_file", path=named))
    known = [path for path in found if path in refused.content] or difflib.get_close_matches(named, found, 1, 0.0)
    if known[0] in texts:
        return known[0]
    thought = f"There is no {named}: the configuration is out of date. The error names {known[0]}, so I read that."
    return _calls(thought, call("read_file", path=known[0]))


def _worked_out(report: dict[str, Any], table: str, rules: str, done: list[_AnsweredCall]) -> Assistant:
    month, rule = str(report["month"]), _RULE.search(rules)
    rows = [row for row in csv.DictReader(table.splitlines()) if row["month"] == month]
    if not rows or rule is None:
        missing = f"no sales in {month!r}" if not rows else "no rule such as 'at least 5,000 ... 4 %'"
        return Assistant(f"I cannot work it out: there is {missing} in the files.")
    sales = {row["region"]: int(row["amount"]) for row in rows}
    threshold = int(rule[1].rstrip(".,").replace(",", ""))
    return _calculated(_Case(month, str(report.get("currency", "")), sales, threshold, rule[2]), done)


def _calculated(case: _Case, done: list[_AnsweredCall]) -> Assistant:
    values = {item.arguments.get("expression"): item.content for item in done if item.name == "calculate"}
    expressions = case.expressions()
    if not all(expression in values for expression in expressions):
        regions = f"{', '.join(case.big)} sold" if case.big else "No region sold"
        thought = f"{regions} at least {case.threshold:,}. I do not add up in my head: three calculations, at once."
        return _calls(thought, *(call("calculate", expression=text) for text in expressions))
    gross, discount, net = (f"{_number(values[expression])} {case.currency}".strip() for expression in expressions)
    best = max(case.sales, key=lambda region: case.sales[region])
    who = f"{', '.join(case.big)} reached {case.threshold:,}" if case.big else f"no region reached {case.threshold:,}"
    return Assistant(
        f"In {case.month} the shop sold {gross} in {len(case.sales)} regions; {best} sold most.\n"
        f"The discount of {case.percent} % comes to {discount}: {who}.\n"
        f"After the discount {net} are left.",
        reasoning="Everything is there. I answer with the calculated numbers.",
    )


def _number(text: str) -> str:
    return f"{float(text):,.2f}".removesuffix(".00")


def _calls(thought: str, *tool_calls: ToolCall) -> Assistant:
    return Assistant(reasoning=thought, tool_calls=tool_calls)


def _ending(paths: Sequence[str], suffix: str) -> str | None:
    return next((path for path in paths if path.endswith(suffix)), None)


def _body(item: _AnsweredCall) -> str:
    """The text of a file from the result of `read_file`, whose first line is a note in brackets."""
    return item.content.partition("\n")[2]


def _results(messages: Sequence[dict[str, Any]]) -> list[_AnsweredCall]:
    answers = {message["tool_call_id"]: str(message["content"]) for message in messages if message["role"] == "tool"}
    calls = [made for message in messages for made in message.get("tool_calls") or ()]
    return [
        _AnsweredCall(one["function"]["name"], json.loads(one["function"]["arguments"]), answers[one["id"]])
        for one in calls
        if one["id"] in answers
    ]
