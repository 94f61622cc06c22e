"""Measures and prints the slopes that slopes.py defines.

    python benchmarks/studies/theory.py [--sharper] [--out FILE] [--picture PNG]

It takes about a minute on one CPU core.
"""

import argparse
import pathlib
import sys

from slopes import B1, B2, OBJECTIVES, D, P, measure_slopes, slope_figure, slope_text

# measuring.py is in the folder of the speed benchmarks.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "speed"))
from measuring import write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=32, help="independent runs for each T")
    parser.add_argument("--constant", type=float, default=3.0, help="constant c of the step size in Remark 4.6")
    parser.add_argument("--sharper", action="store_true", help="use the step size of the sharper rate")
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    parser.add_argument("--picture", type=pathlib.Path, help="draw it as a PNG")
    arguments = parser.parse_args()

    results = {}
    for name, objective in OBJECTIVES.items():
        result = results[name] = measure_slopes(
            objective, arguments.runs, arguments.constant, sharper=arguments.sharper
        )
        ratios = [row["bound_over_measured"] for row in result["rows"]]
        print(
            f"{name:10} s {objective.s:.3f} (measured {result['measured_s']:.3f})"
            f"  slope {slope_text(result['measured'])}"
            f"  late {slope_text(result['measured_late'])}  predicted {result['predicted_slope']:.3f}"
            f"  (4.2) {result['bound_slope']:.3f}"
            f"  bound over measured {min(ratios):.0f} to {max(ratios):.0f}"
            f"  condition {all(row['condition_holds'] for row in result['rows'])}",
            flush=True,
        )
    if arguments.out is not None:
        settings = {"p": P, "b1": B1, "b2": B2, "d": D, "runs": arguments.runs, "constant": arguments.constant}
        settings |= {"step_size": "sharper"} if arguments.sharper else {}
        write(arguments.out, settings=settings, problems=results)
    if arguments.picture is not None:
        slope_figure(results, arguments.picture)


if __name__ == "__main__":
    main()
