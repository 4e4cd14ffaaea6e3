"""The programs of the pages on embedding, each with the real packages: real servers, a real worker, a real kernel."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentkit import Assistant
from agentkit.models.scripted import call
from agentkit.testing import DeepSeekSimulator, Failure, Late, Reply, SimRequest
from tests.kit import unmeasured

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs are ended by the signals of POSIX")

PROGRAMS = ROOT / "examples" / "embedding"
TITLED = re.compile(r'^```python title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def environment(simulator: DeepSeekSimulator, **more: object) -> dict[str, str]:
    own = {"AGENTKIT_BASE_URL": simulator.base_url, "AGENTKIT_API_KEY": "test", "PYTHONIOENCODING": "utf-8"}
    return {**os.environ, **own, **{name: str(value) for name, value in more.items()}}


@contextmanager
def program(
    *command: str, env: dict[str, str], cwd: Path, until: str, fails: bool = False, kill: bool = False
) -> Iterator[re.Match[str]]:
    """A process that runs as long as the block. The match is of the line that says that it is ready.

    It must print no traceback, unless it `fails` in the middle. It is asked to end, or `kill`ed with its children.
    """
    process = subprocess.Popen(
        [sys.executable, *command],
        env=unmeasured(env),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    )
    assert process.stdout
    lines: list[str] = []
    deadline = threading.Timer(40, process.kill)
    deadline.start()
    try:
        for line in process.stdout:
            lines.append(line)
            if found := re.search(until, line):
                break
        else:
            raise AssertionError(f"it ended before it was ready:\n{''.join(lines)}")
        rest = threading.Thread(target=lambda: lines.extend(process.stdout or ()))  # or its pipe would be full
        rest.start()
        yield found
        os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGINT)
        process.wait(30)
        rest.join(30)
        assert ("Traceback" in "".join(lines)) is fails, "".join(lines)
    except BaseException:
        raise
    finally:
        deadline.cancel()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def uvicorn(app: str, env: dict[str, str], cwd: Path) -> Any:
    command = ("-W", "error", "-m", "uvicorn", "--app-dir", str(PROGRAMS), "--port", "0", app)
    return program(*command, env=env, cwd=cwd, until=r"running on (http://127\.0\.0\.1:\d+)")


def chairs(request: SimRequest) -> Any:
    return f"There are {request.last['content']}." if request.last["role"] == "tool" else call("stock", item="chair")


def test_fastapi(tmp_path: Path) -> None:
    with DeepSeekSimulator(chairs) as simulator, uvicorn("fastapi_app:app", environment(simulator), tmp_path) as ready:
        asked = {"question": "How many chairs?"}
        assert httpx.get(f"{ready[1]}/ask", params=asked).json() == {"answer": "There are 12.", "stop_reason": "answer"}
        assert httpx.get(f"{ready[1]}/text", params=asked).text == "There are 12."
        events = httpx.get(f"{ready[1]}/events", params=asked)
        assert events.headers["content-type"].startswith("text/event-stream")
        names = re.findall(r"^event: (\w+)$", events.text, re.MULTILINE)
        assert names[0] == "RunStarted" and "ToolFinished" in names and names[-1] == "RunFinished"


def test_fastapi_says_that_the_model_does_not_answer(tmp_path: Path) -> None:
    with (
        DeepSeekSimulator([Failure(status=401, message="no such key")]) as simulator,
        uvicorn("fastapi_app:app", environment(simulator), tmp_path) as ready,
    ):
        refused = httpx.get(f"{ready[1]}/ask", params={"question": "Hi"})
    assert (refused.status_code, refused.json()) == (502, {"detail": "the model does not answer"})


def orders(request: SimRequest) -> Any:
    if request.last["role"] == "tool":
        return f"It is: {request.last['content']}."
    return call("find_order", number=str(request.last["content"]).split()[-1])


def test_django_under_asgi(tmp_path: Path) -> None:
    with (
        DeepSeekSimulator(orders) as simulator,
        uvicorn("django_app:application", environment(simulator, SHOP_DB=tmp_path / "shop.db"), tmp_path) as ready,
    ):
        found = httpx.get(f"{ready[1]}/ask", params={"question": "Where is A-17"})
        assert found.json() == {"answer": "It is: shipped.", "stop_reason": "answer"}
        assert httpx.get(f"{ready[1]}/stream", params={"question": "Where is A-17"}).text == "It is: shipped."
        missing = httpx.get(f"{ready[1]}/ask", params={"question": "Where is B-1"}).json()
        assert missing["answer"] == "It is: error: there is no order B-1."


WATCHED = """
import os
import socket

