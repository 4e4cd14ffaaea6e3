from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from agentkit import ModelRetry
from agentkit_tools import shell

BASE = os.path.realpath(sys.executable)
"""Python outside of its virtual environment, which would read no packages of HOME."""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the programs of these tests are POSIX")


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux adopts processes that leave their group")


def landlock(wanted: int = 2) -> bool:
    """Whether this kernel has that version of Landlock, which keeps a program from looking into other processes."""
    if sys.platform != "linux":
        return False
    version: int = ctypes.CDLL(None).syscall(444, None, ctypes.c_long(0), ctypes.c_long(1))
    return version >= wanted


def python(tmp_path: Path, code: str, **options: Any) -> str:
    """What the tool says of a Python program; `python` is allowed by its whole path."""
    (tmp_path / "program.py").write_text(code)
    made = shell([sys.executable], cwd=tmp_path, **options)
    return str(asyncio.run(made(f"{sys.executable} program.py")))


def test_exit_code_and_output(tmp_path: Path) -> None:
    shown = python(tmp_path, "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)")
    assert shown == "[exit code 3; 8 bytes of output]\nout\nerr"
    assert python(tmp_path, "pass") == "[exit code 0; 0 bytes of output]"
    assert python(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)").startswith("[killed by SIGTERM;")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("rm -rf .", "'rm -rf .' is not allowed; a command starts with one of: echo, git status"),
        ("", "is not allowed"),
        ("git push", "is not allowed"),
        ("git -c core.pager=x status", "is not allowed"),
        ("/bin/echo x", "is not allowed"),
        ("./echo x", "is not allowed"),
        ("echo2 x", "is not allowed"),
        ("X=1 echo x", "is not allowed"),
        ("'echo x'", "is not allowed"),
        ("echo x; rm y", "';' is shell syntax"),
        ("echo x && rm y", "'&' is shell syntax"),
        ("echo x | sh", "'.' is shell syntax"),
        ("echo x > f", "'>' is shell syntax"),
        ("echo < f", "'<' is shell syntax"),
        ("echo $(id)", "'\\$' is shell syntax"),
        ("echo `id`", "'`' is shell syntax"),
        ('echo "`id`"', "'`' is shell syntax"),
        ('echo "$HOME"', "'\\$' is shell syntax"),
        ("echo$IFS-x", "'\\$' is shell syntax"),
        ("echo x\nrm y", "is shell syntax"),
        ("echo 'a\0b'", "NUL character"),
        ("echo 'x", "cannot be split"),
        ("echo x\\", "cannot be split"),
    ],
)
def test_what_is_not_allowed_is_not_run(tmp_path: Path, command: str, words: str) -> None:
    made = shell(["echo", "git status"], cwd=tmp_path)
    with pytest.raises(ModelRetry, match=words):
        asyncio.run(made(command))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("echo '; rm -rf $(id) `id` && x > y'", "; rm -rf $(id) `id` && x > y"),
        ('echo "a; b" \\$HOME \\;', "a; b $HOME ;"),
        ("echo * ~ --output=/etc/x", "* ~ --output=/etc/x"),
        ("echo 'a\nb'", "a\nb"),
        ("echo '' \"it's\"", " it's"),
    ],
)
def test_words_reach_the_program_as_they_are(tmp_path: Path, command: str, shown: str) -> None:
    assert asyncio.run(shell(["echo"], cwd=tmp_path)(command)).split("\n", 1)[1] == shown


def test_the_environment_has_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_API_KEY", "canary")
    made = shell(["env"], cwd=tmp_path, env={"EXTRA": "1"})
    lines = asyncio.run(made("env")).split("\n")[1:]
    names = {line.partition("=")[0] for line in lines}
    assert names == {"PATH", "HOME", "LANG", "EXTRA"}
    assert "canary" not in "".join(lines)
    assert "EXTRA" not in repr(made)


HOME = """
import os, stat
home = os.environ["HOME"]
print(home, os.listdir(home), oct(os.stat(home).st_mode & 0o777))
os.makedirs(f"{home}/left/behind")
open(f"{home}/left/.gitconfig", "w")
"""


