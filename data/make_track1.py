"""Writes track1.mid: theme and variations on さくらさくら for koto, harp and bass.

    python data/make_track1.py    # data/track1.mid, next to this script

The melody is traditional (Japan, Edo period). The arrangement is new, made for this
project, and in the public domain (CC0 1.0). Nothing is left to chance: each variation
is a function of the theme, so each run gives the same bytes.

Notes are pairs (pitches, ticks): a tuple of MIDI pitches, empty for a rest, and a length.
As text: names joined by +, a colon and the length in quarters, 'A4:1 E4+B4:1/2 -:2'.
"""

import fractions
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from write_midi import vlq, write_midi  # noqa: E402

QUARTER, HALF, WHOLE = 480, 960, 1920

# Two bars a line, fourteen bars.
MELODY = """
A4:1 A4:1 B4:2                  A4:1 A4:1 B4:2
A4:1 B4:1 C5:1 B4:1             A4:1 B4:1/2 A4:1/2 F4:2
E4:1 C4:1 E4:1 F4:1             E4:1 E4:1/2 C4:1/2 B3:2
A4:1 B4:1 C5:1 B4:1             A4:1 B4:1/2 A4:1/2 F4:2
E4:1 C4:1 E4:1 F4:1             E4:1 E4:1/2 C4:1/2 B3:2
A4:1 A4:1 B4:2                  A4:1 A4:1 B4:2
E4:1 F4:1 B4:1/2 A4:1/2 F4:1    E4:4
"""
# A chord for each half bar: root and fifth for the bass, and three notes above.
HARMONY = 'A E A E  A A A F  A A E E  A A A F  A A E E  A E A E  A F E E'.split()
CHORDS = {'A': 'A2 E3 A3 C4 E4', 'E': 'E3 B2 E3 B3 E4', 'F': 'F3 C3 A3 C4 F4'}

PITCHES = {
    f'{name}{octave}': 12 * (octave + 1) + semitones
    for octave in range(2, 8)
    for name, semitones in zip('CEFAB', (0, 4, 5, 9, 11))
}
# The in-scale. Figures move by its steps and not by semitones, so they keep the mode.
SCALE = list(PITCHES.values())

# What becomes of a half note's second quarter: there the phrase breathes. Numbers are
# steps of the scale from the note; the other names are explained in ornament.
HELD, CHORD, DESCENT = '0:1', 'below+0:1', '-2:1/2 -1:1/2'
SARARIN = '4:1/4 3:1/4 2:1/4 1:1/4'  # the koto's run down the strings

# What becomes of a chord in its half bar.
SUSTAINED, BLOCK = 'low+high:2', 'low+middle+high:2'
OFFBEAT = '-:1/2 middle+high:1/2 -:1/2 middle+high:1/2'
ARPEGGIO = 'low:1/2 middle:1/2 high:1/2 middle:1/2'
HALVES, QUARTERS = 'root:2', 'root:1 fifth:1'


def read(text, pitches):
    """The notes of a text, in which names stand for these pitches."""
    words = [word.split(':') for word in text.split()]
    return [
        (
            tuple(pitches[name] for name in names.split('+') if name != '-'),
            int(QUARTER * fractions.Fraction(length)),
        )
        for names, length in words
    ]


def timed(notes):
    """Triples (tick, pitches, ticks): each note with the time at which it begins."""
    tick = 0
    for pitches, ticks in notes:
        yield tick, pitches, ticks
        tick += ticks


def shift(notes, semitones):
    """The notes so many semitones higher."""
    return [(tuple(pitch + semitones for pitch in pitches), ticks) for pitches, ticks in notes]


