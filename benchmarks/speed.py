"""minigrad beside its peers: a chain of small nodes, training steps, single ops, recurrence, convolution, second order.

float32, eager and compiled, against PyTorch eager and compiled, JAX, autograd, MyGrad, MLX and tinygrad, as far as
they are installed, and hand-written NumPy, the control. Each is checked against the control before it is timed.
--threads 1 is the run to judge by: what is wanted is asked of it. On a machine where anything else runs, the threads of
BLAS, PyTorch and OpenMP wait for one another, and make figures with several of them ten to a hundred times too large.
The roofline: the time that it takes at least to move every array given once and every result once, at the rate of a
copy of as many bytes, and to compute the matrix products, at the rate of a large one, both measured here.
"""

from __future__ import annotations

from typing import Any

import bench
import book_step
import contest
import conv
import fused
import overhead
import recurrent
import roofline
import second_order


def works(*, quick: bool) -> list[contest.Work]:
    """All of them; to see that it works, one of each and none of the large ones."""
    nets = book_step.works()
    return [
        overhead.work(),
        *(nets[:2] if quick else nets),
        *fused.works(quick=quick),
        recurrent.work(),
        *map(conv.work, list(conv.NETS)[1 if quick else 0 :]),
        second_order.work(),
    ]


def main() -> None:
    """Everything: tables, roofline, what is wanted."""

    def extra(parser: Any) -> None:
        parser.add_argument("--only", metavar="FAMILY", help="works whose family begins so")

    chosen = bench.options(__doc__, extra)
    report = bench.Report("minigrad and its peers", chosen)
    from peers_compiled import present

    wanted = [work for work in works(quick=chosen.quick) if work.family.startswith(chosen.only or "")]
    peers, absent = present(quick=chosen.quick)
    for line in absent:
        report.note(line)
    found = [contest.run(work, peers, quick=chosen.quick) for work in wanted]
    contest.publish(report, found)
    roofline.publish(report, found, quick=chosen.quick)
    print()
    contest.judge(report, wanted, found)
    report.close()


if __name__ == "__main__":
    main()
