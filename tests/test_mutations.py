"""The first inputs of mutations.py; `make test-slow` feeds more."""

import pytest

import mutations


@pytest.mark.parametrize('kind, number', [('midi', 20000), ('text', 5000), ('checkpoint', 100)])
def test_damaged_files(folder, monkeypatch, kind, number):
    monkeypatch.setattr(
        mutations, 'CORPORA', folder
    )  # what is not part of this project, is not needed
    monkeypatch.setattr(mutations, 'BATCH', number)
    results, _, memory, troubles = mutations.batch(kind, 0)
    assert not troubles
    assert results['refused'] and sum(results.values()) == number > results['refused']
    # At most 91 were seen, the weights, gradients and moments of a checkpoint. A length that lies
    # asks for a mebibyte or more, which is some hundreds.
    assert memory < 150


def test_trouble_is_found(monkeypatch):
    """A reader that knows no running status."""
    parse = mutations.read_midi.from_bytes

    def careless(*args):
        data = parse(*args)
        if any(chunk['running'] for track in data['tracks'] for chunk in track['chunks']):
            raise KeyError('running')
        return data

    monkeypatch.setattr(mutations.read_midi, 'from_bytes', careless)
    monkeypatch.setattr(mutations, 'BATCH', 500)
    _, _, _, troubles = mutations.batch('midi', 0)
    assert troubles and all('KeyError' in trouble for _, trouble in troubles)
