"""The commands and their options."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from .exits import UsageError, exit_for, reported
from .store_app import add_store_commands

__all__ = ["app"]

EPILOG = (
    "Exit codes: 0 an answer; 1 the run failed; 2 wrong usage, a missing key or setting; 3 ended at a limit; "
    "4 a call waits for an approval; 130 interrupted."
)

app = typer.Typer(
    name="agentkit",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"agentkit {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Agents built on function calling. `agentkit demo` needs no key and no network."""


Task = Annotated[str, typer.Argument(metavar="TASK", help="What to do; - reads it from the standard input.")]
Tools = Annotated[
    list[str] | None, typer.Option("--tools", "-t", metavar="FILE|MODULE", help="Tools from here; can be given again.")
]
Files = Annotated[str | None, typer.Option(metavar="DIR", help="Let it read the files under DIR, and calculate.")]
AgentName = Annotated[
    str | None,
    typer.Option(
        "--agent", "-a", metavar="MODULE:NAME", help="Your own agent, or a function that makes it; also file.py:name."
    ),
]
ModelName = Annotated[str | None, typer.Option("--model", "-m", help="The model's name.")]
BaseUrl = Annotated[str | None, typer.Option(metavar="URL", help="The server, such as http://localhost:8000/v1.")]
Instructions = Annotated[str | None, typer.Option("--instructions", "-i", help="The system message.")]
MaxSteps = Annotated[
    int | None, typer.Option(min=1, help="Most model calls of one run before a last answer; 20 unless the agent says.")
]
Thinking = Annotated[bool | None, typer.Option("--thinking/--no-thinking", help="Let the model think first.")]
Effort = Annotated[str | None, typer.Option(metavar="EFFORT", help="How hard it thinks: low, medium, high or max.")]
Stream = Annotated[bool | None, typer.Option("--stream/--no-stream", help="Ask the server for a stream (it does).")]
Json = Annotated[bool, typer.Option("--json", help="Events as JSON lines; the last has type Result.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but the answer.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command(epilog=EPILOG)
def run(
    task: Task,
    *,
    tools: Tools = None,
    files: Files = None,
    agent: AgentName = None,
    model: ModelName = None,
    base_url: BaseUrl = None,
    instructions: Instructions = None,
    max_steps: MaxSteps = None,
    thinking: Thinking = None,
    effort: Effort = None,
    stream: Stream = None,
    json_lines: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run an agent on one task, and show what it does."""
    with reported(debug=debug):
        from .render import AnswerOnly, JsonLines, LiveView, View
        from .screen import open_screen
        from .session import AgentOptions, Session, build_agent, terminal_approve

        screen = open_screen()
        options = AgentOptions(
            tools=tools or (), files=files, agent=agent, model=model, base_url=base_url, instructions=instructions,
            max_steps=max_steps, thinking=thinking, effort=effort, stream=stream,
        )  # fmt: skip
        prompt = _prompt(task)
        built = build_agent(options, None if json_lines else terminal_approve(screen))
        view: View = JsonLines(sys.stdout) if json_lines else AnswerOnly(sys.stdout) if quiet else LiveView(screen)
        with Session(built) as session:
            result = session.turn(prompt, view)
        code = exit_for(result)
    raise typer.Exit(code)


@app.command(epilog="The exit code is that of the last answer, as for run.")
def chat(
    *,
    tools: Tools = None,
    files: Files = None,
    agent: AgentName = None,
    model: ModelName = None,
    base_url: BaseUrl = None,
    instructions: Instructions = None,
    max_steps: MaxSteps = None,
    thinking: Thinking = None,
    effort: Effort = None,
    stream: Stream = None,
    resume: Annotated[bool, typer.Option("--resume", "-r", help="Go on with the newest kept conversation.")] = False,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Keep the conversation in a file (it does).")] = True,
    debug: Debug = False,
) -> None:
    """Talk with an agent; it remembers what was said."""
    with reported(debug=debug):
        from .chat import BANNER, COMMANDS
        from .conversation import history_file
        from .screen import open_screen
        from .session import AgentOptions, is_terminal
        from .start_chat import start_chat
        from .typed import Typed

        screen = open_screen()
        options = AgentOptions(
            tools=tools or (), files=files, agent=agent, model=model, base_url=base_url, instructions=instructions,
            max_steps=max_steps, thinking=thinking, effort=effort, stream=stream,
        )  # fmt: skip
        conversation = start_chat(options, screen, resume=resume, keep=keep)
        if is_terminal(sys.stdin):
            screen.line(BANNER, "dim")
        typed = Typed(screen, COMMANDS, history_file() if keep else None)
        code = conversation.talk(typed, typed.interrupted)
    raise typer.Exit(code)


@app.command("map", epilog="Exit codes: 0 all have an answer; 1 some have none; 2 wrong usage; 130 interrupted.")
def map_inputs(
    inputs: Annotated[str, typer.Argument(metavar="FILE", help="One input a line: JSON in .jsonl, else text; - is stdin.")],
    *,
    out: Annotated[str | None, typer.Option("--out", "-o", metavar="FILE", help="Append the results here.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="Runs at a time.")] = 8,
    db: Annotated[str | None, typer.Option("--db", metavar="URL", help="Keep the runs in this store.")] = None,
    run_id: Annotated[str | None, typer.Option("--run-id", help="Name of the job. Given again, it goes on.")] = None,
    tools: Tools = None,
    agent: AgentName = None,
    model: ModelName = None,
    base_url: BaseUrl = None,
    instructions: Instructions = None,
    max_steps: MaxSteps = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run an agent on each line of a file. Each result is a line of JSON, written when its run ends."""
    with reported(debug=debug):
        from .map_inputs import map_file, read_inputs
        from .session import AgentOptions, build_agent

        read = read_inputs(inputs)
        options = AgentOptions(
            tools=tools or (), agent=agent, model=model, base_url=base_url, instructions=instructions, max_steps=max_steps
        )
        made = build_agent(options)
        code = map_file(made, read, out=out, concurrency=concurrency, quiet=quiet, db=db, run_id=run_id)
    raise typer.Exit(code)


@app.command("tools")
def list_tools(
    sources: Annotated[list[str], typer.Argument(metavar="FILE|MODULE...", help="Where the tools are.")],
    as_json: Annotated[bool, typer.Option("--json", help="The schemas in the form of the API.")] = False,
    debug: Debug = False,
) -> None:
    """Show the tools of a file or module, as the model will see them."""
    with reported(debug=debug):
        from .load import load_tools
        from .screen import console_for
        from .show import show_tools

        found = load_tools(sources)
        if as_json:
            typer.echo(json.dumps([item.schema() for item in found], indent=2))
        else:
            show_tools(found, console_for(sys.stdout))


@app.command("check-endpoint")
def check_endpoint(
    *,
    model: ModelName = None,
    base_url: BaseUrl = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would send and cost.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Find out what a server supports, what it does wrongly, and which profile fits. Sends about twenty small requests."""
    with reported(debug=debug):
        from .check import run_checks
        from .exits import Exit
        from .screen import console_for

        code: Exit = run_checks(model, base_url, console_for(sys.stdout), dry_run=dry_run, as_json=as_json)
    raise typer.Exit(code)


@app.command()
def simulator(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8765,
    scenario: Annotated[
        str | None, typer.Option(metavar="NAME", help="How it answers; a wrong name lists all. Else: a tool call, or an echo.")
    ] = None,
    context_length: Annotated[int | None, typer.Option(min=1, help="Its context window in tokens, for small models.")] = None,
    delay: Annotated[float, typer.Option(min=0, help="Seconds before each answer.")] = 0.0,
    debug: Debug = False,
) -> None:
    """Serve a strict offline endpoint on this machine, so that `run` and `chat` can be tried without a key."""
    with reported(debug=debug):
        from .exits import Exit
        from .screen import open_screen
        from .simulate import serve_simulator

        code: Exit = serve_simulator(
            open_screen(), port=port, scenario=scenario, context_length=context_length, delay=delay
        )  # fmt: skip
    raise typer.Exit(code)


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="NAME", help="The project's name; a path for another place.")],
    debug: Debug = False,
) -> None:
    """Make a small project: an agent, two tools, tests that run offline, and CI."""
    with reported(debug=debug):
        from .new import make_project
        from .screen import open_screen

        make_project(folder, open_screen())


@app.command()
def demo(
    files: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Work on the files in DIR; a new DIR gets the demo's files.")
    ] = None,
    crash: Annotated[
        bool, typer.Option("--crash", help="Kill a process that drives a run, and go on with the run in this one.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Watch an agent at work, offline and without a key: a simulator answers in the place of a language model."""
    with reported(debug=debug):
        from .exits import Exit
        from .screen import open_screen

        code: Exit
        if crash:
            from .demo_crash import run_crash_demo

            if files is not None:
                raise UsageError("--crash and --files exclude each other")
            code = run_crash_demo(open_screen())
        else:
            from .demo import run_demo

            code = run_demo(open_screen(), files)
    raise typer.Exit(code)


add_store_commands(app)


def _prompt(task: str) -> str:
    prompt = task if task != "-" else sys.stdin.read() if sys.stdin else ""
    if not prompt.strip():
        raise UsageError('the task is empty; say what to do: agentkit run "..."')
    return prompt