import django_app
from agentkit import RunFinished


def watch(event):
    if isinstance(event, RunFinished):
        with socket.create_connection(("127.0.0.1", int(os.environ["WATCHER"]))) as told:
            told.sendall(event.stop_reason.encode())


django_app.agent = django_app.agent.copy(observers=[watch])
application = django_app.application
"""


def test_django_takes_a_database_that_is_there(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db, db:
        db.execute("CREATE TABLE shop_order (number varchar(20) PRIMARY KEY, state varchar(100) NOT NULL)")
        db.execute("INSERT INTO shop_order VALUES ('B-1', 'packed')")
    with DeepSeekSimulator(orders) as simulator, uvicorn("django_app:application", environment(simulator), tmp_path) as ready:
        assert httpx.get(f"{ready[1]}/ask", params={"question": "Where is B-1"}).json()["answer"] == "It is: packed."
        assert "no order A-17" in httpx.get(f"{ready[1]}/ask", params={"question": "Where is A-17"}).text


def test_a_client_of_django_that_leaves_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "watched.py").write_text(WATCHED)
    with (
        DeepSeekSimulator([Late("word " * 100, seconds=15, after=10)]) as simulator,
        socket.create_server(("127.0.0.1", 0)) as watcher,
    ):
        path = os.pathsep.join(map(str, (tmp_path, ROOT)))
        env = environment(simulator, SHOP_DB=tmp_path / "shop.db", WATCHER=watcher.getsockname()[1], PYTHONPATH=path)
        with uvicorn("watched:application", env, tmp_path) as ready:
            with httpx.stream("GET", f"{ready[1]}/stream", params={"question": "Hi"}) as response:
                assert "word" in next(response.iter_text())
            watcher.settimeout(20)
            told, _ = watcher.accept()
            with told:
                assert told.recv(100) == b"cancelled"


SERVE = """
import sys
from wsgiref.simple_server import make_server
sys.path.insert(0, sys.argv[1])
import django_app
with make_server("127.0.0.1", 0, django_app.wsgi) as server:
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
"""


def test_django_under_wsgi(tmp_path: Path) -> None:
    with DeepSeekSimulator(orders) as simulator:
        env = environment(simulator, SHOP_DB=tmp_path / "shop.db")
        with program("-c", SERVE, str(PROGRAMS), env=env, cwd=tmp_path, until=r"(http://127\S+)") as ready:
            found = httpx.get(f"{ready[1]}/ask", params={"question": "Where is A-17"})
            assert found.json() == {"answer": "It is: shipped.", "stop_reason": "answer"}
            assert httpx.get(f"{ready[1]}/stream", params={"question": "Where is A-17"}).text == "It is: shipped."


def reserving(request: SimRequest) -> Any:
    return f"Done: {request.last['content']}." if request.last["role"] == "tool" else call("reserve", item="chair", pieces=2)


SEND = """
import sys
sys.path.insert(0, sys.argv[1])
from celery_tasks import work
print(work.delay("Reserve two chairs.").get(timeout=30))
"""
KILLED = """
import os
import celery_tasks
from agentkit import tool
from agentkit.store import open_store


@tool(idempotent=True)
def reserve(item: str, pieces: int) -> str:
    \"\"\"Reserve pieces of an item.\"\"\"
    mark = celery_tasks.folder / "killed"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), 9)
    return f"reserved {pieces} of {item}"


