"""What the commands share: errors in one line, numbers as options, files that are never half.

@terminal.reporting
def main(argv=None): ...

with terminal.doing('reading'):
    ...
with terminal.replacing('out.mid') as file:
    file.write(...)
"""

import argparse
import contextlib
import datetime
import difflib
import errno
import functools
import itertools
import logging
import math
import os
import pathlib
import re
import shutil
import signal
import stat
import sys
import threading
import time

TELL_AFTER, TELL_EVERY = 2, 60  # seconds until a file or a pipe is told what takes so long

_under_way = []  # a threading.Event for each `doing`, the innermost last
_told = set()  # what this command has told a file or a pipe already
_imports = contextlib.ExitStack()


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
        _imports.close()
        _told.clear()
        for name in ('stdout', 'stderr'):
            stream = getattr(sys, name)
            if stream is None:  # it was closed (>&-) or never there (pythonw)
                setattr(sys, name, open(os.devnull, 'w', encoding='utf-8'))
            if hasattr(stream, 'reconfigure'):  # Japanese also through pipes and on Windows
                stream.reconfigure(encoding='utf-8', errors='replace', line_buffering=True)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see quiet_imports
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with contextlib.redirect_stderr(Screen(sys.stderr)), _exit_on_sigterm():
                code = main(argv)
                sys.stdout.flush()  # what fails at Python's own end, nobody would catch
                return code
        except BrokenPipeError:  # the reader (| head) has had enough
            discard(sys.stdout)
            return 0
        except (UserError, FloatingPointError, OSError, MemoryError) as error:
            message, code = message_of(error), 2 if isinstance(error, WrongUse) else 1
            try:
                sys.stdout.flush()
            except OSError:  # a full disk, to which Python would flush once more at its end
                discard(sys.stdout)
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
        missing = isinstance(error, FileNotFoundError) and error.filename
        near = files_like(error.filename) if missing else ''
        return f'{error.filename or "writing"}: {error.strerror or error}{near}'
    return f'{"not enough memory: " * isinstance(error, MemoryError)}{error}'


def complain(program, message):
    """Prints an error (str) to stderr in one line, whatever a strange file has put into it."""
    Screen(sys.stderr).write(
        f'{program}: {"".join(c if c.isprintable() else " " for c in message[:2000])}\n'
    )


def quiet_imports():
    """Lets Ctrl-C end a program without traceback also while it still imports, which takes seconds.

    A user sees that it does. `reporting` undoes both. What ignores Ctrl-C, as a job in the
    background, goes on to. A package that is missing is an error in one line.
    """
    sys.excepthook = _missing_package
    # it warns, in two lines, of a home that cannot be written
    logging.getLogger('matplotlib').setLevel(logging.ERROR)
    if sys.stderr:
        _imports.enter_context(doing('starting'))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _missing_package(kind, error, trace):
    """A sys.excepthook: a newcomer forgets to install, or to activate, what was installed."""
    _imports.close()
    if kind is not ModuleNotFoundError:
        sys.__excepthook__(kind, error, trace)
        return
    complain(
        pathlib.Path(sys.argv[0]).name,
        f'{error.name} is not installed for {sys.executable}: activate .venv, '
        'or see docs/installation.md',
    )


@contextlib.contextmanager
def doing(what, total=0):
    """Inside, a user sees on stderr what takes so long: `what` (str, ASCII).

    A screen shows it after half a second, with the time, until it is over. A file or a pipe gets a
    line after TELL_AFTER seconds, if it has not had the same already, and one every TELL_EVERY.
    total (int): how much there is to do, if that is known. What the `with` statement gives is to
    be called with each amount (int) that is done.
    """
    ended, began, done, last = threading.Event(), time.monotonic(), 0, 0
    stream, is_screen = sys.stderr, sys.stderr.isatty()

    def advance(amount):
        nonlocal done, last
        done, last = done + amount, time.monotonic() - began

    def text(seconds):
        passed = datetime.timedelta(seconds=seconds)
        if not 0 < done <= total:
            return f'{what} ... {passed}'
        left = datetime.timedelta(seconds=max(1, round(last * total / done - seconds)))
        return f'{what} ... {done / total:.0%}, {passed}, {left} left'

    def tell():
        width = 0
        seconds = 0.5 if is_screen else TELL_EVERY if what in _told else TELL_AFTER
        while not ended.wait(began + seconds - time.monotonic()):
            if _under_way[-1] is ended:
                line, end = text(int(seconds)), '\n'
                if is_screen:
                    width, end = shutil.get_terminal_size().columns - 1, '\r'
                    line = f'\r{line[:width]:<{width}}'  # a bar may stand there
                print(line, end=end, file=stream, flush=True)
                _told.add(what)
            seconds = int(seconds) + (1 if is_screen else TELL_EVERY)
        if width:
            print(' ' * width, end='\r', file=stream, flush=True)

    _under_way.append(ended)
    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        ended.set()
        thread.join()
        _under_way.remove(ended)


def is_doing():
    """Is anything inside `doing` (bool)?"""
    return bool(_under_way)


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


class Parser(argparse.ArgumentParser):
    """argparse's, but an error is one line, and offers what a mistyped option may have meant."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args=None, namespace=None):
        self._given = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message):
        known = re.findall('--[a-z][a-z-]+', self.format_usage())
        for name in (arg.partition('=')[0] for arg in self._given if re.match('--?[a-z]{2}', arg)):
            if name not in known:
                message += did_you_mean(name, known) or '; --help lists the options'
        if message.startswith('unrecognized') and ';' not in message:
            message += '; which option is it for? --help lists them'
        complain(self.prog, message)
        self.exit(2)


def did_you_mean(name, known):
    """'; did you mean ...?' (str) with those of some known names that are like it, or ''."""
    plain = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), plain, 3, cutoff=0.7)
    return f'; did you mean {" or ".join(plain[other] for other in near)}?' if near else ''


def files_like(path, *folders):
    """did_you_mean of a file that is not there, among those in its folder and in other folders."""
    path, names = pathlib.Path(path), []
    for folder in (path.parent, *folders):
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            names += [entry.name for entry in itertools.islice(entries, 5000)]
    return did_you_mean(path.name, names)


def number(kind, low, high=math.inf):
    """An argparse type: an int or float from low to high; without high, an int to 2**31 - 1."""
    most = 2**31 - 1 if high == math.inf and kind is int else high

    def parse(text):
        value = kind(text)
        if not low <= value <= most or value == math.inf:  # nan is not between them either
            raise argparse.ArgumentTypeError(
                f'{text} is not {low} or more'
                if high == math.inf and not value > most
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
        _replace(partial, target)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = path
        with contextlib.suppress(OSError):  # a full disk fails here a second time
            if file:
                file.close()
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def _replace(partial, target):
    """os.replace; on Windows it fails while another program has the target open: for a second."""
    for wait in (0.1, 0.3, 0.6):
        try:
            return os.replace(partial, target)
        except PermissionError:
            time.sleep(wait)
    return os.replace(partial, target)


@contextlib.contextmanager
def telling_older(path):
    """Says on stderr when what was written inside has taken the place of an older file."""
    older = os.path.isfile(path) and os.path.getsize(path) > 0  # > has made an empty one
    yield
    if older:
        print(f'{path}: written in place of an older file', file=sys.stderr)
