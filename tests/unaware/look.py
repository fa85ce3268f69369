"""Say what a process can see of itself."""

import faulthandler
import gc
import json
import locale
import os
import re
import resource
import signal
import sys
import threading
import warnings


def named(handler):
    return str(getattr(handler, "__qualname__", handler))


def status(field):
    with open("/proc/self/status", encoding="ascii") as file:
        return next(line.split()[1] for line in file if line.startswith(field))


def descriptors():
    """Say which files are open, without the numbers in their names."""
    places = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    names = [os.readlink(place) for place in places if os.path.exists(place)]
    return sorted(re.sub(r"\d+", "N", name) for name in names)


def wait_for_feeders():
    """Wait for threads that have fed a queue of multiprocessing and close its pipe as they end."""
    for thread in threading.enumerate():
        if thread.name == "QueueFeederThread":
            thread.join(5)


def look():
    wait_for_feeders()
    main = sys.modules["__main__"]
    return {
        "environment": dict(os.environ),
        "path": sys.path,
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "flags": repr(sys.flags),
        "executable": [sys.executable, sys.prefix, sys.base_prefix],
        "main": [
            main.__name__,
            main.__file__,
            main.__spec__ is None,
            main.__package__,
            sorted(vars(main)),
        ],
        "modules": sorted(sys.modules),
        "hooks": [
            sys.excepthook is sys.__excepthook__,
            sys.displayhook is sys.__displayhook__,
            sys.unraisablehook is sys.__unraisablehook__,
            threading.excepthook is threading.__excepthook__,
            sys.breakpointhook is sys.__breakpointhook__,
            repr(sys.gettrace()),
            repr(sys.getprofile()),
            len(sys.path_hooks),
            sys.flags.dev_mode,
            repr(sys.warnoptions),
            len(warnings.filters),
        ],
        "threads": [thread.name for thread in threading.enumerate()],
        "native threads": len(os.listdir("/proc/self/task")),
        "descriptors": descriptors(),
        "streams": [
            [type(s).__name__, s.encoding, s.errors, s.line_buffering, s.isatty(), s.name]
            for s in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "cwd": os.getcwd(),
        "umask": status("Umask"),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "affinity": sorted(os.sched_getaffinity(0)),
        "signals": {s.name: named(signal.getsignal(s)) for s in signal.Signals},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "limits": [resource.getrlimit(limit) for limit in range(16)],
        "collector": [gc.get_threshold(), gc.isenabled(), gc.get_freeze_count(), gc.get_debug()],
        "recursion": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "locale": locale.setlocale(locale.LC_ALL),
        "faulthandler": faulthandler.is_enabled(),
    }


if __name__ == "__main__":
    print(json.dumps(look()))