def ornament(figure, pitch, following):
    """A figure in place of a note, on the way to the following one."""
    here, there = SCALE.index(pitch), SCALE.index(following)
    names = {str(count): SCALE[here + count] for count in range(-3, 5)}
    # The second voice lies two steps lower, or three where that would be a tritone.
    names['below'] = names['-3' if pitch - names['-2'] == 6 else '-2']
    names['octave'] = pitch + 12
    names['drone'] = PITCHES['E3']
    # The link lies just before the following note, or beyond it if that is a neighbour.
    direction = -1 if there < here else 1
    names['link'] = SCALE[there + (direction if abs(there - here) < 2 else -direction)]
    return read(figure, names)


def vary(theme, figure, close):
    """Puts a figure on each quarter, figure and close on each half; eighths stay."""
    notes = []
    for ((pitch,), ticks), ((following,), _) in zip(theme, theme[1:] + theme[:1]):
        if ticks < QUARTER:
            notes.append(((pitch,), ticks))
        elif ticks == QUARTER:
            notes += ornament(figure, pitch, following)
        else:
            notes += ornament(figure, pitch, pitch) + ornament(close, pitch, following)
            if ticks == WHOLE:  # the end of the theme comes to rest
                notes += ornament('below+0:2', pitch, following)
    return notes


def two_voices(theme):
    """The theme with a second voice below."""
    return [(ornament('below+0:1', pitch, pitch)[0][0], ticks) for (pitch,), ticks in theme]


def lifted(theme):
    """The theme with bars 7 to 10, which repeat bars 3 to 6, an octave higher."""
    return [
        note
        for tick, *melody in timed(theme)
        for note in shift([melody], 12 * (6 * WHOLE <= tick < 10 * WHOLE))
    ]


