"""What features alone tell of a node without edges: `python benchmarks/cold_start.py cora citeseer photo --seeds 3`.

A support vector machine with a Gaussian kernel reads features and no edges. It learns the true labels of all nodes that
a teacher sees, test nodes included, and predicts the unseen nodes. A student has far fewer labels: at a cold start it
can hardly do better. A second machine learns the training labels alone. Both choose C by validation accuracy, with the
validation nodes left out of the fit.

`--out` gets a file of logs for each graph; a run for which it has a log is not repeated.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.svm import SVC

from graphkd.data import cpf_split, load, make_setting
from graphkd.data.graph import Graph
from graphkd.pipeline.logs import log_of, per_cent
from kdlosses.cli.logs import Log, read, write
from kdlosses.cli.report import table

STRENGTHS = (0.3, 1.0, 3.0, 10.0)
TOLD = {"svm told all labels seen": True, "svm told the labels to learn from": False}


def run(graph: Graph, name: str, seed: int) -> list[Log]:
    """The logs of both machines on one split."""
    setting = make_setting(graph, cpf_split(graph.y, seed), "ind", seed)
    x, y = graph.x.to_dense().numpy(), graph.y.numpy()
    train, val = setting.observed[setting.train].numpy(), setting.observed[setting.val].numpy()
    logs = []
    for method, everything in TOLD.items():
        begun = time.perf_counter()
        known = setting.observed.numpy() if everything else train
        first = np.setdiff1d(known, val)
        right = [np.mean(SVC(C=c).fit(x[first], y[first]).predict(x[val]) == y[val]) for c in STRENGTHS]
        best = STRENGTHS[int(np.argmax(right))]
        cold = setting.unseen.numpy()
        accuracy = float(np.mean(SVC(C=best).fit(x[known], y[known]).predict(x[cold]) == y[cold]))
        logs.append(
            log_of(
                "graph",
                {},
                None,
                None,
                name=f"cold_start-{name}",
                role="reference",
                method=method,
                seed=seed,
                config={"data": name, "C": best},
                metrics={"cold": per_cent(accuracy), "labels": len(known)},
                selection="C by validation accuracy",
            )
            | {"seconds": time.perf_counter() - begun}
        )
    return logs


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, and print a table for each graph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="+", metavar="GRAPH", help="names that `graphkd.data.load` knows")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to SEEDS - 1 (default: 3)")
    parser.add_argument("--out", type=Path, default=Path("results/graph"), help="folder (default: %(default)s)")
    args = parser.parse_args(arguments)
    for name in args.graphs:
        path = args.out / f"cold_start-{name}.json"
        logs = read(path) if path.is_file() else []
        graph = load(name)
        for seed in set(range(args.seeds)) - {log["seed"] for log in logs}:
            logs += run(graph, name, seed)
            write(path, logs)
        print(table(logs), flush=True)


if __name__ == "__main__":
    main()