def test_home_is_new_empty_and_private_and_does_not_stay(tmp_path: Path) -> None:
    homes = set()
    for _ in range(2):
        home, *rest = python(tmp_path, HOME).split("\n")[1].split()
        assert rest == ["[]", "0o700"]
        assert not Path(home).exists()
        homes.add(home)
    assert len(homes) == 2
    assert asyncio.run(shell(["env"], env={"HOME": str(tmp_path)})("env")).endswith(f"\nHOME={tmp_path}")
    assert tmp_path.exists()


def test_no_settings_of_the_folder_are_taken_for_the_users(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    ran = tmp_path / "ran"
    (tmp_path / ".gitconfig").write_text(f"[core]\n\tfsmonitor = touch {ran}; false\n")
    assert asyncio.run(shell(["git status"], cwd=tmp_path)("git status")).startswith("[exit code 0;")
    assert not ran.exists()


def test_a_home_that_is_given_starts_no_programs(tmp_path: Path) -> None:
    site = subprocess.run([BASE, "-m", "site", "--user-site"], env={"HOME": str(tmp_path)}, capture_output=True, check=False)
    packages = Path(site.stdout.decode().strip())
    packages.mkdir(parents=True)
    (packages / "usercustomize.py").write_text("print('packages of HOME')\n")
    (tmp_path / ".gitconfig").write_text("[alias]\n\thi = !echo settings of HOME\n")
    commands = {"git hi": "settings of HOME", f"{BASE} -c ''": "packages of HOME"}
    for env, is_read in (({}, False), ({"GIT_CONFIG_GLOBAL": f"{tmp_path}/.gitconfig", "PYTHONNOUSERSITE": ""}, True)):
        made = shell([*commands], cwd=tmp_path, env={"HOME": str(tmp_path), **env})
        assert [words in asyncio.run(made(command)) for command, words in commands.items()] == [is_read, is_read]


@linux_only
@pytest.mark.parametrize("file", ["environ", "mem", "maps", "fd/0"])
def test_the_program_cannot_look_into_this_process(tmp_path: Path, file: str) -> None:
    if not landlock() and os.getuid():
        pytest.skip("this kernel has no Landlock")
    code = f"""
        import os
        def parents():
            pid = os.getppid()
            while pid > 1:
                yield pid
                pid = int(open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[1])
        found = [*parents()]
        assert {os.getpid()} in found
        for pid in found:
            try:
                open(f"/proc/{{pid}}/{file}")
            except PermissionError:
                print("closed")
            else:
                print("open", pid)
    """
    lines = python(tmp_path, textwrap.dedent(code)).split("\n")
    assert lines[0].startswith("[exit code 0;")
    assert len(lines) > 2 and {*lines[1:]} == {"closed"}


@linux_only
def test_the_program_gains_no_privileges_and_cannot_signal_what_is_outside(tmp_path: Path) -> None:
    code = "import os; print(*[line.strip() for line in open('/proc/self/status') if line.startswith('NoNewPrivs')]); "
    assert python(tmp_path, f"{code}").endswith("NoNewPrivs:\t1")
    if landlock(6):
        shown = python(tmp_path, f"import os, signal\nfor pid in (os.getppid(), {os.getpid()}): os.kill(pid, signal.SIGTERM)")
        assert "PermissionError" in shown


@linux_only
def test_files_can_still_be_moved_between_folders(tmp_path: Path) -> None:
    code = "import os; os.makedirs('a'); os.makedirs('b'); open('a/f', 'w'); os.rename('a/f', 'b/f'); os.link('b/f', 'a/g')"
    assert python(tmp_path, code).startswith("[exit code 0;")


def test_it_starts_in_its_folder_with_no_input_and_private_files(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd()); print(repr(sys.stdin.read())); open('made', 'w')"
    assert python(tmp_path, code).split("\n")[1:] == [str(tmp_path.resolve()), "''"]
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0


LIMITS = """
import json, resource
names = ("CORE", "CPU", "FSIZE", "DATA", "AS", "NPROC")
print(json.dumps({name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] for name in names}))
"""


@linux_only
def test_processes_are_limited(tmp_path: Path) -> None:
    def limits(**options: Any) -> dict[str, int]:
        found: dict[str, int] = json.loads(python(tmp_path, LIMITS, **options).split("\n")[1])
        return found

    found = limits(timeout=7.5, max_file_bytes=1024, max_memory_bytes=500_000_000, max_processes=77)
    processes = found.pop("NPROC")
    assert found == {"CORE": 0, "CPU": 8, "FSIZE": 1024, "DATA": 500_000_000, "AS": 8_000_000_000}
    assert 77 < processes < 20_000
    assert limits()["DATA"] == 4_000_000_000
    free = limits(max_memory_bytes=None, max_processes=None)
    assert (free["AS"], free["DATA"]) == tuple(
        resource.getrlimit(kind)[1] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    )
    assert free["NPROC"] == resource.getrlimit(resource.RLIMIT_NPROC)[1]


@linux_only
def test_memory_and_processes_run_out(tmp_path: Path) -> None:
    assert "MemoryError" in python(tmp_path, "x = bytearray(400_000_000)", max_memory_bytes=300_000_000)
    if os.getuid():  # the kernel does not count root's processes
        code = "import subprocess\nfor _ in range(50): subprocess.Popen(['sleep', '60'])"
        assert "BlockingIOError" in python(tmp_path, code, max_processes=20)


def test_output_is_cut_in_the_middle(tmp_path: Path) -> None:
    code = "import sys\nfor n in range(30_000): print(f'{n:09}')"
    shown = python(tmp_path, code, max_output=40)
    assert shown == (
        "[exit code 0; 300,000 bytes of output]\n000000000\n000000001\n\n"
        "[cut: 299,960 bytes of 300,000 left out here; ask for less output]\n000029998\n000029999"
    )
    assert python(tmp_path, "print('x' * 39)", max_output=40).endswith("]\n" + "x" * 39)


def test_binary_output_is_shown_as_text(tmp_path: Path) -> None:
    shown = python(tmp_path, "import os; os.write(1, b'a\\0\\xffb')")
    assert shown.split("\n")[1:] == ["[not valid utf-8: 1 unreadable character shown as �]", "a��b"]


def test_a_flood_is_drained_and_killed() -> None:
    started = time.monotonic()
    shown = asyncio.run(shell(["yes"], timeout=1.5, max_output=100)("yes"))
    assert time.monotonic() - started < 3.5
    assert shown.startswith("[killed: still running after 1.5 seconds;")
    assert len(shown) < 300
    assert "[cut: " in shown


def test_many_calls_leave_no_descriptor(tmp_path: Path) -> None:
    made = shell(["echo"], cwd=tmp_path)

    def descriptors() -> int:
        return len([*Path("/dev/fd").iterdir()])

    async def go() -> tuple[int, int]:
        await made("echo warm")
        before = descriptors()
        shown = await asyncio.gather(*(made(f"echo {number}") for number in range(20)))
        assert [text.split("\n")[1] for text in shown] == [str(number) for number in range(20)]
        return before, descriptors()

    before, after = asyncio.run(go())
    assert after == before


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelRetry, match="'no-such-program' is allowed but not installed"):
        asyncio.run(shell(["no-such-program"])("no-such-program"))
    with pytest.raises(ValueError, match="empty entry"):
        shell([""])
    with pytest.raises(ValueError, match="is no folder"):
        shell(["ls"], cwd=tmp_path / "missing")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": float("inf")}, "timeout is inf; give seconds: a finite number above 0"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"timeout": None}, "timeout is None"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": "30"}, "timeout is '30'"),
        ({"max_output": -1}, "max_output is -1; give a whole number from 0"),
        ({"max_output": None}, "max_output is None"),
        ({"max_file_bytes": "1"}, "max_file_bytes is '1'"),
        ({"max_memory_bytes": 4e9}, "max_memory_bytes is 4000000000.0"),
        ({"max_processes": -1}, "max_processes is -1"),
        ({"env": {"KEY": "sec\0ret"}}, r"env\['KEY'\] cannot be passed to a program; give a text without NUL"),
        ({"env": {"KEY": 5}}, r"env\['KEY'\] cannot be passed"),
        ({"env": {"KEY": "\ud800"}}, r"env\['KEY'\] cannot be passed"),
        ({"env": {"A\0": "x"}}, "env has the name 'A.x00'; give a text without '=' and NUL"),
        ({"env": {"A=B": "x"}}, "env has the name 'A=B'"),
        ({"env": {"": "x"}}, "env has the name ''"),
        ({"env": {5: "x"}}, "env has the name 5"),
    ],
)
def test_what_no_call_could_use_is_refused_when_the_tool_is_made(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        shell(["echo"], **options)
    assert "sec" not in str(refused.value).replace("seconds", "")


def test_a_limit_larger_than_the_system_knows_limits_nothing(tmp_path: Path) -> None:
    assert python(tmp_path, "print('ran')", max_file_bytes=10**30, max_memory_bytes=10**30).endswith("\nran")


def test_a_program_beside_the_agent_does_not_shadow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "echo").write_text("#!/bin/sh\necho evil\n")
    (tmp_path / "echo").chmod(0o755)
    assert asyncio.run(shell(["echo"], cwd=tmp_path)("echo good")).endswith("\ngood")
    with pytest.raises(ModelRetry, match="not installed"):
        asyncio.run(shell(["echo"], cwd=tmp_path, env={"PATH": "."})("echo good"))