def sparse(theme):
    """Only the notes on beats 1 and 3, each with an echo in the octave."""
    return [
        note
        for tick, (pitch,), ticks in timed(theme)
        if tick % HALF == 0
        for note in ornament('below+0:1 octave:1', pitch, pitch) * max(1, ticks // HALF)
    ]


def accompany(pattern):
    """A pattern on each chord."""
    notes = []
    for name in HARMONY:
        pitches = map(PITCHES.get, CHORDS[name].split())
        notes += read(pattern, dict(zip(('root', 'fifth', 'low', 'middle', 'high'), pitches)))
    return notes


def in_a(notes):
    """The notes as they are."""
    return notes


def in_d(notes):
    """The notes a fourth higher."""
    return shift(notes, 5)


def in_yo(notes):
    """The notes in the brighter yo-scale: F and C a semitone higher."""
    return [
        (tuple(pitch + (pitch % 12 in (0, 5)) for pitch in pitches), ticks)
        for pitches, ticks in notes
    ]


THEME = read(MELODY, PITCHES)
# Two bars after the melody, so without bars 13 and 14, for which no time is left.
CANON = [((), 2 * WHOLE)] + THEME[:-6]
# One more bar for the three tracks: the run down the strings, and the last note.
ENDING = (
    'B5:1/4 A5:1/4 F5:1/4 E5:1/4 C5:1/4 B4:1/4 A4:1/4 F4:1/4 E3+B3+E4:2',
    'B3+E4:2 B3+E4:2',
    'E3:2 E3:2',
)

# Name, quarters a minute, key, melody, accompaniment (a pattern, or notes), bass (a pattern).
SECTIONS = [
    ('Theme', 100, in_a, THEME, SUSTAINED, HALVES),
    ('1 Eighths', 126, in_a, vary(THEME, '0:1/2 link:1/2', DESCENT), SUSTAINED, HALVES),
    ('2 Dotted', 126, in_a, vary(THEME, '0:3/4 link:1/4', HELD), OFFBEAT, HALVES),
    ('3 Mordents', 116, in_a, vary(THEME, '0:1/4 1:1/4 0:1/2', HELD), BLOCK, HALVES),
    ('4 Two voices', 112, in_a, two_voices(THEME), ARPEGGIO, HALVES),
    ('5 Triplets', 116, in_a, vary(THEME, '0:1/3 below:1/3 link:1/3', HELD), SUSTAINED, HALVES),
    ('6 Octaves', 132, in_a, vary(THEME, '0:1/2 octave:1/2', CHORD), OFFBEAT, QUARTERS),
    ('7 Sararin', 112, in_a, vary(lifted(THEME), '0:1/2 0:1/4 0:1/4', SARARIN), SUSTAINED, HALVES),
    ('8 Yo-scale', 132, in_yo, vary(THEME, '0:1/2 2:1/2', DESCENT), ARPEGGIO, HALVES),
    ('9 Slow', 76, in_a, sparse(THEME), ARPEGGIO, HALVES),
    ('10 Canon', 120, in_a, shift(THEME, 12), CANON, HALVES),
    ('11 In D', 132, in_d, vary(THEME, '0:1/2 drone:1/2', CHORD), OFFBEAT, QUARTERS),
    (
        '12 Finale',
        152,
        in_a,
        vary(THEME, '0+octave:1/2 0:1/4 link:1/4', SARARIN),
        ARPEGGIO,
        QUARTERS,
    ),
    ('Coda', 88, in_a, two_voices(THEME), SUSTAINED, HALVES),
]


def event(delta, status, body, meta=b''):
    """A chunk of a track; one with a meta type gets its length."""
    return {
        'delta': vlq(delta),
        'status': bytes([status]),
        'meta': meta,
        'length': vlq(len(body)) if meta else b'',
        'body': bytes(body),
    }


def chunks(beginning, events, ticks):
    """Events (tick, order, status, body, meta) in the order of time, with an end at ticks."""
    result, now = list(beginning), 0
    for tick, _, *rest in sorted(events) + [(ticks, 0, 0xFF, b'', b'\x2f')]:
        result.append(event(tick - now, *rest))
        now = tick
    return {'chunks': result}


def part(name, channel, program, accent, normal, notes):
    """A track: velocity is accent on the first beat of a bar, else normal."""
    events = []
    for tick, pitches, ticks in timed(notes):
        velocity = accent if tick % WHOLE == 0 else normal
        for pitch in pitches:
            assert 45 <= pitch <= 93, pitch
            # Off comes before on at the same tick, or it would end the new note.
            events += [
                (tick, 1, 0x90 | channel, bytes([pitch, velocity])),
                (tick + ticks, 0, 0x80 | channel, bytes([pitch, 64])),
            ]
    beginning = [event(0, 0xFF, name.encode(), b'\x03'), event(0, 0xC0 | channel, bytes([program]))]
    return chunks(beginning, events, sum(ticks for _, ticks in notes))


def main():
    """Joins the sections and writes the file."""
    conductor, now = [], 0
    voices = [], [], []
    for name, tempo, key, melody, chords, roots in SECTIONS:
        if isinstance(chords, str):
            chords = accompany(chords)
        for voice, notes in zip(voices, (melody, chords, accompany(roots))):
            voice += key(notes)
        conductor += [
            (now, 0, 0xFF, name.encode(), b'\x06'),
            (now, 1, 0xFF, (60_000_000 // tempo).to_bytes(3, 'big'), b'\x51'),
        ]
        now += 14 * WHOLE
        assert all(sum(ticks for _, ticks in voice) == now for voice in voices), name
    for voice, text in zip(voices, ENDING):
        voice += read(text, PITCHES)
    beginning = [
        event(0, 0xFF, b'Sakura: theme and variations', b'\x03'),
        event(0, 0xFF, bytes([4, 2, 24, 8]), b'\x58'),
    ]
    tracks = [
        chunks(beginning, conductor, now + WHOLE),
        part('koto', 0, 107, 96, 80, voices[0]),
        part('accompaniment', 1, 46, 64, 56, voices[1]),
        part('bass', 2, 32, 80, 72, voices[2]),
    ]
    header = b'MThd' + b''.join(
        number.to_bytes(size, 'big')
        for number, size in ((6, 4), (1, 2), (len(tracks), 2), (QUARTER, 2))
    )
    write_midi({'header': header, 'tracks': tracks}, HERE / 'track1.mid')


if __name__ == '__main__':
    main()
