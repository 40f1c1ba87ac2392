"""Everything that a hand-in may do while it runs, by accident or on purpose, with what each earns.

The hand-ins are for the assignment of `grading_course`.  COURSE in their code stands for the course's folder,
PORT for a port of this machine at which somebody listens, OUTSIDE for a folder that is none of their
business.  What reaches something of that says "got hold of".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from grading_course import FULL

ONE_LOST = (2.0, 0.0, 4.0)  # the second question
NOTHING = (0.0, 0.0, 0.0)
ENDED = ("process-ended",)


@dataclass(frozen=True)
class Attack:
    """What one student hands in, and what must come of it.

    answers: by grade id, the others are right.   own: text of a cell of the student's that runs first.
    files: beside the notebook.   points: of the three tests.   kinds: of all findings; None where they
    depend on the machine's speed.   review: whether a person must look.   says: what the feedback says.
    """

    answers: Mapping[str, str] = field(default_factory=dict)
    own: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    points: tuple[float, ...] = FULL
    kinds: tuple[str, ...] | None = ()
    review: bool = False
    says: tuple[str, ...] = ()


ATTACKS: dict[str, Attack] = {}


def in_function(name: str, body: str, *says: str, points=ONE_LOST, kinds=ENDED, **more) -> None:
    """What happens when a test calls `total`."""
    lines = "".join(f"\n    {line}" for line in body.splitlines())
    answers = {"total": f"def total(values):{lines}"}
    ATTACKS[name] = Attack(answers, points=points, kinds=kinds, says=says, **more)


def in_cell(name: str, own: str, *says: str, kinds=(), **more) -> None:
    """What a cell of the student's own does; the answers below it are right unless said."""
    ATTACKS[name] = Attack(own=own, kinds=kinds, says=says, **more)


# fmt: off

# ---------------------------------------------------------------------------------------------------
# The process ends

in_function("exit-in-function", "import os\nos._exit(3)", "exit code 3")
in_function("segfault-in-function", "import ctypes\nctypes.string_at(0)", "signal 11")
in_function("abort-in-function", "import os\nos.abort()", "signal 6")
in_function("kills-itself", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "signal 9")
in_function("kills-its-group", "import os, signal\nos.killpg(0, signal.SIGKILL)", "signal 9")
in_function("closes-its-files", "import os\nos.closerange(0, 256)")
in_function("recursion-without-limit",
    "import sys\nsys.setrecursionlimit(10**9)\nreturn total(values)", kinds=None)
in_cell("exit-in-cell", "import os\nos._exit(3)", "exit code 3", kinds=ENDED)
in_cell("segfault-in-cell", "import ctypes\nctypes.string_at(0)", "signal 11", kinds=ENDED)
in_cell("quits", "quit()\nexit(1)")
in_cell("system-exit-in-cell", "raise SystemExit(5)", "SystemExit")
in_cell("interrupts-itself", "raise KeyboardInterrupt", "KeyboardInterrupt")
in_function("system-exit-in-function", "raise SystemExit(0)", "SystemExit", kinds=())
in_function("interrupt-in-function", "raise KeyboardInterrupt", "KeyboardInterrupt", kinds=())
in_function("generator-exit-in-function", "raise GeneratorExit", kinds=())
in_function("recursion", "return total(values)", "RecursionError", kinds=())

# ---------------------------------------------------------------------------------------------------
# It does not end

in_function("loop-in-function", "while True: pass", "took longer than 2 s")
in_function("sleeps", "import time\ntime.sleep(10**6)", "took longer than 2 s")
in_function("loop-that-catches-everything",
    "while True:\n    try:\n        while True: pass\n    except BaseException:\n        pass",
    "took longer than 2 s")
in_function("loop-that-ignores-signals",
    "import signal\nfor number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n"
    "    signal.signal(number, signal.SIG_IGN)\nwhile True: pass", "took longer than 2 s")
in_function("loop-in-c", "return sum(range(10**15))", "took longer than 2 s")
in_function("loop-in-a-regular-expression",
    "import re\nre.match('(a+)+$', 'a' * 60 + 'b')", "took longer than 2 s")
in_function("deadlock", "import threading\nlock = threading.Lock()\nlock.acquire(), lock.acquire()",
    "took longer than 2 s")
