"""What the simulator answers in the demo: the next move of an analyst, worked out from the tools' results so far.

Nothing here knows the demo's files. Each answer is a function of the request, as a model's is: what is there is found with
`find_files`, what a file says is read out of `read_file`'s result, and numbers come from `calculate`.
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
class _Done:
    """A tool call with its answer."""

    name: str
    arguments: dict[str, Any]
    content: str

    @property
    def failed(self) -> bool:
        return self.content.startswith("error: ")


@dataclass(frozen=True, slots=True)
class _Case:
    """What was found out: the sales of the month, by region, and the rule for discounts."""

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
        """What is to be calculated: all sales, the discount, and what is left."""
        gross = " + ".join(str(amount) for amount in self.sales.values())
        discounted = " + ".join(str(self.sales[region]) for region in self.big) or "0"
        discount = f"({discounted}) * {self.percent} / 100"
        return [gross, discount, f"{gross} - {discount}"]


def next_move(request: SimRequest) -> Assistant:
    """The next message of the analyst: thinking, and calls or the answer."""
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


def _rules_path(named: str, texts: dict[str, str], done: list[_Done], found: list[str]) -> str | Assistant:
    """The file of the rules, once it is read; until then the call that reads it, by another name after an error."""
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


def _worked_out(report: dict[str, Any], table: str, rules: str, done: list[_Done]) -> Assistant:
    month, rule = str(report["month"]), _RULE.search(rules)
    rows = [row for row in csv.DictReader(table.splitlines()) if row["month"] == month]
    if not rows or rule is None:
        missing = f"no sales in {month!r}" if not rows else "no rule such as 'at least 5,000 ... 4 %'"
        return Assistant(f"I cannot work it out: there is {missing} in the files.")
    sales = {row["region"]: int(row["amount"]) for row in rows}
    threshold = int(rule[1].rstrip(".,").replace(",", ""))
    return _calculated(_Case(month, str(report.get("currency", "")), sales, threshold, rule[2]), done)


def _calculated(case: _Case, done: list[_Done]) -> Assistant:
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


def _body(item: _Done) -> str:
    """A file's text out of `read_file`'s result, whose first line is a note in brackets."""
    return item.content.partition("\n")[2]


def _results(messages: Sequence[dict[str, Any]]) -> list[_Done]:
    answers = {message["tool_call_id"]: str(message["content"]) for message in messages if message["role"] == "tool"}
    made = [made for message in messages for made in message.get("tool_calls") or ()]
    return [
        _Done(one["function"]["name"], json.loads(one["function"]["arguments"]), answers[one["id"]])
        for one in made
        if one["id"] in answers
    ]
