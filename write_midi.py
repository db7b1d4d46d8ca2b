"""Writes the article's structure as a Standard MIDI File: read_midi.py undone, byte for byte.

An RMID or MacBinary wrapper is not kept, only the MIDI file inside.

python read_midi.py data/track1.mid --words > words.txt
python write_midi.py words.txt out.mid

write_midi(read_midi('data/track1.mid'), 'copy.mid')               # the same bytes
write_midi(to_data(['00_90_4560', '8360_80_4540']), 'note.mid')    # pseudo-words
"""

import collections
import math
import os
import sys

from read_midi import MidiError, MusicError, Setup, delta_time, in_ticks, quarter_of, read_midi
from read_midi import setup_of, vlq, vlq_value
from support import terminal

# Pseudo-words to structure


def to_data(words, setup=None, composed=False):
    """The structure of read_midi.py, format 0, of a list of pseudo-words.

    setup: a Setup (default: 480 ticks per quarter, nothing else); words at the beginning that
    say the same replace its events. No note sounds longer than its `longest`: what the model
    forgets to end is ended then. Notes that still sound after the last word end a quarter
    later. composed: leave out the ends of notes that do not sound, slips of a model; their
    time stays. MusicError if a word is impossible, or a time longer than a file can hold.
    """
    setup = setup or Setup('01e0', {})
    events = _with_all_notes_ended(words, setup, composed)
    said = {_kind(raw) for tick, raw in events if tick == 0}
    begin = [bytes.fromhex(event) for event in setup.events.values()]
    events = [*((0, raw) for raw in begin if _kind(raw) not in said), *events]
    chunks, last = [], 0
    for tick, raw in events:
        size = 3 if raw[0] == 0xFF else 1  # status, meta and length: no meta event here is long
        head, body = raw[:size], raw[size:]
        chunk = {'delta': delta_time(tick - last), 'status': head[:1], 'meta': head[1:2]}
        chunks.append({**chunk, 'length': head[2:], 'body': body})
        last = tick
    header = b'MThd' + bytes([0, 0, 0, 6, 0, 0, 0, 1]) + bytes.fromhex(setup.division)
    return {'header': header, 'tracks': [{'chunks': chunks}]}


def _kind(raw):
    """What an event (bytes) sets, for instance the tempo or the program of a channel (bytes)."""
    return raw[: 2 if raw[0] == 0xFF else 1]


def _with_all_notes_ended(words, setup, composed):
    """[(tick, bytes of an event from its status on), ...] of words, in the order of time.

    With End of Track; the other arguments are those of `to_data`.
    """
    longest = math.inf if setup.longest is None else setup.longest
    events, tick = [], 0
    sounding = collections.defaultdict(list)  # (channel, key): when its notes began
    begun = collections.deque()  # (tick, channel, key) of all notes, the oldest first

    def end(tick, channel, key):
        events.append((tick, bytes([0x80 | channel, key, 0x40])))

    def end_overdue(now):
        while begun and begun[0][0] + longest < now:
            start, channel, key = begun.popleft()
            if start in sounding[channel, key]:
                sounding[channel, key].remove(start)
                end(start + longest, channel, key)

    for tick, status, body in in_ticks(words):
        end_overdue(tick)
        kind, channel = status[0] >> 4, status[0] % 16
        starts = sounding[channel, body[0]]
        if kind == 9 and body[1]:
            starts.append(tick)
            begun.append((tick, channel, body[0]))
        elif kind in (8, 9):
            if composed and not starts:
                continue
            del starts[:1]
        events.append((tick, status + body))
    quarter = quarter_of(setup.division)
    end_overdue(tick + quarter)
    for (channel, key), starts in sounding.items():
        for _ in starts:
            end(tick + quarter, channel, key)
    events.append((max([tick, *(at for at, _ in events)]), b'\xff\x2f\x00'))
    return events


# Structure to file


def write_midi(data, path):
    """Writes a dict of the form that read_midi returns; OSError if it cannot be written.

    The file takes the place of an old one only when it is whole.
    """
    raw = to_bytes(data)
    with terminal.replacing(path) as file:
        file.write(raw)


def to_bytes(data):
    """The bytes of the file.

    Needed are 'header' and 'tracks', of these 'chunks', and of a chunk its five fields; what
    else read_midi gives may be absent. Lengths of tracks and events and the number of tracks
    are counted, and 'running' is heeded only where it can be, so events and tracks may be
    added, changed and taken away.
    """
    ntrks = len(data['tracks']) + data.get('missing', 0)
    header, alien = data['header'], collections.defaultdict(list)
    for chunk in data.get('alien', []):
        alien[chunk['track']] += chunk['header'], chunk['body']
    parts = [header[:10], ntrks.to_bytes(2, 'big'), header[12:], data.get('header_extra', b'')]
    for number, track in enumerate(data['tracks']):
        parts += *alien[number], _track_bytes(track)
    return b''.join([*parts, *alien[len(data['tracks'])], data.get('rest', b'')])


def _track_bytes(track):
    """MTrk, its length and the events."""
    parts, last = [], None  # the status byte that running status would repeat
    for chunk in track['chunks']:
        status, length, body = chunk['status'], chunk['length'], chunk['body']
        if status < b'\xf0':
            is_running = chunk.get('running') and status == last
            parts += chunk['delta'], b'' if is_running else status, body
            last = status
        else:
            if length and vlq_value(length) != len(body):
                length = vlq(len(body))
            parts += chunk['delta'], status, chunk['meta'], length, body
    body = b''.join(parts) + track.get('rest', b'')
    return b'MTrk' + (len(body) + track.get('missing', 0)).to_bytes(4, 'big') + body


@terminal.reporting
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    parser = terminal.Parser(prog='write_midi.py', description='Makes a MIDI file of pseudo-words.')
    parser.add_argument('words', help='a file of words between spaces or line ends; - is stdin')
    parser.add_argument('out', help='the .mid to write')
    about = 'division, tempo, time signature and programs come from this file (default: 480 ticks '
    about += 'per quarter, 120 quarters per minute)'
    parser.add_argument('--like', metavar='FILE.mid', help=about)
    args = parser.parse_args(argv)
    for name in (args.words, args.like):
        if name and all(map(os.path.exists, (name, args.out))) and os.path.samefile(name, args.out):
            parser.error(f'{args.out} is read here; write to another file')
    if args.words != '-':
        with terminal.opened(args.words) as file:
            raw = file.read()
    elif sys.stdin:
        raw = sys.stdin.buffer.read()
    else:
        raise MusicError('-: stdin is closed')
    # PowerShell's > writes UTF-16; what is no text becomes a word that is none
    encoding = 'utf-16' if raw[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig'
    words = raw.decode(encoding, 'replace').split()
    if not words:
        raise MusicError(f'{args.words}: no words in it')
    try:
        setup = setup_of(read_midi(args.like), 'all') if args.like else None
    except MusicError as error:
        raise MidiError(args.like, None, error) from None
    try:
        with terminal.telling_older(args.out):
            write_midi(to_data(words, setup), args.out)
    except MusicError as error:
        raise MusicError(f'{args.words}: {error}') from None
    return 0


if __name__ == '__main__':
    sys.exit(main())