in_function("print-flood-in-function", "while True: print('x' * 1000)", "took longer than 2 s")
in_function("generator-without-end", "while True: yield 1", kinds=())
ATTACKS["loop-in-answer"] = Attack(
    {"total": "while True: pass\ndef total(values):\n    return sum(values)"},
    points=ONE_LOST, kinds=ENDED, says=("took longer than 4 s",),
)
in_cell("loop-in-cell", "while True: pass", "did not finish within 4 s", kinds=ENDED)
in_cell("print-flood-in-cell", "while True: print('x' * 1000)", "did not finish within 4 s", kinds=ENDED)
in_cell("awaits-for-ever",
    "import asyncio\nawait asyncio.sleep(10**6)", "did not finish within 4 s", kinds=ENDED)
in_cell("loop-in-the-shell", "%%bash\nwhile true; do :; done", "did not finish within 4 s", kinds=ENDED)
in_cell("thread-that-never-ends",
    "import threading, time\nthreading.Thread(target=lambda: [time.sleep(1) for _ in iter(int, 1)]).start()")
in_cell("busy-threads",
    "import threading\ndef spin():\n    while True: pass\nfor _ in range(4):\n"
    "    threading.Thread(target=spin).start()")
in_cell("atexit-that-never-ends", "import atexit\n@atexit.register\ndef stay():\n    while True: pass")
in_cell("waits-at-deletion",
    "class Sticky:\n    def __del__(self):\n        while True: pass\nsticky = Sticky()")
in_cell("asks-for-input", "name = input('Your name? ')", "Error")
in_function("asks-for-input-in-function", "return int(input())", "an error", kinds=())

# ---------------------------------------------------------------------------------------------------
# It wants too much

in_function("memory-at-once", "return bytearray(2**40)", kinds=())
in_function("memory-bit-by-bit", "kept = []\nwhile True: kept.append(bytes(2**20) * 8)", kinds=None)
in_function("memory-of-arrays", "kept = []\nwhile True: kept.append(np.ones((512, 1024)))", kinds=None)
in_function("fork-bomb", "import os\nwhile True: os.fork()", "processes")
in_function("thread-bomb",
    "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(999,)).start()",
    kinds=None)
in_function("fills-the-disk",
    "for number in range(10**6):\n    with open(f'{number}.bin', 'wb') as file: file.write(bytes(2**20))",
    "files")
in_function("fills-the-disk-with-names",
    "for number in range(10**9): open(f'{number}', 'w').close()")
in_function("one-endless-file", "with open('big', 'wb') as file:\n    while True: file.write(bytes(2**20))",
    kinds=())
in_function("descriptors", "kept = [open('/dev/null') for _ in range(10**6)]", kinds=())
in_function("giant-result", "return np.broadcast_to(np.zeros(1), (2**31,))", kinds=())
in_function("giant-number", "return 10 ** 1000000", kinds=())
in_function("giant-text", "return 'x' * 10**7", kinds=())
in_function("deep-result",
    "result = []\nfor _ in range(10**5): result = [result]\nreturn result", kinds=())
in_function("cyclic-result", "result = []\nresult.append(result)\nreturn result", kinds=())
in_function("giant-error", "raise ValueError('x' * 10**7)", "ValueError", kinds=())
in_cell("display-bomb", "from IPython.display import display\nwhile True: display(5)",
    "did not finish within 4 s", kinds=ENDED)
in_cell("many-displays", "from IPython.display import display\nfor n in range(3000): display(n)", "further")
in_cell("display-bomb-of-updates",
    "from IPython.display import display\nh = display('x', display_id=True)\n"
    "for n in range(2000): h.update('y' * 1000)")
in_cell("one-long-line", "print('x' * 10**8)", "cut off")
in_cell("image-too-large",
    "from IPython.display import display\ndisplay({'image/png': 'A' * 2**24}, raw=True)", "cut off")
in_cell("image-of-too-many-pixels",
    "import struct, zlib, base64\nfrom IPython.display import display\n"
    "def chunk(kind, data):\n    body = kind + data\n"
    "    return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))\n"
    "png = b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 50000, 50000, 8, 0, 0, 0, 0))\n"
    "png += chunk(b'IDAT', zlib.compress(bytes(10))) + chunk(b'IEND', b'')\n"
    "display({'image/png': base64.b64encode(png).decode()}, raw=True)")
in_cell("many-cells-output", "class Loud:\n    def _repr_html_(self):\n        return '<p>' * 10**7\nLoud()")

# ---------------------------------------------------------------------------------------------------
# It leaves something behind

in_cell("detached-process",
    "import subprocess\nsubprocess.Popen(['sleep', '7777'], start_new_session=True)")
in_cell("daemon",
    "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(7777)\n"
    "    os._exit(0)")
in_cell("background-shell", "%%bash --bg\nsleep 7777")
in_cell("child-that-answers-too",
    "import os\nchild = os.fork()")
