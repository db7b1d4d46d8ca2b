"""What a trained model makes of a text that it has not learned: the option --test."""

import math

from support import modern_chainer  # prepares chainer's import

from support import checkpoint, run, terminal
from support.source import CorpusError
from support.text import EOS, UNK, detokenize, encode


@terminal.doing('testing')
def test(path, words, evaluate, args):
    """A line (str): loss, perplexity and, of a text, bits per character of words (list of str).

    path: a checkpoint; evaluate, args: train.py's. Words that the model does not know are <unk>
    to it or, if it has learned none, left out. CorpusError if it knows none of them,
    FloatingPointError if the loss is no number.
    """
    tested, name = checkpoint.load(path), ' '.join(args.test)
    modern_chainer.use_device(tested.model, args.gpu)
    known = set(tested.vocabulary)
    read = words if UNK in known else [word for word in words if word in known]
    if not read:
        raise CorpusError(f'{name}: the model knows none of its words')
    ids = encode([EOS, *read], tested.vocabulary)
    with run.no_warnings():
        loss, _, n = evaluate(tested.model, ids, args)
    if not math.isfinite(loss):
        raise FloatingPointError(
            f'{path}: the weights of the model are so large that the loss is {loss}'
        )
    line = f'{name} under {path} (epoch {tested.epoch}): loss {loss:.4f} nats per word, '
    line += f'perplexity {math.exp(min(loss, 700)):.4g}'
    if tested.kind == 'text':  # of what it could name: to say <unk> is easier than to spell a word
        named = [word for word in read[:n] if word in known and word != UNK]
        characters = max(1, len(detokenize(named, tested.tokenizer)))
        line += f', {loss * n / math.log(2) / characters:.4f} bits per character'
    line += f'; {n:,} words'
    unknown = sum(word not in known for word in words)
    if len(read) < len(words):
        line += f'; {unknown:,} more words that it does not know, left out'
    elif unknown:
        line += f', of which {unknown:,} are {UNK} to it'
    return line
