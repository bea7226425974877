"""Does the net hold? Break the engine on purpose, one line at a time, and see which breaks it
finds.

`python -m tests.differential.faults` copies the package for each fault, replaces the line in the
copy, and runs the first shards of the net against it until a case fails. A fault whose line is no
longer there is an error: the list is as old as the engine.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "src" / "pxprep"


class Fault(NamedTuple):
    """What is wrong; the file, the line as it is right, and what stands in its place."""

    what: str
    file: str
    right: str
    wrong: str


FAULTS = [
    # Surroundings of a block
    Fault(
        "a blur reads a pixel too few around a block",
        "steps/blur.py",
        "return blur_radius(max(self.sigmas))",
        "return max(0, blur_radius(max(self.sigmas)) - 1)",
    ),
    Fault(
        "hot pixels are compared within their block",
        "steps/remove_hot_pixels.py",
        '        """The neighbours."""\n        return 1',
        '        """The neighbours."""\n        return 0',
    ),
    Fault(
        "an opening reads a pixel too few around a block",
        "steps/subtract_background.py",
        "return 2 * max(self.radii)",
        "return max(0, 2 * max(self.radii) - 1)",
    ),
    Fault(
        "a median reads a pixel too few around a block",
        "steps/median.py",
        "return max(self.sizes) // 2",
        "return max(0, max(self.sizes) // 2 - 1)",
    ),
    Fault(
        "of several steps that read neighbours, the last one is forgotten",
        "engine/programs.py",
        "return [self.depth - depth for depth in depths]",
        "return [max(0, self.depth - depth - self.operations[-1].depth) for depth in depths]",
    ),
    Fault(
        "edges of a block overlap",
        "engine/windows.py",
        "Window(top, bottom, self.left, left),",
        "Window(self.top, self.bottom, self.left, left),",
    ),
    Fault(
        "the edge at the bottom is taken for that at the top",
        "engine/windows.py",
        "self._replace(top=bottom),",
        "self._replace(top=self.top, bottom=self.top + self.bottom - bottom),",
    ),
    Fault(
        "where the image ends, a blur mirrors a pixel too far",
        "engine/kernels/blur.py",
        "return index if index < size else 2 * size - 1 - index",
        "return index if index < size else max(0, 2 * size - 2 - index)",
    ),
    Fault(
        "tiles of a blur leave out a row",
        "engine/neighbours.py",
        "yield Window(top, min(top + rows, window.bottom), left,",
        "yield Window(top, min(top + max(1, rows - 1), window.bottom), left,",
    ),
    Fault(
        "weights of a blur are taken anew where they need not",
        "engine/neighbours.py",
        "where=(weight != full) & (weight > 0)",
        "where=weight > 0",
    ),
    Fault(
        "missing pixels of an opening are zeros",
        "engine/neighbours.py",
        "values[np.isnan(values)] = np.inf",
        "values[np.isnan(values)] = 0",
    ),
    # Planes, memory, types
    Fault(
        "all planes are the first one",
        "engine/windows.py",
        "+ plane * self.strides[1]",
        "+ 0 * plane * self.strides[1]",
    ),
    Fault(
        "rows that are not contiguous are read as if they were",
        "engine/windows.py",
        "return steps, are_whole and steps[3] == 1 and min(steps) >= 0",
        "return steps, are_whole and min(steps) >= 0",
    ),
    Fault(
        "the byte order of integers is ignored",
        "engine/windows.py",
        "array, top, left = np.ascontiguousarray(block, wanted), 0, 0",
        "array, top, left = np.ascontiguousarray(block), 0, 0\n"
        '                is_whole = array.dtype.kind in "iu"\n'
        "                array = array.view(wanted) if is_whole else array.astype(wanted)",
    ),
    Fault(
        "sums of float64 are added up in float32",
        "engine/blocks.py",
        "return total\n\n\ndef chosen",
        "return total.astype(np.float32).astype(dtype)\n\n\ndef chosen",
    ),
    # Quantiles
    Fault(
        "counts of a block are lost when they are added",
        "engine/sinks.py",
        "for part in parts:\n        total",
        "for part in parts[1:]:\n        total",
    ),
    Fault(
        "merged in order, a result is lost",
        "engine/graphs.py",
        "graph[key] = (merged, [total, *parts[first : first + LINK]])",
        "graph[key] = (merged, [total, *parts[first : first + LINK - 1]])",
    ),
    Fault(
        "one of two parts in memory is forgotten",
        "engine/passes.py",
        "part = self._sink.merge_unless_none([other, part])",
        "part = self._sink.merge_unless_none([part])",
    ),
    Fault(
        "gathered values of a block are lost",
        "engine/gathering.py",
        "for part in parts:",
        "for part in parts[:2]:",
    ),
    Fault(
        "what lies outside a bracket is taken for its end",
        "engine/kernels/brackets.py",
        "if first < -at_low or second >= size + at_high:",
        "if first < -at_low - below or second > size + at_high:",
    ),
    Fault(
        "values that are let go are forgotten",
        "engine/kernels/brackets.py",
        "tally[3] += tally[4] + below",
        "tally[3] += tally[4]",
    ),
    Fault(
        "values are passed over where nothing is known of the bounds",
        "engine/gathering.py",
        "begin, n = begin + n, GROWTH * n",
        "begin, n = begin + n + 1, GROWTH * n",
    ),
    Fault(
        "two arrays lie in the same memory",
        "memory.py",
        "self._pieces.remove(piece)",
        "pass",
    ),
    Fault(
        "the image before the last step is taken for the kept result",
        "engine/passes.py",
        "return ArrayChain(chain.kept.pixels, is_own=True)",
        "return replace(chain, operations=chain.operations[:-2], numbers=chain.numbers[:-2])",
    ),
    Fault(
        "values at a bound that was drawn in are forgotten",
        "engine/kernels/brackets.py",
        "tally[4] = tally[5] if low == bounds[1] else at_low",
        "tally[4] = tally[5] if low == bounds[1] else 0",
    ),
    Fault(
        "the second rank is the first",
        "engine/selection.py",
        "np.minimum(below + 1, last)",
        "np.minimum(below, last)",
    ),
    Fault(
        "ranks within a digit are counted from the beginning",
        "engine/selection.py",
        'selection["rank"] = rank - below_run - below',
        'selection["rank"] = rank',
    ),
    Fault(
        "the prefixes of both ranks are that of the first",
        "engine/digits.py",
        "if wanted.index(prefix) == position:",
        "prefix = wanted[0]\n            if True:",
    ),
    Fault(
        "zeros are never counted",
        "engine/kernels/brackets.py",
        "valid = finite & (zeros | (v != 0))",
        "valid = finite & (v != 0)",
    ),
    Fault(
        "whether zeros of sums count is ignored",
        "steps/sum_mask.py",
        'SumThreshold(np.array([[self.q_sum]]), self.zeros == "include")',
        "SumThreshold(np.array([[self.q_sum]]), False)",
    ),
    # Masks
    Fault(
        "masks of lazy images are those of the block before",
        "engine/tasks.py",
        "for block in [index, *source.neighbours(index, around)]",
        "for block in [index, *source.neighbours(index, window)]",
    ),
    Fault(
        "masks are not seen where quantiles are counted and gathered",
        "engine/programs.py",
        "mask = None if where is None else where.read(strip)",
        "mask = None",
    ),
    Fault(
        "masks are a pixel off",
        "engine/blocks.py",
        "everywhere = np.broadcast_to(mask[0], block.shape[1:])",
        "everywhere = np.broadcast_to(np.roll(mask[0], 1, -1), block.shape[1:])",
    ),
    Fault(
        "inverted masks are not",
        "engine/blocks.py",
        "return ~inside if inverted else inside",
        "return inside",
    ),
    # Channels, cohorts, pipelines
    Fault(
        "the first channels stay, and not those that are not dropped",
        "engine/operations.py",
        "strip.values()[list(self.positions)]",
        "strip.values()[: len(self.positions)]",
    ),
    Fault(
        "chunks of channels are read in the wrong order",
        "engine/axes.py",
        "return [(name, *(place[axis] for axis in axes)) for place in places]",
        "return [(name, *(place[axis] for axis in axes)) for place in reversed(places)]",
    ),
    Fault(
        "values by channel are one channel off",
        "channels.py",
        "[values.get(label, values.get(...)) for label in labels]",
        "[values.get(label, values.get(...)) for label in (*labels[1:], labels[0])]",
    ),
    Fault(
        "channels are matched by position",
        "channels.py",
        "chosen = image.isel({CHANNEL: positions})",
        "chosen = image.assign_coords({CHANNEL: [known[place] for place in positions]})",
    ),
    Fault(
        "the last image is not pooled",
        "steps/quantiles.py",
        "groups.append(list(range(len(arrays))))",
        "groups.append(list(range(len(arrays) - 1)))",
    ),
    Fault(
        "means are rounded more than once",
        "steps/image_values.py",
        "return statistics.mean(values.tolist())",
        "return sum((values / values.size).tolist())",
    ),
    Fault(
        "images without a range count for the mean of ranges",
        "steps/statistics.py",
        "np.where(constant, np.nan, measured.values)",
        "np.where(False, np.nan, measured.values)",
    ),
    Fault(
        "references are ignored",
        "pipeline/run.py",
        "source = current if step.reference is None else outputs[step.reference]",
        "source = current",
    ),
    Fault(
        "blocks go through steps that measure by themselves before these have measured",
        "pipeline/base_pipeline.py",
        "Step.operation not in operations and not by_itself",
        "Step.operation not in operations",
    ),
    Fault(
        "a division that waits is forgotten before the next one",
        "engine/programs.py",
        "        if self._scale is not None or self._sums is not None:\n            self.block()\n"
        "        self._scale = scale",
        "        self._scale = scale",
    ),
    # What is kept, and arrays that are taken for others
    Fault(
        "blocks are kept by their row alone",
        "engine/cache.py",
        'chunks = self._get(("blocks", index), read)',
        'chunks = self._get(("blocks", index[:2]), read)',
    ),
    Fault(
        "edges are kept whatever their width",
        "engine/cache.py",
        'return self._get(("edges", index, depth), read)',
        'return self._get(("edges", index), read)',
    ),
    Fault(
        "a block that is half made is taken for whole",
        "engine/windows.py",
        "return self._n_left == 0",
        "return self._n_left < _n_pixels(self._window)",
    ),
    Fault(
        "of several sinks, each keeps the last strip alone",
        "engine/sinks.py",
        "totals = [sink.merge_unless_none([*pair]) for sink, *pair in both] or parts",
        "totals = parts",
    ),
    Fault(
        "integers are counted in too few slots",
        "engine/digits.py",
        "return -(-max(slots) // RUN) * RUN",
        "return max(slots) // RUN * RUN",
    ),
    Fault(
        "arrays of one name are one array",
        "engine/graphs.py",
        "    if all(_is_unique(",
        "    if True or all(_is_unique(",
    ),
    Fault(
        "the wrong pass is left out",
        "engine/jobs.py",
        "return None if box[0] is None else job(*values)",
        "return job(*values) if box[0] is None else None",
    ),
]


def main():
    """Find faults, as the command line says; the exit code is how many were not found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.differential.faults", description=__doc__
    )
    parser.add_argument("--cases", type=int, default=420, help="at most, for each fault")
    parser.add_argument("--only", default="", help="faults whose description has these words")
    parser.add_argument("--weight", help="only cases with this weight")
    options = parser.parse_args()
    missed = 0
    for fault in FAULTS:
        if options.only in fault.what:
            result = hunt(fault, options.cases, options.weight)
            missed += not result.startswith("after")
            print(f"{result:>14}  {fault.what} ({fault.file})", flush=True)
    return missed


def hunt(fault, n_cases, weight=None):
    """After how many cases, of all or of those with a weight, the net finds a fault, in words."""
    with TemporaryDirectory() as folder:
        # With what Numba has kept, which is known by the files' times.
        package = Path(shutil.copytree(PACKAGE, Path(folder) / "pxprep"))
        file = package / fault.file
        text = file.read_text()
        if text.count(fault.right) != 1:
            return "no such line"
        file.write_text(text.replace(fault.right, fault.wrong))
        command = [sys.executable, "-m", "tests.differential", "--first", f"--cases={n_cases}"]
        command += [] if weight is None else [f"--weight={weight}"]
        done = subprocess.run(
            command,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
            check=False,
        )
    failure = re.search(r"failure 1: case (\d+), shard \d+", done.stdout)
    if failure is None:
        return f"not in {n_cases}" if done.returncode == 0 else f"failed: {done.stderr[-500:]}"
    return f"after {failure[1]} cases"


if __name__ == "__main__":
    sys.exit(main())
