"""What helps the article's network to learn: methods that train.py does not have, beside its own.

    python bench/learning.py [METHOD ...] -- OPTIONS OF train.py

    python bench/learning.py -- --corpus holmes.txt --schedule linear --epoch 12
    python bench/learning.py average vary -- --corpus holmes.txt --epoch 12

Prints after each epoch the perplexity of training and of validation. Methods:

average   also validates an exponential average of the weights over the last tenth of all updates
          or so (Polyak and Juditsky 1992, https://doi.org/10.1137/0330046)
vary      windows of lengths that differ, about --bproplen, a twentieth of them about half as long,
          the learning rate in proportion (Merity et al. 2017, https://arxiv.org/abs/1708.02182)
"""

import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from support import modern_chainer  # noqa: F401  prepares chainer's import

import numpy

import train
from rnn import RNN
from support import data, parallel, run, terminal
from support.options import merge

METHODS = 'average', 'vary'
# Options of train.py that nothing here would follow.
WITHOUT = {'resume', 'init_from', 'out', 'gpu', 'mpi', 'patience', 'test', 'sample_every'}


def learn(args, methods):
    """Trains as train.py does, with the methods; yields after each epoch a dict of perplexities."""
    learned = data.load(args, None)
    numpy.random.seed(args.seed)
    model = RNN(len(learned.vocabulary), args.unit, args.layer, args.cell)
    batchsize = train.choose_batchsize(learned.ids, args)
    streams = train.streams(learned.ids, batchsize)
    length = streams[0].shape[1]
    random = numpy.random.RandomState(args.seed) if 'vary' in methods else None
    epochs = [windows(length, args.bproplen, random) for _ in range(args.epoch)]
    optimizer = train.setup_optimizer(model, args, sum(map(len, epochs)))
    rate = args.lr
    averages = [param.array.copy() for param in model.params()] if 'average' in methods else []
    for epoch in epochs:
        model.initialize_state(batchsize)
        start = losses = 0
        for steps in epoch:
            if 'vary' in methods:
                args.lr = rate * steps / args.bproplen  # which --schedule turns down
                setattr(optimizer, train.OPTIMIZERS[args.optimizer][1], args.lr)
            x, t = (numpy.array(s[:, start : start + steps].T, 'i') for s in streams)
            loss, _ = train.forward(model, x, t, args)
            model.cleargrads()
            loss.backward()
            loss.unchain_backward()
            optimizer.update()
            for average, param in zip(averages, model.params()):
                average += (param.array - average) * 10 / (optimizer.t + 10)
            start, losses = start + len(x), losses + float(loss.array)
        if not math.isfinite(losses):
            raise FloatingPointError('the loss is no number any more; a smaller --lr may help')
        row = {'train': losses / length, 'validation': evaluated(model, learned, args)}
        if averages:
            usual = [param.array for param in model.params()]
            for param, average in zip(model.params(), averages):
                param.array = average
            row['average'] = evaluated(model, learned, args)
            for param, array in zip(model.params(), usual):
                param.array = array
        yield {name: math.exp(loss) for name, loss in row.items()}


def windows(length, usual, random):
    """The steps of the windows of an epoch (list of int), `length` in all, the last one's too many.

    usual: the steps of each (int); with a numpy.random.RandomState they vary, as in Merity et al.
    2017, https://arxiv.org/abs/1708.02182.
    """
    steps = []
    while sum(steps) < length:
        mean = usual / 2 if random and random.rand() < 0.05 else usual
        steps.append(max(5, round(random.normal(mean, 5))) if random else usual)
    return steps


def evaluated(model, learned, args):
    return train.evaluate(model, learned.validation, args)[0]


@terminal.reporting
def main(argv=None):
    """Runs the command with the arguments argv (list of str); returns its exit code."""
    parser = terminal.Parser(
        prog='learning.py',
        description='Trains with methods that train.py does not have.',
        epilog='After -- follow options of train.py.',
    )
    parser.add_argument('methods', nargs='*', metavar='METHOD', help=' or '.join(METHODS))
    argv = sys.argv[1:] if argv is None else argv
    end = argv.index('--') if '--' in argv else len(argv)
    methods = parser.parse_args(argv[:end]).methods
    if not {*methods} <= {*METHODS}:
        parser.error(f'methods are {" and ".join(METHODS)}; options of train.py follow --')
    options = train.options()
    given = vars(options.parse_args(argv[end + 1 :]))
    for name in given.keys() & WITHOUT:
        parser.error(f'--{name.replace("_", "-")} has no effect here; leave it out')
    args, _, _ = merge(options, given, train.RUN, train.DEFAULTS, None, parallel.ALONE)
    if not (args.val_frac or args.valid):
        parser.error('--val-frac 0: perplexities of validation are what it prints')
    with run.no_warnings():
        for epoch, row in enumerate(learn(args, methods), 1):
            print(epoch, *(f'{name} {perplexity:.2f}' for name, perplexity in row.items()))
    return 0


if __name__ == '__main__':
    sys.exit(main())
