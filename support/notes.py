"""The notes of a piece, and the second at which each tick comes.

data = write_midi.to_data(words, setup)
for note in notes(data): ...
seconds(data, [0, 480, 960])
"""

import collections
import dataclasses

import numpy

from read_midi import resolution, timed
from support.describe import PERCUSSION

DRUMS = PERCUSSION - 1  # the channel of percussion, as a status byte counts it, from 0


@dataclasses.dataclass(frozen=True)
class Note:
    """A note of a piece: start and end in ticks, the others as MIDI counts them (all int)."""

    start: int
    end: int
    key: int
    velocity: int
    channel: int  # 0 to 15
    program: int


def notes(data):
    """The notes (list of Note) of what `to_data` gives, in the order of time, then of keys.

    Of several notes of one key, the first to begin is the first to end.
    """
    found, programs = [], [0] * 16
    sounding = collections.defaultdict(collections.deque)
    for tick, chunk in timed(data['tracks'][0]):
        kind, channel = divmod(chunk['status'][0], 16)
        key, *velocity = chunk['body'] or [0]
        if kind == 12:
            programs[channel] = key
        elif kind == 9 and velocity[0]:
            sounding[channel, key].append((tick, velocity[0], programs[channel]))
        elif kind in (8, 9) and sounding[channel, key]:
            start, strength, program = sounding[channel, key].popleft()
            found.append(Note(start, tick, key, strength, channel, program))
    return sorted(found, key=lambda note: (note.start, note.channel, note.key))


def seconds(data, ticks):
    """(N,) float64: the seconds at which ticks (N,) of what `to_data` gives come."""
    header, ticks = data['header'], numpy.asarray(ticks, 'd')
    per_quarter = resolution(header[12:].hex())
    if per_quarter < 0:  # SMPTE frames, whatever the tempo; 29 of them stand for 29.97
        frames = 30000 / 1001 if header[12] == 256 - 29 else 256 - header[12]
        return ticks / (frames * header[13])
    at = [(0, 0.0, 0.5 / per_quarter)]  # tick, second, seconds of a tick from there on
    for tick, chunk in timed(data['tracks'][0]):
        if chunk['meta'] == b'\x51':
            before, second, length = at[-1]
            tempo = int.from_bytes(chunk['body'], 'big') / 1e6 / per_quarter
            at.append((tick, second + (tick - before) * length, tempo))
    changes, begun, lengths = map(numpy.array, zip(*at))
    last = numpy.searchsorted(changes, ticks, 'right') - 1
    return begun[last] + (ticks - changes[last]) * lengths[last]


def metre(data):
    """(numerator, denominator) of the first time signature of what `to_data` gives, or None."""
    for chunk in data['tracks'][0]['chunks']:
        if chunk['meta'] == b'\x58' and resolution(data['header'][12:].hex()) > 0:
            return chunk['body'][0], 2 ** chunk['body'][1]
    return None
