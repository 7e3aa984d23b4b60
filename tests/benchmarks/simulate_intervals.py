"""How often the 95 % intervals hold the truth, and how often two equal agents are told apart: a simulation.

    python tests/benchmarks/simulate_intervals.py [--runs 3000] [--resamples 2000] [--seed 0]

A task's chance of success is drawn from a beta distribution with the given mean, in which two attempts at one task correlate by 0.5;
the attempts are drawn from that chance. Intervals are `clustered_bootstrap`'s, and `paired_bootstrap`'s on
one attempt of two agents of the same chances. A graded score is 1 at success, else drawn from Beta(1, 1.5).
"""

from __future__ import annotations

import argparse

import numpy as np

from prosegym.evaluation.statistics import clustered_bootstrap, paired_bootstrap

CORRELATION = 0.5


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--runs", type=int, default=3000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, runs, resamples = np.random.default_rng(arguments.seed), arguments.runs, arguments.resamples

    def chances(tasks: int, mean: float) -> np.ndarray:
        concentration = (1 - CORRELATION) / CORRELATION
        return rng.beta(mean * concentration, (1 - mean) * concentration, tasks)

    for attempts in (1, 4):
        for tasks in (10, 30, 100):
            for mean in (0.05, 0.5, 0.95):
                held = 0
                for _ in range(runs):
                    won = rng.binomial(attempts, chances(tasks, mean))
                    clusters = [[1.0] * k + [0.0] * (attempts - k) for k in won]
                    found = clustered_bootstrap(clusters, resamples=resamples)
                    held += found.low <= mean <= found.high
                print(
                    f"{attempts} attempts, {tasks:3d} tasks, success {mean:.2f}: {held / runs:.3f} hold it",
                    flush=True,
                )
    for tasks in (10, 30, 100):
        for mean in (0.1, 0.5, 0.9):
            told = {"success": 0, "success or score": 0}
            for _ in range(runs):
                chance = chances(tasks, mean)
                won = [(rng.random(tasks) < chance).astype(float) for _ in "AB"]
                scores = [np.where(w == 1, 1.0, rng.beta(1, 1.5, tasks)) for w in won]
                apart = []
                for a, b in (won, scores):
                    found = paired_bootstrap(a[:, None].tolist(), b[:, None].tolist(), resamples=resamples)
                    apart.append(found.low > 0 or found.high < 0)
                told["success"] += apart[0]
                told["success or score"] += any(apart)
            rates = ", ".join(f"{n / runs:.3f} by {what}" for what, n in told.items())
            print(f"equal agents, {tasks:3d} tasks, success {mean:.1f}: told apart {rates}", flush=True)


if __name__ == "__main__":
    main()
