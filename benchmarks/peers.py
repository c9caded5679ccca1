"""How fast other people's character models train and speak on this machine, and ours of the same size.

    python benchmarks/peers.py [--spro CHECKOUT] [--nanogpt CHECKOUT] [--min-char-rnn FILE] [--rounds 15]

Their code is not here: checkouts and file are yours, and are copied, not changed. Each side is a process with
all cores; they take turns, and ratios are of the same round each. A peer's own training loop runs as it is,
reading included, and waits where a step begins; what it prints and saves now and then is left out. Ours is
the trainer of `charrnn train` with the same cell, size, batch, window and rule, and `charrnn sample`'s voice.
nanoGPT's network is none of ours: beside its recipe for a CPU, 0.80 million weights, stands an LSTM of 0.87.
Changed in memory: spro's `loss.data[0]`, an error since torch 0.5, is `loss.data`, its `unidecode` and `tqdm`
do nothing; Python 2's `print` and `xrange` are Python 3's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from quality import RECORDS, TEXTS, machine
from time_to_quality import RECIPE, copied, prepare

from charrnn.bench.timing import Task, measure

TURN_SECONDS, SECONDS = 0.5, 60.0
CHARS, REPORTED, FOR_EVER = 100, 10, 10**9
"""Characters and, of ours, steps that are asked for at least: it reports every tenth."""
CHANGES = ((r"\bprint (['\"].*?)( # .*)?$", r"print(\1)"), (r"loss\.data\[0\]", "loss.data"))
Peer = namedtuple("Peer", "script words chars ours")
"""What is run, the characters of a step, and our settings."""


def sizes(cell: str, hidden: int, layers: int, embedding: int, batch: int, length: int, rule: str) -> dict:
    model = {"cell": cell, "hidden_size": hidden, "num_layers": layers, "embedding_size": embedding}
    training = {"batch_size": batch, "seq_len": length, "optimizer": rule, "steps": FOR_EVER, "num_evals": 1}
    named = {"model": model | {"dropout": 0.0}, "training": training}
    return {f"{part}.{name}": value for part, values in named.items() for name, value in values.items()}


SPRO = ("input.txt", "--hidden_size=100", f"--n_epochs={FOR_EVER}", f"--print_every={FOR_EVER}")
NANO = (*RECIPE, "--eval_iters=1", f"--eval_interval={FOR_EVER}", f"--max_iters={FOR_EVER}")
LOOPS = {
    "spro": ("start = time.time()", "random_training_set"),
    "nanogpt": ("# training loop", "get_lr"),
    "min-char-rnn": ("while True:", "lossFun"),
}
"""How the line begins from which on it trains, and a function that it calls once a step."""
SPEAK = {
    "spro": lambda its, chars: its["generate"](its["decoder"], "Wh", chars),
    "nanogpt": lambda its, chars: its["model"].generate(its["X"][:1, :1], chars, 0.8, top_k=200),
    "min-char-rnn": lambda its, chars: its["speak"](its["hprev"], its["inputs"][0], chars),
}
"""How a script makes so many characters, given its names; nanoGPT's recipe has no dropout to leave out."""
PEERS = {
    "spro": Peer("train.py", SPRO, 100 * 200, sizes("gru", 100, 2, 100, 100, 200, "adam")),
    "nanogpt": Peer("train.py", NANO, 12 * 64, sizes("lstm", 256, 2, 0, 12, 64, "adamw")),
    "min-char-rnn": Peer("min-char-rnn.py", (), 25, sizes("elman", 100, 1, 0, 1, 25, "adagrad")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in PEERS:
        parser.add_argument(f"--{name}", type=Path, metavar="FILE" if "min" in name else "CHECKOUT")
    parser.add_argument("--text", type=Path, default=TEXTS / "tinyshakespeare.txt")
    parser.add_argument("--rounds", type=int, help="left out: as many as a minute holds for each peer")
    parser.add_argument("--out", type=Path, default=RECORDS / "peers.json", metavar="RECORD")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        whose, name = options.serve.split()
        answers, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
        serve_ours(name, answers) if whose == "ours" else serve_peer(name, answers)
    given = {name: place for name in PEERS if (place := getattr(options, name.replace("-", "_")))}
    if not given:
        parser.error("name a peer")
    record = machine() | {"text": options.text.name, "peers": {}}
    for name, place in given.items():
        with tempfile.TemporaryDirectory() as folder:
            record["peers"][name] = compared(name, place, Path(folder), options)
        record["load_after"] = os.getloadavg()[0]
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        for what in ("train", "speak"):
            found = record["peers"][name][what]
            print(f"{name:12} {what} {found['theirs']:12,.0f} {found['ours']:12,.0f} characters/s", end="")
            print("  ratio {median:.2f} ({p10:.2f}..{p90:.2f})".format(**found["ratio"]))


def compared(name: str, source: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a peer and ours in turns; both work in folders of their own."""
    peer, its = PEERS[name], folder / "its"
    (folder / "ours").mkdir()
    if source.is_file():
        its.mkdir()
        shutil.copy(source, its / peer.script)
    else:
        copied(source, its)
    for place in (its, folder / "ours"):
        shutil.copy(options.text, place / "input.txt")
    if name == "nanogpt":
        prepare(options.text, its / "data" / "shakespeare_char")
    with Side(f"its {name}", its) as theirs, Side(f"ours {name}", folder / "ours") as ours:
        chars = {"train": (peer.chars, REPORTED * peer.chars), "speak": (CHARS, CHARS)}
        tasks = [
            side.task(w, n) for w, both in chars.items() for side, n in zip((theirs, ours), both, strict=True)
        ]
        timings = measure(tasks, options.rounds, SECONDS)
    found = {"rounds": timings.rounds, "words": peer.words, "ours": peer.ours}
    found["script_sha256"] = hashlib.sha256((its / peer.script).read_bytes()).hexdigest()
    for what in chars:
        own, other = f"ours {name} {what}", f"its {name} {what}"
        rates = {"theirs": timings.rate(other), "ours": timings.rate(own)}
        found[what] = rates | {"ratio": vars(timings.ratio(own, other))}
    return found


class Side(subprocess.Popen):
    """A process that does what it is told, and says when it is done."""

    def __init__(self, name: str, place: Path) -> None:
        self.name, words = name, [sys.executable, str(Path(__file__).resolve()), "--serve", name]
        super().__init__(words, cwd=place, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, what: str, count: int = 1) -> None:
        print(what, count, file=self.stdin, flush=True)
        if not self.stdout.readline():
            sys.exit(f"`{self.name}` ended; what it said stands above")

    def task(self, what: str, chars: int) -> Task:
        """Return as many steps, or as much text, as fill a turn."""
        self.ask(what)  # the first one is slower
        begun = time.perf_counter()
        self.ask(what)
        count = max(1, round(TURN_SECONDS / (time.perf_counter() - begun)))
        return Task(f"{self.name} {what}", lambda: self.ask(what, count), count * chars)


def serve_peer(name: str, answers: IO[str]) -> None:
    """Run a peer until stdin ends: its loop goes on whenever a step is asked for."""
    peer, (begin, hook) = PEERS[name], LOOPS[name]
    source = Path(peer.script).read_text(encoding="utf-8")
    for old, new in CHANGES:
        source = re.sub(old, new, source, flags=re.MULTILINE)
    before, loop, after = source.partition(f"\n{begin}")
    if not loop:
        sys.exit(f"`{peer.script}` has no line that begins with `{begin}`: another version?")
    sys.path.insert(0, os.getcwd())
    sys.argv = [peer.script, *peer.words]
    for module in ("unidecode", "tqdm"):
        Path(f"{module}.py").write_text(f"def {module}(same): return same")
    its: dict[str, Any] = {"__name__": "__main__", "xrange": range}
    exec(before, its)
    if (its.get("hidden_size", 100), its.get("seq_length", 25)) != (100, 25):
        sys.exit(f"`{peer.script}` is of another size than that of 2015")
    its |= {"speak": its.get("sample"), "sample": lambda *_: []}
    orders, once = obeyed(answers, lambda chars: SPEAK[name](its, chars)), its[hook]
    its[hook] = lambda *values: (next(orders), once(*values))[1]
    exec(loop + after, its)


def serve_ours(name: str, answers: IO[str]) -> None:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as the program does
    from charrnn.events import StepEvent
    from charrnn.sampling import SamplingConfig, Speaker
    from charrnn.training.start import start

    trainer = start(["input.txt"], run="ours", settings=PEERS[name].ours, device="cpu")
    speaker = Speaker(trainer.network, trainer.job.vocabulary, SamplingConfig(temperature=0.8))
    orders = obeyed(answers, lambda chars: "".join(speaker.characters("", chars, 1)))
    for event in trainer.events():
        if isinstance(event, StepEvent) and event.step >= REPORTED:
            next(orders)


def obeyed(answers: IO[str], speak: Callable[[int], object]) -> Iterator[None]:
    """Do what stdin says, line by line; yield where a step of training shall be."""
    for line in sys.stdin:
        what, count = line.split()
        if what == "speak":
            speak(CHARS * int(count))
        else:
            yield from (None for _ in range(int(count)))
        print("done", file=answers, flush=True)
    raise SystemExit


if __name__ == "__main__":
    main()