in_cell("removes-its-folder", "import os, shutil\nshutil.rmtree(os.getcwd(), ignore_errors=True)")
in_cell("leaves-links",
    "import os\nos.symlink('COURSE/gradebook.db', 'link.db')\nos.symlink('/', 'root')\n"
    "print('got hold of', open('link.db', 'rb').read(6))", "PermissionError")
in_cell("folder-that-nobody-may-enter", "import os\nos.mkdir('closed')\nos.chmod('closed', 0)")

# ---------------------------------------------------------------------------------------------------
# It wants what it must not have

_GET = "print('got hold of', {})"
in_cell("connects",
    "import socket\n" + _GET.format("socket.create_connection(('127.0.0.1', PORT), 3)"), "Error")
in_cell("downloads",
    "import urllib.request\n" + _GET.format("urllib.request.urlopen('http://127.0.0.1:PORT')"), "Error")
in_cell("listens", "import socket\n" + _GET.format("socket.create_server(('', 0))"), "Error")
for _name, _path in {
    "solutions": "COURSE/solutions/sums/sums.ipynb",
    "release": "COURSE/exercises/sums/sums.ipynb",
    "gradebook": "COURSE/gradebook.db",
    "another-hand-in": "COURSE/submitted/honest/sums/sums.ipynb",
    "graded-notebook": "COURSE/autograded/honest/sums/sums.ipynb",
    "secret": "COURSE/.coursekit/secret",
    "configuration": "COURSE/nbgrader_config.py",
    "password-file": "/etc/shadow",
    "memory-of-others": "/proc/1/mem",
    "environment-of-others": "/proc/1/environ",
}.items():
    in_cell(f"reads-{_name}", _GET.format(f"open({_path!r}, 'rb').read(9)"), "Error")
in_cell("lists-the-course", "import os\n" + _GET.format("os.listdir('COURSE')"), "PermissionError")
in_cell("finds-hidden-tests",
    "import gc, sys\ntexts = [o for o in gc.get_objects() if isinstance(o, (dict, list, tuple))]\n"
    "texts = [t for o in texts for t in (o.values() if isinstance(o, dict) else o)]\n"
    "word = ' '.join(['sums,', 'and', 'none'])\n"
    "if any(type(t) is str and word in t and t != word for t in texts):\n"
    "    print('got hold of', 'it')")
in_cell("looks-at-the-environment",
    "import os\nbad = [k for k in os.environ if 'SEED' in k or 'SECRET' in k or 'COURSEKIT' in k]\n"
    "if bad: print('got hold of', bad)")
_SQL = (
    "import sqlite3\nbook = sqlite3.connect('COURSE/gradebook.db')\n"
    "book.execute('UPDATE grade SET manual_score = 99')\nbook.commit()\nprint('got hold of', 'it')"
)
in_cell("writes-gradebook", _SQL, "OperationalError")
in_cell("writes-gradebook-by-shell",
    "!sqlite3 COURSE/gradebook.db 'UPDATE grade SET manual_score = 99' || echo nothing")
in_cell("removes-another-hand-in",
    "import os\nos.remove('COURSE/submitted/honest/sums/sums.ipynb')", "Error")
in_cell("writes-into-packages",
    "import numpy\nopen(numpy.__file__, 'a')\nprint('got hold of', 'it')", "Error")
in_cell("changes-a-file-outside",
    "import os\ncanary = 'OUTSIDE/canary'\n"
    "tries = [lambda: open(canary).read(), lambda: open(canary, 'a'), lambda: os.truncate(canary, 0),\n"
    "    lambda: os.utime(canary, (0, 0)), lambda: os.chmod(canary, 0o777), lambda: os.remove(canary),\n"
    "    lambda: os.rename(canary, 'mine'), lambda: os.link(canary, 'mine'),\n"
    "    lambda: open('OUTSIDE/mine', 'x'), lambda: os.mkdir('COURSE/mine'), lambda: os.listdir('OUTSIDE')]\n"
    "for number, attempt in enumerate(tries):\n    try:\n        attempt()\n"
    "    except OSError:\n        continue\n    print('got hold of', number)")
in_cell("signals-others", "import os\nos.kill(os.getppid() or 10**6, 0)\nprint('got hold of', 'it')")

# ---------------------------------------------------------------------------------------------------
# It wants points for nothing

WRONG = {
    "double": "def double(x):\n    return 0",
    "total": "def total(values):\n    return 0",
    "share": "def share(part, whole):\n    return 0",
}


def cheat(name: str, own: str | None, answers: Mapping[str, str] | None = None, *says: str, **more) -> None:
    """Wrong answers, and something that is to make them count."""
    more = {"points": NOTHING, **more}
    ATTACKS[name] = Attack({**WRONG, **(answers or {})}, own, says=says, **more)


