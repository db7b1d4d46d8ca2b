"""What is in a MIDI file, in words for people. The events are those of read_midi.py."""

import dataclasses

CHANNEL_NAMES = {
    0x80: 'note off', 0x90: 'note on', 0xA0: 'key pressure', 0xB0: 'controller',
    0xC0: 'program', 0xD0: 'channel pressure', 0xE0: 'pitch bend',
}  # fmt: skip
META_NAMES = {
    0x00: 'sequence number', 0x01: 'text', 0x02: 'copyright', 0x03: 'name', 0x04: 'instrument',
    0x05: 'lyric', 0x06: 'marker', 0x07: 'cue point', 0x20: 'channel prefix', 0x21: 'port',
    0x2F: 'end of track', 0x51: 'tempo', 0x54: 'SMPTE offset', 0x58: 'time signature',
    0x59: 'key signature', 0x7F: 'sequencer specific',
}  # fmt: skip
PERCUSSION = 10  # the channel, counted from 1, whose keys are instruments


@dataclasses.dataclass(frozen=True)
class Part:
    """The notes that a track has in one channel."""

    track: int
    name: str  # that the track gives itself, or ''
    channel: int  # 1 to 16
    programs: list  # of int, 0 to 127: those in force when its notes begin, each once
    notes: int  # how many

    def __str__(self):
        from pretty_midi import program_to_instrument_name  # late: it takes a third of a second

        names = [*map(program_to_instrument_name, self.programs)]
        names[8:] = [f'{len(names[8:])} more'] if names[8:] else []
        instruments = 'drums' if self.channel == PERCUSSION else ', '.join(names)
        about = f'track {self.track} {self.name!r}, channel {self.channel}: {instruments}'
        return f'{about}, {self.notes:,} note{"s" * (self.notes != 1)}'


def text_of(body):
    """The text (str, one line) of a meta event, whose encoding the file does not tell."""
    try:
        text = body.decode('utf-8')
    except UnicodeDecodeError:
        text = body.decode('cp932', 'replace')
    return ''.join(c if c.isprintable() else ' ' for c in text)


def track_name(track):
    """The name that a track gives itself (str), or ''."""
    names = (chunk['body'] for chunk in track['chunks'] if chunk['meta'] == b'\x03')
    return text_of(next(names, b''))


def describe(chunk):
    """What an event is, in words, for instance 'note on, channel 1: 60 64'."""
    status, body = chunk['status'][0], chunk['body']
    numbers = ' '.join(map(str, body))
    if status < 0xF0:
        return f'{CHANNEL_NAMES[status & 0xF0]}, channel {status % 16 + 1}: {numbers}'
    if status != 0xFF:
        return f'system {status:02x}: {body.hex(" ")}'
    kind = chunk['meta'][0]
    name = META_NAMES.get(kind, f'meta {kind:02x}')
    if 0x01 <= kind <= 0x0F:
        return f'{name}: {text_of(body)}'
    if kind == 0x51 and len(body) == 3 and any(body):
        return f'{name}: {60000000 / int.from_bytes(body, "big"):.6g} quarters per minute'
    if kind == 0x58 and len(body) == 4:
        return f'{name}: {body[0]}/{2 ** body[1]}'
    return f'{name}: {body.hex(" ")}'.removesuffix(': ')
