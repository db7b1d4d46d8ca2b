"""Where a text or a piece of music comes from: a file, a folder, a zip or an http(s) address.

    for name, data in documents('holmes.zip', ('.txt',)):
        ...                                             # data: the bytes of one document

Every failure that an input can cause is a CorpusError with a one-line message.
"""

import concurrent.futures
import dataclasses
import glob
import http.client
import io
import os
import pathlib
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib

from support import formats, terminal

DATA = pathlib.Path(__file__).resolve().parents[1] / 'data'
ZIP = b'PK\x03\x04'  # how such a file begins
BLOCK = 1 << 18  # bytes of a large file in memory at a time
LARGE = 4 << 20  # bytes above which a file is large
MAX_DOWNLOAD = 64 << 20  # bytes; the longest zip of Aozora Bunko has about 2 MB
MAX_UNPACKED = 64 << 20  # bytes of all documents of a zip; more is a bomb, or wants a folder
TIMEOUT = 30  # seconds without an answer from an address
MAX_SECONDS = 600  # until all of its answer is there

# What zipfile raises for a zip that is damaged or encrypted.
_FAULTS = zipfile.BadZipFile, zlib.error, EOFError, OSError, OverflowError, RuntimeError, ValueError


class CorpusError(terminal.UserError):
    """A text cannot be had or cannot be read; the message is one line."""


def find(name):
    """The path (str) of the file or folder `name`, or of data/`name` of this project.

    Only a bare name (no folder in it) that does not exist in the current
    folder is looked up in data/. CorpusError if there is none.
    """
    path = pathlib.Path(name)
    is_bare = path.name == str(name)
    if not str(name):
        raise CorpusError('the name of a file or folder is empty')
    if path.exists():
        return str(path)
    if is_bare and (DATA / name).exists():
        return str(DATA / name)
    if path.is_symlink():
        raise CorpusError(f'{name} is a link to {os.readlink(path)}, which is not there')
    where = f', neither here nor in {DATA}' if is_bare else ''
    near = terminal.files_like(path, *[DATA] * is_bare)
    raise CorpusError(f'{name}: no such file or folder{where}{near}')


def expanded(sources):
    """The sources (list of str), with the files that *.mid stands for: cmd.exe leaves that to us.

    What is there under this very name, an address, or a pattern that nothing fits, stays as it is.
    """
    found = []
    for source in sources:
        fitting = [] if is_address(source) or os.path.exists(source) else sorted(glob.glob(source))
        found += fitting or [source]
    return found


def name_of(source):
    """A name (str) for what is made from `source`: its last part without the ending.

    Every system can have a folder of this name. Windows knows no CON or NUL, none of <>:"|?* and
    no full stop or space at the end. Its paths have 260 characters, so a name has 80 at most.
    """
    if is_address(source):
        source = re.split('[?#]', source)[0]
    name = re.sub(r'[\0-\x1f<>:"\\|?*]', '_', pathlib.Path(os.path.realpath(source)).stem)
    name = name[:80].rstrip('. ')
    is_device = re.fullmatch(r'(con|prn|aux|nul|(com|lpt)[0-9¹²³])(\..*)?', name, re.IGNORECASE)
    return f'{name}_' if is_device else name or 'corpus'


def is_folder(source):
    """True if `source` is a folder; CorpusError if it is neither an address nor exists."""
    return not is_address(source) and os.path.isdir(find(source))


def is_large(source):
    """True if `source` is a folder or a large file, which should not be in memory as a whole."""
    return is_folder(source) or not is_address(source) and _is_large_file(find(source))


def _is_large_file(path):
    return os.path.isfile(path) and os.path.getsize(path) > LARGE


def is_address(source):
    """True if `source` is an address (http://...), not a path."""
    return '://' in str(source)


@dataclasses.dataclass(frozen=True)
class File:
    """A file that is read in blocks."""

    path: str


def blocks(data):
    """Yields the contents of bytes or of a File in blocks of bytes; CorpusError."""
    if isinstance(data, File):
        try:
            with terminal.opened(data.path) as file:
                yield from iter(lambda: file.read(BLOCK), b'')
        except OSError as error:
            raise CorpusError(f'{data.path}: {error.strerror}') from None
    else:
        yield from (data[start : start + BLOCK] for start in range(0, len(data), BLOCK))


def documents_of_file(path, endings):
    """Yields what `documents` yields of a file, or (path, File) if it is large and no zip."""
    if _is_large_file(path) and not next(blocks(File(path)), b'').startswith(ZIP):
        yield path, File(path)
    else:
        yield from documents(path, endings)


def documents(source, endings):
    """Yields (name (str), bytes) of every document in a path, folder, zip or http(s) address.

    endings: tuple of str, in lower case ('.txt',). Of folders and zips, only files with one of
    them are documents, in the order of their names, and what is in the zips of a folder.
    CorpusError if there are none, or if one cannot be read.
    """
    if is_address(source):
        yield from _unzipped(source, download(source), endings)
        return
    path = find(source)
    paths = files_in(path, (*endings, '.zip'))[0] if os.path.isdir(path) else [path]
    for path in paths:
        yield from _unzipped(str(path), read_bytes(path), endings)


