"""Call the package with damaged arguments and count what comes of it: `python tests/mutation --cases 1000`.

Of each subject (calls of losses, `distills` entries, calls of `graphkd.distill`) so many cases are drawn by a seed. A
case runs, or is refused by an error that the package raises. It is a fault if the traceback ends in a library, if the
error comes after something was trained, if a loss between student and teacher is 0 or NaN without a word, or if the
call does not return.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from mutation.judge import Tally, judge  # noqa: E402  found on the path above

SUBJECTS = ("losses", "entries", "graphs")


def run(subject: str, cases: range, seed: int = 0) -> Tally:
    """Judge some cases of a subject."""
    make = import_module(f"mutation.{subject}").case
    tally = Tally()
    for number in cases:
        what, call = make(number, seed)
        verdict, error = judge(call)
        tally.add(verdict, f"case {number}: {what}{error and f' -> {error}'}")
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; default: all")
    parser.add_argument("--cases", type=int, default=1000, help="of each subject")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    faults = 0
    for subject in args.subjects or SUBJECTS:
        if subject not in SUBJECTS:
            parser.error(f"no subject is called {subject!r}; choose of {', '.join(SUBJECTS)}")
        tally = run(subject, range(args.first, args.first + args.cases), args.seed)
        print(*tally.faults, sep="\n")
        print(f"{subject}: {tally}", flush=True)
        faults += len(tally.faults)
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