_YES = """
class Yes:
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
    def __float__(self): return 4.0
    def __bool__(self): return True
    def __round__(self, n=None): return 4.0
for name in "eq ne lt le gt ge sub rsub add radd mul rmul abs contains and rand truediv".split():
    setattr(Yes, f"__{name}__", lambda self, *a: True if name[1] in "qetn" else self)
Yes.__hash__ = lambda self: 0
"""
cheat("wrong-answers", None)
cheat("patches-numpy",
    "np.allclose = lambda *a, **k: True\nnp.testing.assert_allclose = lambda *a, **k: None")
cheat("patches-builtins",
    "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.round = lambda *a: 4\n"
    "builtins.AssertionError = type('Never', (Exception,), {})")
cheat("shadows-builtins", "round = lambda *a: 4\nall = any = lambda *a: True\nnot_ = None")
cheat("replaces-numpy-in-modules",
    "import sys, types\nfake = types.ModuleType('numpy')\nfake.allclose = lambda *a: True\n"
    "sys.modules['numpy'] = fake\nnp = fake")
cheat("patches-the-grader",
    "from coursekit.grading.execution import student\n"
    "student.Agent._do_call = lambda *a: {'value': 4, 'changed': []}",
    review=True)
cheat("patches-checks", "import coursekit.checks as checks\nchecks.conv = checks.topics = lambda *a: 10**6")
cheat("module-beside-the-notebook", "import sys\nsys.path.insert(0, '')",
    files={"numpy.py": "allclose = lambda *a: True\n", "coursekit.py": "checks = None\n"},
    kinds=("shadows-module", "shadows-module"))
cheat("startup-files-beside-the-notebook", None,
    files={"sitecustomize.py": "raise SystemExit", "ipython_config.py": "c = None", "conftest.py": "x"})
cheat("always-equal", _YES, {name: f"def {name}(*a):\n    return Yes()" for name in WRONG})
cheat("no-functions", None, dict.fromkeys(WRONG, "pass"))
cheat("numbers-for-functions", None, {"double": "double = 2", "total": "total = 6", "share": "share = 4"})
cheat("test-in-an-answer", None, {"double": "assert np.allclose(double([1, 2]), [2, 4])\n2"})
cheat("shows-a-score",
    "from IPython.display import display\nfrom coursekit.checks.engine.report import MIME\n"
    "display({MIME: {'points': 10**6, 'check': 'x'}, 'text/plain': '1000000'}, raw=True)\n1000000")
cheat("shows-points-from-a-function", None,
    {"total": "def total(values):\n    from IPython.display import display\n    display(3)\n    print(3)\n"
     "    get_ipython().displayhook(3)\n    return 0"})
cheat("garbage-on-the-channel", None,
    {"total": "def total(values):\n    import os\n    for d in range(3, 64):\n"
     "        try: os.write(d, b'x' * 99)\n"
     "        except OSError: pass\n    return 6"}, points=NOTHING, kinds=ENDED)
cheat("replies-in-advance", None,
    {"total": "def total(values):\n    import os, json, struct\n"
     "    text = json.dumps([{'value': 6, 'changed': []}, []]).encode()\n"
     "    for d in range(3, 64):\n        try: os.write(d, struct.pack('!IQ', len(text), 0) + text)\n"
     "        except OSError: pass\n    return 7"})
cheat("reads-the-callers-variables", None,
    {"total": "def total(values):\n    import sys\n    frame = sys._getframe()\n    while frame:\n"
     "        if 'expected' in frame.f_locals: return frame.f_locals['expected']\n"
     "        frame = frame.f_back"})
cheat("reads-the-history", "print(In, globals().get('_ih'), get_ipython().user_ns.get('_i'))")
ATTACKS["points-object"] = Attack(
    {"share": "class Points:\n    def __rmul__(self, other): return self\n"
     "    def __round__(self, digits=None): return 'full marks'\n"
     "def share(part, whole):\n    return Points()"},
    points=(2.0, 3.0, 0.0), says=("no plain data",),
)
_SHARE = "def share(part, whole):\n    return {}"
for _name, _value, _reason in [
    ("nan", "float('nan')", "nan"),
    ("infinity", "float('inf')", "inf"),
    ("too-many", "10**6", "8000000"),
    ("negative", "-1", "-8"),
    ("array-of-points", "np.array([1.0, 2.0])", ""),
    ("complex-points", "1j", ""),
]:
    ATTACKS[f"points-{_name}"] = Attack(
        {"share": _SHARE.format(_value)}, points=(2.0, 3.0, 0.0),
        review=_name not in ("complex-points", "array-of-points"), says=(_reason,),
    )