@pytest.mark.parametrize("name", ["./run", "sub/run", "./sub/../run", "../beside/run"])
def test_a_program_with_a_slash_is_a_path_from_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    made = shell([name], cwd=folder)
    with pytest.raises(ModelRetry, match="is allowed but not installed here"):
        asyncio.run(made(name))
    (folder / name).write_text("#!/bin/sh\necho ran $1\n")
    with pytest.raises(ModelRetry, match="is allowed but not installed here"):
        asyncio.run(made(name))
    (folder / name).chmod(0o755)
    assert asyncio.run(made(f"{name} here")) == "[exit code 0; 9 bytes of output]\nran here"
    with pytest.raises(ModelRetry, match="is not allowed"):
        asyncio.run(made("run"))


@linux_only
def test_shared_memory_does_not_count(tmp_path: Path) -> None:
    """As the docs say. If this fails, the docs can promise more."""
    code = "import mmap; shared = mmap.mmap(-1, 400_000_000); shared[399_999_999] = 1; print('mapped')"
    assert python(tmp_path, code, max_memory_bytes=100_000_000).endswith("\nmapped")
    code = code.replace("400_000_000", "400_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS")
    assert "Cannot allocate memory" in python(tmp_path, code, max_memory_bytes=100_000_000)


def test_a_program_that_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("#!/no/such/interpreter\n")
    (tmp_path / "broken").chmod(0o755)
    shown = asyncio.run(shell([f"{tmp_path}/broken"])(f"{tmp_path}/broken"))
    assert shown == "[exit code 126; 53 bytes of output]\nthe program cannot be run: No such file or directory"


def test_a_command_has_bounded_length(tmp_path: Path) -> None:
    made = shell(["echo"], cwd=tmp_path)
    with pytest.raises(ModelRetry, match=r"the command has 600,005 characters; allowed: 30,000; put large texts into a file"):
        asyncio.run(made("echo " + "x" * 600_000))
    assert asyncio.run(made("echo " + "x" * 29_995)).startswith("[exit code 0; 29,996 bytes")
    with pytest.raises(ModelRetry, match="half of a surrogate pair"):
        asyncio.run(made("echo \ud800"))


def test_through_the_tool(tmp_path: Path) -> None:
    made = shell(["echo", "git status"], cwd=tmp_path)
    assert asyncio.run(made.call({"command": "echo hi"})) == "[exit code 0; 3 bytes of output]\nhi"
    assert made.description.endswith("Allowed: echo, git status.")
    assert (made.name, made.read_only, made.destructive, made.output) == ("run_command", False, True, "untrusted")
    assert (made.open_world, made.sensitive) == (True, ("command",))
