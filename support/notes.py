"""The notes of a piece, and the second at which each tick comes.

data = write_midi.to_data(words, setup)
for note in notes(data): ...
seconds(data, [0, 480, 960])
"""

import collections
import dataclasses
import itertools

import numpy

from read_midi import resolution, timed

PEDAL = 64  # the controller of the sustain pedal, which is down from a value of 64 on


@dataclasses.dataclass
class Note:
    """A note: start and end in ticks, the others as MIDI counts them."""

    start: int
    end: int | None  # None: nothing ends it
    key: int
    velocity: int
    channel: int  # 1 to 16
    program: int


def notes(data):
    """The Notes (list) of what `to_data` gives, in the order of time, then of channels and keys."""
    track = timed(data['tracks'][0])
    messages = ((tick, chunk['status'], chunk['body']) for tick, chunk in track)
    return sorted(notes_of(messages), key=lambda note: (note.start, note.channel, note.key))


def notes_of(messages, with_pedal=False):
    """The Notes (list, in the order of their starts) of messages: (tick, status, body) in order.

    A note-off ends the oldest note of its channel and key. with_pedal: not before the sustain
    pedal is up, or after the last message.
    """
    found, programs, held = [], [0] * 17, {}
    sounding = collections.defaultdict(collections.deque)
    tick = 0
    for tick, status, body in messages:
        kind, channel = status[0] >> 4, status[0] % 16 + 1
        if kind == 9 and body[1]:
            found.append(Note(tick, None, *body, channel, programs[channel]))
            sounding[channel, body[0]].append(found[-1])
        elif kind in (8, 9) and sounding[channel, body[0]]:
            note = sounding[channel, body[0]].popleft()
            note.end = tick
            held.get(channel, []).append(note)
        elif kind == 0xC:
            programs[channel] = body[0]
        elif with_pedal and kind == 0xB and body[0] == PEDAL:
            for note in held.pop(channel, []):
                note.end = tick
            if body[1] >= 64:
                held[channel] = []
    for note in itertools.chain(*held.values()):
        note.end = tick
    return found


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