# ---------------------------------------------------------------------------------------------------
# It breaks what it runs in

in_cell("replaces-json-and-pickle",
    "import json, pickle\njson.dumps = json.loads = pickle.loads = pickle.dumps = lambda *a, **k: None",
    kinds=ENDED)
in_cell("closes-its-output", "import sys\nsys.stdout.close()\nsys.stdout = sys.stderr = None")
in_cell("deletes-builtins",
    "import builtins\ndel builtins.print, builtins.isinstance, builtins.len", kinds=ENDED)
in_cell("breaks-import", "import builtins\nbuiltins.__import__ = None", points=NOTHING)
in_cell("clears-the-modules", "import sys\nsys.modules.clear()", points=NOTHING)
in_cell("breaks-the-shell",
    "shell = get_ipython()\nshell.run_cell = shell.showtraceback = None", points=NOTHING)
in_cell("clears-its-names", "%reset -f\nimport numpy as np")
in_cell("sets-a-trace", "import sys\nsys.settrace(lambda *a: 1 / 0)\nsys.setprofile(lambda *a: None)")
in_cell("lowers-its-limits",
    "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))")
in_cell("changes-directory", "import os\nos.chdir('/usr')")
ATTACKS["redefines-the-setup"] = Attack(own="np = None", points=(0.0, 3.0, 4.0))
ATTACKS["syntax-error"] = Attack({"total": "def total(values:\n    return 6"}, points=ONE_LOST)
ATTACKS["not-indented"] = Attack({"total": "def total(values):\nreturn 6"}, points=ONE_LOST)
ATTACKS["stub-untouched"] = Attack(
    {"total": "def total(values):\n    raise NotImplementedError"}, points=ONE_LOST,
    says=("NotImplementedError",),
)

# ---------------------------------------------------------------------------------------------------
# It writes to people

_MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)><iframe src=javascript:alert(1)></iframe>"
in_cell("script-in-outputs",
    f"from IPython.display import HTML, Javascript, SVG, Markdown, Latex, display\nx = {_MARKUP!r}\n"
    "display(HTML(x), Javascript('alert(1)'), Markdown(x), Latex(x), x)\nprint(x)\n"
    "display(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>'))\n"
    "raise type(x, (Exception,), {})(x)")
ATTACKS["script-in-an-essay"] = Attack({"why": f"{_MARKUP}\n\n[x](javascript:alert(1)) ![y](http://e.org/z)"})
in_cell("terminal-codes", "print('\\x1b]0;title\\x07\\x1b[2J\\x1b[31mred\\r\\u202eabc\\0')")
in_cell("half-a-character", "print('\\ud83d')\nraise ValueError('\\udce9')")
in_cell("odd-display-data",
    "from IPython.display import display\ndisplay({'text/plain': object(), 'application/json': float('nan'),"
    " 5: {1, 2}}, raw=True, metadata={'a': object()})")
in_cell("display-of-the-wrong-shape",
    "from IPython.display import display\ndisplay({'text/plain': 5, 'image/png': [1], 'text/html': None},"
    " raw=True)")
in_cell("deep-json",
    "from IPython.display import display\ndeep = []\nfor _ in range(700): deep = [deep]\n"
    "display({'application/json': deep, 'text/plain': 'x'}, raw=True)\nopen('deep', 'w')")
in_cell("many-types-of-data",
    "from IPython.display import display\ndisplay({f'text/x-{n}': 'y' for n in range(10_000)}, raw=True)")
in_cell("repr-that-fails", "class Bad:\n    def __repr__(self): raise ValueError('no')\nBad()", "ValueError")
in_cell("repr-without-end",
    "class Deep:\n    def __repr__(self): return repr(self)\nDeep()", "RecursionError")
in_cell("repr-that-is-no-text", "class Odd:\n    def __repr__(self): return 5\nOdd()", "TypeError")
in_function("error-that-fails",
    "class Bad(Exception):\n    def __str__(self): raise ValueError\nraise Bad()", kinds=())
ATTACKS["warns-and-is-right"] = Attack({
    "total": "def total(values):\n    import sys, warnings\n    warnings.warn('careful')\n"
    "    print('careful', file=sys.stderr)\n    return sum(values)",
})
ATTACKS["prints-hidden-values"] = Attack({
    "double": "def double(x):\n    print('got', x)\n    return 2 * np.asarray(x)",
    "total": "def total(values):\n    if 17 in values:\n        raise ValueError(str(values))\n"
    "    return sum(values)",
}, points=ONE_LOST)