app = celery_tasks.app
app.conf.worker_lost_wait = 0.1
celery_tasks.agent = celery_tasks.agent.copy(tools=[reserve])
celery_tasks.store = open_store(str(celery_tasks.folder / "runs.db"), lease=1)
"""


def celery(name: str, env: dict[str, str], cwd: Path, fails: bool = False) -> Any:
    command = ("-m", "celery", "-A", name, "worker", "--concurrency", "1", "--loglevel", "INFO")
    return program(*command, env=env, cwd=cwd, until=r"ready\.", fails=fails, kill=True)


def sent(env: dict[str, str], cwd: Path) -> str:
    command = [sys.executable, "-c", SEND, str(PROGRAMS)]
    ended = subprocess.run(command, env=env, cwd=cwd, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_celery(tmp_path: Path) -> None:
    with DeepSeekSimulator(reserving) as simulator:
        env = environment(simulator, SHOP_FOLDER=tmp_path, PYTHONPATH=f"{PROGRAMS}{os.pathsep}{ROOT}")
        with celery("celery_tasks", env, tmp_path):
            assert sent(env, tmp_path) == "Done: reserved 2 of chair.\n"
        assert (tmp_path / "reserved-chair").read_text() == "2"


def test_celery_goes_on_after_its_worker_was_killed(tmp_path: Path) -> None:
    (tmp_path / "killed_tasks.py").write_text(KILLED)
    with DeepSeekSimulator(reserving) as simulator:
        path = os.pathsep.join(map(str, (tmp_path, PROGRAMS, ROOT)))
        env = environment(simulator, SHOP_FOLDER=tmp_path, PYTHONPATH=path)
        with celery("killed_tasks", env, tmp_path, fails=True):
            assert sent(env, tmp_path) == "Done: reserved 2 of chair.\n"
        assert (tmp_path / "killed").exists()
        assert len(simulator.requests) == 2  # the first reply was not asked for again


def people(request: SimRequest) -> Any:
    if request.last["role"] == "tool":
        return f"{request.last['content']} people."
    return call("population", city="Rome" if "Rome" in request.last["content"] else "Paris")


def test_jupyter(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(PROGRAMS / "notebook.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert not any(cell.outputs for cell in notebook.cells)
    notebook.cells.append(
        nbformat.v4.new_code_cell('agent.run_sync("Is Rome large?").output')  # type: ignore[no-untyped-call]
    )  # blocks the loop, without a warning
    with DeepSeekSimulator(people) as simulator:
        NotebookClient(notebook, timeout=60, resources={"metadata": {"path": tmp_path}}).execute(env=environment(simulator))
    shown = [[output.get("text") or output["data"]["text/plain"] for output in cell.outputs] for cell in notebook.cells]
    both = "{'Rome': '2749000 people.', 'Paris': '2103000 people.'}"
    assert ["".join(texts) for texts in shown] == ["", "'2749000 people.'", "2103000 people.", both, "'2749000 people.'"]


def script(simulator: DeepSeekSimulator, *arguments: str, **env: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(PROGRAMS / "script.py"), *arguments]
    return subprocess.run(
        command,
        env=environment(simulator, **env),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        input="A day at sea.",
    )


def test_a_script() -> None:
    with DeepSeekSimulator(["About the sea."]) as simulator:
        ended = script(simulator, "What is it about?")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "About the sea.\n", "")
        assert simulator.requests[0].last["content"] == "What is it about?\n\nA day at sea."
        assert script(simulator).returncode == 2


def test_a_script_that_fails_says_why() -> None:
    with DeepSeekSimulator([Failure(status=401, message="no such key")]) as simulator:
        ended = script(simulator, "What is it about?")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: HTTP 401: no such key")


def test_a_script_whose_answer_was_cut_says_so() -> None:
    with DeepSeekSimulator([Reply(Assistant("About the"), finish_reason="length")]) as simulator:
        ended = script(simulator, "What is it about?")
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "About the\n", "stopped: limit:max_tokens\n")


def source_of(name: str) -> str:
    """The text of a program as a page shows it: a notebook as its cells, with an empty line between them."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if not name.endswith(".ipynb"):
        return text
    cells = json.loads(text)["cells"]
    return "\n\n\n".join("".join(cell["source"]) for cell in cells) + "\n"


def test_the_pages_show_the_programs_that_are_tested_here() -> None:
    shown = []
    for page in (ROOT / "docs").rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert len(re.findall(r"^ *```python *\S", text, re.MULTILINE)) == len(TITLED.findall(text)), (
            f"{page.name}: a block that nobody runs"
        )
        for name, code in TITLED.findall(text):
            assert code == source_of(name), f"{page.name} does not show {name} as it is"
            shown.append(Path(name).name)
    assert sorted(shown) == sorted(path.name for path in PROGRAMS.iterdir() if path.is_file())
