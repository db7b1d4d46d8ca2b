"""How far a training is: a bar on a screen, lines elsewhere, and a look at each loss.

Nothing here knows the network. Losses are in nats per word.
"""

import contextlib
import math
import sys
import threading
import time

import tqdm

from support import terminal

PART = 1_000_000  # words after which a longer epoch is validated and logged: some minutes
AUTOSAVE = 600  # seconds between checkpoints inside a long epoch
FIRST_LINE, LINE_EVERY = 2, 60  # seconds until a file or a pipe gets a line, and between two
WIDTHS = 7, 9, 13, 10, 14, 8, 12  # of the table's columns; a row fits into a screen of 80
JUMP_WORDS = 500  # the fewest words whose loss is compared with the loss before


def parts(words):
    """Into how many parts an epoch of so many words is divided, for validation and the log."""
    return max(1, words // PART)


class Progress:
    """The means of the epoch so far, or of a part of it, and how they are shown.

    A screen gets a bar with the epoch, the time left of the whole run, words per second and the
    loss; a file or a pipe gets a line a minute instead. The time left is reckoned from all windows
    of this start but the first, and from validation and saving between them.

    epochs, words: how long the run and an epoch are; done: words read before this start;
    sums: (3,) float64, of this epoch or part: loss and accuracy, summed over steps, and the steps;
    log: the epochs before this start, a list of dict as in log.jsonl.
    """

    def __init__(self, epochs, words, done, sums, log=()):
        self.epochs, self.words, self.done, self.sums = epochs, words, done, sums
        self.parts, last = parts(words), log[-1] if log else {}
        self.began = time.perf_counter() - last.get('elapsed_time', 0)
        self.watch, self.columns = LossWatch(last.get('main/loss')), None
        self.seconds = self.read = 0  # of this epoch, since the program started
        self.clock = self.last_save = time.perf_counter()
        self.timed_from = self.clock, done  # what the time left is reckoned from
        self.next_line, self.first_window = None, contextlib.ExitStack()
        self.ended = threading.Event()
        self.bar = tqdm.tqdm(
            total=epochs * words,
            initial=done,
            bar_format='{l_bar}{bar}| [{elapsed}{postfix}]',
            dynamic_ncols=True,
            leave=False,
            miniters=1,
            disable=None,
            file=sys.stderr,
        )

    def __enter__(self):
        self.first_window.enter_context(terminal.doing('computing the first window'))
        if not self.bar.disable:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.first_window.close()
        self.bar.close()

    def _tick(self):
        """Lets the clock of the bar go on during a window, which may take many seconds."""
        while not self.ended.wait(1):
            if not terminal.is_doing():  # it has the line
                self.bar.refresh()

    @contextlib.contextmanager
    def saving(self):
        """Inside, a checkpoint is written; its time does not count for words per second."""
        with terminal.doing('saving'):
            yield
        self.clock = self.last_save = time.perf_counter()

    def is_due(self):
        """Is it time for a checkpoint inside a long epoch (bool)?"""
        return time.perf_counter() - self.last_save >= AUTOSAVE

    def add(self, loss, accuracy, steps, words, update):
        """Takes in a window of some steps and words; loss and accuracy are summed over the steps.

        update (int): the number of this window's update. FloatingPointError if the loss is nan or
        infinite.
        """
        now = time.perf_counter()
        self.seconds, self.clock = self.seconds + now - self.clock, now
        self.read, self.done = self.read + words, self.done + words
        where = f'step {update} (epoch {self.done / self.words:.2f})'
        warning = self.watch(loss / steps, words, where)
        if warning:
            self.say(warning, sys.stderr)
        self.sums += loss, accuracy, steps
        shown = f'{self.read / self.seconds:,.0f} words/s, loss {self.sums[0] / self.sums[2]:.3f}'
        if self.next_line is None:  # in the first window much is prepared: it is no measure
            self.first_window.close()
            self.timed_from, self.next_line = (now, self.done), now + min(FIRST_LINE, LINE_EVERY)
        else:
            clock, done = self.timed_from
            left = (self.epochs * self.words - self.done) * (now - clock) / (self.done - done)
            shown = f'{tqdm.tqdm.format_interval(left)} left, {shown}'
        epoch = f'epoch {-(-self.done // self.words)} of {self.epochs}'
        self.bar.set_description_str(epoch, refresh=False)
        self.bar.set_postfix_str(shown, refresh=False)
        self.bar.update(words)
        if now >= self.next_line and not sys.stdout.isatty():
            self.next_line = now + LINE_EVERY
            share = (self.done % self.words or self.words) / self.words
            self.say(f'{epoch}, {share:.0%}: {shown}')

    def parts_done(self, window, windows):
        """How many parts of the epoch are done (int) if one ends with this window; or 0.

        window (int): counted from 0; windows (int): of the epoch.
        """
        done = (window + 1) * self.parts // windows
        return done if done > window * self.parts // windows else 0

    def end_part(self):
        """The means of the epoch or part, a dict for the log; the sums begin again."""
        loss, accuracy, steps = self.sums
        entry = {'main/loss': loss / steps, 'main/accuracy': accuracy / steps}
        entry['tokens/s'] = self.read / self.seconds
        entry['elapsed_time'] = time.perf_counter() - self.began
        self.sums[:] = self.read = self.seconds = 0
        return entry

    def show(self, entry, level):
        """Prints an entry of the log as a row of a table, under a header the first time.

        It gets its perplexities or, if the words are characters (level 'char'), bits per character.
        """
        for name, short in (('main/loss', ''), ('validation/main/loss', 'val_')):
            if name in entry and level == 'char':
                entry[short + 'bpc'] = entry[name] / math.log(2)
            elif name in entry:
                entry[short + 'perplexity'] = math.exp(min(entry[name], 700))  # exp(710) overflows
        if not self.columns:
            derived = 'bpc' if 'bpc' in entry else 'perplexity'
            self.columns = ['epoch', 'main/loss', 'main/accuracy', derived, 'val_' + derived]
            self.columns += ['tokens/s', 'elapsed_time']
            self.say(_row(self.columns))
        self.say(_row(f'{entry[name]:.6g}' if name in entry else '' for name in self.columns))

    def say(self, line, file=None):
        """Prints a line (str), to stdout or to another file, without disturbing the bar."""
        with tqdm.tqdm.external_write_mode(file):
            print(line, file=file, flush=True)


def _row(cells):
    """A row of the table (str), of a cell (str) for each column."""
    return ' '.join(f'{cell:<{width}}' for cell, width in zip(cells, WIDTHS)).rstrip()


class LossWatch:
    """Looks at the loss of each window: is it a number, and did it jump?

    A jump is twice the usual loss and a nat more, over JUMP_WORDS; a single line may differ as
    much. usual: nats per word (float) of the words before, None if there are none.
    """

    def __init__(self, usual=None):
        self.nats = self.words = 0  # since the last comparison
        self.usual = usual

    def __call__(self, loss, words, where):
        """The warning (str) of a jump, or None; `where` is for messages.

        loss: nats per word, of so many words. FloatingPointError if it is nan or infinite.
        """
        if not math.isfinite(loss):
            raise FloatingPointError(f'the loss is {loss} at {where}')
        self.nats, self.words = self.nats + loss * words, self.words + words
        if self.words < JUMP_WORDS:
            return None
        loss, usual = self.nats / self.words, self.usual
        self.nats = self.words = 0
        jumped = usual is not None and loss > max(2 * usual, usual + 1)
        # After a jump the loss may stay there: the next warning is about a further one.
        self.usual = loss if usual is None or jumped else usual + (loss - usual) / 20
        if not jumped:
            return None
        return (
            f'the loss jumped from {usual:.3g} to {loss:.3g} nats per word at {where}; '
            'if it stays there, a smaller --lr helps'
        )