def files_in(folder, endings):
    """The files below a folder with one of the endings, and the others: (paths, others).

    Both are sorted lists of pathlib.Path, without what is hidden (.ipynb_checkpoints, macOS's
    ._a.txt and __MACOSX). Others are also links to folders, which may lead in a circle, links to
    nothing, and folders that cannot be read. CorpusError if there are no paths, or if the folder
    itself cannot be read.
    """
    folder, found, unreadable = pathlib.Path(folder), [], []
    for path, folders, names in os.walk(folder, onerror=unreadable.append):
        links = [name for name in folders if os.path.islink(os.path.join(path, name))]
        found += [os.path.join(path, name) for name in names + links]
    for error in unreadable:
        if error.filename == str(folder):
            raise CorpusError(f'{folder}: {error.strerror}')
        found.append(error.filename)
    found = sorted(map(pathlib.Path, found))
    found = [path for path in found if not _is_hidden(path.relative_to(folder).parts)]
    paths = [path for path in found if path.name.lower().endswith(endings) and path.is_file()]
    others = sorted({*found} - {*paths})
    if not paths:
        wanted = ' or '.join(endings).removesuffix(' or .zip')
        message = f'{folder}: no {wanted} file in this folder'
        raise CorpusError('; '.join([message, *passed_over(folder, others, endings)]))
    return paths, others


def passed_over(folder, others, endings):
    """What files_in has found besides: a line (in a list of str), or none."""
    if not others:
        return []
    names = ', '.join(str(path.relative_to(folder)) for path in others[:3])
    more = f' and {len(others) - 3:,} more' if others[3:] else ''
    return [f'{folder}: passed over, as no {" or ".join(endings)} file: {names}{more}']


def read_bytes(path):
    """The contents (bytes) of a file; CorpusError if it cannot be read or is a device."""
    try:
        with terminal.opened(path) as file:
            return file.read()
    except OSError as error:
        raise CorpusError(f'{path}: {error.strerror}') from None


def _is_hidden(parts):
    """True if a file or one of its folders (their names) is hidden, or made by a program."""
    return any(re.match(r'\.[^.]|__MACOSX$', part) for part in parts)


# Zips


def _unzipped(name, data, endings):
    """Yields (name, bytes): the documents of a zip, read in memory, or the data itself."""
    if not data.startswith(ZIP):
        yield name, data
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in _members(archive, name, endings):
                with archive.open(member) as file:
                    # In pieces: a size that lies shows after the first.
                    pieces = iter(lambda file=file: file.read(1 << 20), b'')
                    yield f'{name}/{member.filename}', b''.join(pieces)
    except CorpusError:
        raise
    except _FAULTS as error:
        raise CorpusError(f'{name}: a damaged zip: {error}') from None


def _members(archive, name, endings):
    """The documents (list of zipfile.ZipInfo) of a zip, by name; CorpusError if it is no good."""
    for member in archive.infolist():
        # Nothing is unpacked to a disk here, but who writes such names means no good.
        if re.search(r'^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)', member.filename):
            raise CorpusError(f'{name}: a name in this zip leads out of it: {member.filename!r}')
    document = formats.of_zip(archive.namelist())
    if document:
        raise CorpusError(f'{name}: {document}')
    members = [
        member
        for member in archive.infolist()
        if member.filename.lower().endswith(endings) and not _is_hidden(member.filename.split('/'))
    ]
    if not members:
        raise CorpusError(f'{name}: no {" or ".join(endings)} file in this zip')
    if sum(member.file_size for member in members) > MAX_UNPACKED:
        raise CorpusError(
            f'{name}: more than {MAX_UNPACKED >> 20} MiB unpacked; unpack it and give the folder'
        )
    usual = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks others without a bound
    if any(member.compress_type not in usual for member in members):
        raise CorpusError(f'{name}: packed in an unusual way; unpack it and give the folder')
    return sorted(members, key=lambda member: member.filename)


# Addresses


def download(address, seconds=MAX_SECONDS):
    """The bytes at an http(s) address, MAX_DOWNLOAD at most; CorpusError if not there in time."""
    result = concurrent.futures.Future()

    def fetch():
        try:
            result.set_result(_fetch(address))
        except BaseException as error:
            result.set_exception(error)

    # A thread of its own, which can be left waiting: TIMEOUT bounds only each wait for a byte.
    threading.Thread(target=fetch, daemon=True).start()
    try:
        return result.result(seconds)
    except concurrent.futures.TimeoutError:
        raise CorpusError(
            f'{address}: not all there after {seconds} seconds; download it, and give the file'
        ) from None


def _fetch(address):
    """The bytes at an http(s) address, however long it takes."""
    try:
        _require_http(address)
        request = urllib.request.Request(address, headers={'User-Agent': 'rnn-corpus'})
        with urllib.request.build_opener(_HttpOnly).open(request, timeout=TIMEOUT) as response:
            data = response.read(MAX_DOWNLOAD + 1)
            missing = response.length
            content_type = response.headers.get_content_type()
    except CorpusError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = error
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        elif isinstance(error, urllib.error.URLError):
            reason = f'{error.reason}; is the address right, and is there a network?'
        raise CorpusError(f'{address}: {reason}') from None
    if len(data) > MAX_DOWNLOAD:
        raise CorpusError(
            f'{address}: more than {MAX_DOWNLOAD >> 20} MiB; download it, and give the file'
        )
    if missing:
        raise CorpusError(f'{address}: the answer ends {missing:,} bytes before its end; try again')
    if content_type == 'text/html':
        raise CorpusError(f'{address}: a web page; give the address of the file itself')
    return data


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, fp, code, msg, headers, newurl):
        fp.close()  # or urllib would read all that comes with the redirect
        _require_http(newurl)
        return super().redirect_request(request, fp, code, msg, headers, newurl)


def _require_http(address):
    if urllib.parse.urlsplit(address).scheme not in ('http', 'https'):
        raise CorpusError(f'{address}: only http and https addresses are fetched')
