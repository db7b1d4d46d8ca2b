"""What the commands share: errors in one line, numbers as options, files that are never half.

@terminal.reporting
def main(argv=None): ...

with terminal.replacing('out.mid') as file:
    file.write(...)
"""

import argparse
import contextlib
import errno
import functools
import math
import os
import pathlib
import signal
import stat
import sys
import threading


class UserError(ValueError):
    """Something that a user can mend. The message is one line: what is wrong, where, what to do."""


class WrongUse(UserError):
    """A command was called in a wrong way; the message is one line. `reporting` ends it with 2."""


def reporting(main):
    """Decorator: what a user can cause ends a main(argv=None) with one line on stderr and code 1.

    That is a UserError, an OSError, a lack of memory, or a loss that is no number; the code of a
    WrongUse is 2. SIGTERM ends it with SystemExit, so that nothing is left half done.
    """
    program = pathlib.Path(main.__code__.co_filename).name

    @functools.wraps(main)
    def wrapped(argv=None):
        for name in ('stdout', 'stderr'):
            stream = getattr(sys, name)
            if stream is None:  # it was closed (>&-) or never there (pythonw)
                setattr(sys, name, open(os.devnull, 'w'))
            if hasattr(stream, 'reconfigure'):  # Japanese also through pipes and on Windows
                stream.reconfigure(encoding='utf-8', errors='replace')
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see quiet_imports
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with contextlib.redirect_stderr(Screen(sys.stderr)), _exit_on_sigterm():
                return main(argv)
        except (UserError, FloatingPointError) as error:
            message, code = str(error), 2 if isinstance(error, WrongUse) else 1
        except BrokenPipeError:  # the reader (| head) has had enough
            discard(sys.stdout)
            return 0
        except (OSError, MemoryError) as error:
            message, code = message_of(error), 1
        except KeyboardInterrupt:
            return 130
        complain(program, message)
        return code

    return wrapped


@contextlib.contextmanager
def _exit_on_sigterm():
    """Inside, SIGTERM raises SystemExit: `replacing` takes away its file, helpers are ended."""

    def leave(number, frame):
        raise SystemExit(128 + number)

    is_default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not is_default or threading.current_thread() is not threading.main_thread():
        yield  # somebody else cares, or no handler can be set here
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def message_of(error):
    """What an exception says to a user (str), '' if nothing."""
    if isinstance(error, OSError):
        return f'{error.filename or "writing"}: {error.strerror or error}'
    return f'{"not enough memory: " * isinstance(error, MemoryError)}{error}'


def complain(program, message):
    """Prints an error (str) to stderr in one line, whatever a strange file has put into it."""
    Screen(sys.stderr).write(
        f'{program}: {"".join(c if c.isprintable() else " " for c in message[:2000])}\n'
    )


def quiet_imports():
    """Lets Ctrl-C end a program without traceback also while it still imports, which takes seconds.

    `reporting` undoes it. What ignores Ctrl-C, as a job in the background, goes on to.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


class Screen:
    """stdout or stderr of a long run, which goes on when nobody can read it any more.

    That is when the reader goes away (| head), the terminal is closed, or the disk is full.
    """

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        self._try(self._stream.write, text)

    def flush(self):
        self._try(self._stream.flush)

    def _try(self, action, *args):
        try:
            action(*args)
        except OSError:
            discard(self._stream)


def discard(stream):
    """Lets all further output to a stream vanish, also what Python flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def number(kind, low, high=None):
    """An argparse type: an int or float from low to high; without high, an int to 2**31 - 1."""
    most = 2**31 - 1 if high is None and kind is int else math.inf if high is None else high

    def parse(text):
        value = kind(text)
        if not low <= value <= most or value == math.inf:  # nan is not between them either
            raise argparse.ArgumentTypeError(
                f'{text} is not {low} or more'
                if high is None and not value > most
                else f'{text} is not from {low} to {most}'
            )
        return value

    parse.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return parse


def opened(path):
    """A binary file to read from. OSError, also for a device, which may have no end."""
    if stat.S_ISCHR(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, 'a device, not a file', str(path))
    return open(path, 'rb')


def beside(path):
    """The hidden file (pathlib.Path) that `replacing` writes; a killed process leaves it behind."""
    path = pathlib.Path(path)
    return path.with_name(f'.{path.name}.part')


@contextlib.contextmanager
def replacing(path):
    """Opens a binary file that takes the place of `path` once it is whole.

    Written beside `path` under a hidden name, flushed to the disk, then renamed:
    at every moment `path` is either the old file or the new one. If anything
    fails (OSError: full disk, unwritable folder), the old one stays. What is no
    ordinary file, a pipe or /dev/null, is written to as it is.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        try:
            with open(path, 'wb') as file:
                yield file
        except OSError as error:
            error.filename = path
            raise
        return
    target = os.path.realpath(path)  # a link stays one
    partial = beside(target)
    file = None
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        file = open(partial, 'xb')  # not through a link that somebody has laid there
        yield file
        file.flush()
        os.fsync(file.fileno())
        file.close()
        os.replace(partial, target)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = path
        with contextlib.suppress(OSError):  # a full disk fails here a second time
            if file:
                file.close()
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
