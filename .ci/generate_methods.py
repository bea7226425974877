"""Write what is made from the steps: functions, methods of `.pxprep`, methods of pipelines.

Each step is declared once, in its file in `src/pxprep/steps/`. From its fields and its docstring
come `pxprep/ops.py`, `pxprep/methods.py` and `pxprep/pipeline/fluent.py`, so that editors, `help()`
and type checkers see whole signatures and docstrings. Run `python .ci/generate_methods.py` after a
step was added or changed; a test says if that was forgotten.
"""

import ast
import importlib
import inspect
import re
import sys
import textwrap
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

PACKAGE = Path(__file__).parents[1] / "src" / "pxprep"
# Of the lines of code.
WIDTH = 100
# The steps in the order in which they are listed.
STEPS = (
    *("QuantileNorm", "Blur", "SumMask", "SumNorm", "PostNorm", "Clip", "Arcsinh", "Log1p"),
    *("SubtractBackground", "PercentileClip", "MinMax", "RemoveHotPixels", "Threshold"),
    *("Median", "Zscore", "RobustZscore", "SubtractChannels", "Compensate"),
)
# Those of `aliases` that types of parameters have.
ALIASES = ("Backgrounds", "Factors", "PerChannel", "Zeros")
# Functions that are no steps, or that take what a step of a pipeline does not, and their modules.
FUNCTIONS = {
    "sum_mask": "sum_mask",
    "keep_where": "keep_where",
    "divide": "divide",
    "rescale": "rescale",
    "coarsen": "summaries",
    "pixel_sum": "summaries",
    "quantile": "summaries",
}

IMAGES = """
An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
sequence, a mapping, a tree or a `pxprep.Cohort` of images.
"""
POOL = """
How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
"""
WHERE = """
Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
like `images`. All pixels are changed; see `keep_where`. None measures all. A
`pxprep.Cohort` has its own.
"""
LIKE = "Like `images`, float32 or float64; lazy if they are."
LIKE_MASKED = "Like `images`, float32 or float64; lazy if they or the mask are."
NO_IMAGES = "If `images` are no images, or differ in dims."
NAME = """
What the step is called; None for its kind, the second of that kind ``kind_2``.
"""
HEAD = "# Made by `python .ci/generate_methods.py` from the files of `steps/`: do not edit.\n"


class Parameter(NamedTuple):
    """Of a function: its name, its type, its default and its description."""

    name: str
    type: str
    default: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.type}" + ("" if self.default is None else f" = {self.default}")


class Docstring:
    """A numpydoc docstring in parts."""

    def __init__(self, text: str) -> None:
        parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.cleandoc(text) + "\n", flags=re.M)
        self.head = parts[0].strip()
        self.sections = {
            title: body.strip("\n") for title, body in zip(parts[1::2], parts[2::2], strict=True)
        }

    def entries(self, section: str) -> dict[str, str]:
        """The entries of a section, by name."""
        found = re.split(r"^(\S.*)\n", self.sections.get(section, "") + "\n", flags=re.M)
        return {
            name: textwrap.dedent(body).strip()
            for name, body in zip(found[1::2], found[2::2], strict=True)
        }

    def with_entries(self, section: str, entries: dict[str, str]) -> None:
        """Put the entries of a section in place of those it has; none takes it away."""
        self.sections[section] = "\n".join(
            f"{name}\n{textwrap.indent(text.strip(), '    ')}" if text else name
            for name, text in entries.items()
        )

    def text(self, indent: int) -> str:
        """The docstring as it is written, its quotes included."""
        order = ("Parameters", "Returns", "Raises", "Warns", "Notes", "Examples")
        sections = [
            f"{title}\n{'-' * len(title)}\n{self.sections[title]}"
            for title in order
            if self.sections.get(title)
        ]
        whole = "\n\n".join([self.head, *sections])
        quoted = f'"""{whole}\n"""' if sections or "\n" in self.head else f'"""{whole}"""'
        return textwrap.indent(quoted, " " * indent, lambda line: line.strip() != "")


def load() -> ModuleType:
    """`pxprep.steps`, without the modules that are made here."""
    package = ModuleType("pxprep")
    package.__path__ = [str(PACKAGE)]
    sys.modules["pxprep"] = package
    return importlib.import_module("pxprep.steps")


def parameters_of_step(step: type) -> list[Parameter]:
    """The parameters of a step's class, from its fields and its docstring."""
    texts = {}
    for names, text in Docstring(step.__doc__ or "").entries("Parameters").items():
        texts |= dict.fromkeys(names.split(", "), text)
    return [
        Parameter(
            field.name,
            type_text(field.type),
            None if field.default is MISSING else quoted(field.default),
            texts[field.name],
        )
        for field in fields(step)
    ]


def type_text(annotation: Any) -> str:
    """What a type checker needs to see of the type of a field."""
    aliases = importlib.import_module("pxprep.aliases")
    names = {getattr(aliases, name): name for name in ALIASES}
    names |= {bool: "bool", float: "float", str: "str", Any: "object"}
    if hasattr(annotation, "__metadata__"):
        return names[annotation.__origin__]
    if annotation in names:
        return names[annotation]
    return " | ".join(
        "None" if one is type(None) else type_text(one) for one in get_args(annotation)
    )


def quoted(value: Any) -> str:
    """A default as it is written."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def parsed(source: str) -> tuple[list[Parameter], list[Parameter], str, Docstring]:
    """A function's positional and keyword parameters but the first, its result, its docstring."""
    (node,) = ast.parse(source).body
    if not isinstance(node, ast.FunctionDef) or node.returns is None:
        raise TypeError(f"a function with the type of its result is needed, got {source}")

    def parameter(arg: ast.arg, default: ast.expr | None) -> Parameter:
        value = None if default is None else ast.unparse(default).replace("'", '"')
        return Parameter(arg.arg, ast.unparse(arg.annotation or ast.Name("object")), value, "")

    positional = node.args.args
    missing = [None] * (len(positional) - len(node.args.defaults))
    first = [
        parameter(*pair) for pair in zip(positional, [*missing, *node.args.defaults], strict=True)
    ]
    keywords = [
        parameter(*pair) for pair in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    ]
    document = Docstring(ast.get_docstring(node) or "")
    return first[1:], keywords, ast.unparse(node.returns), document


def signature(
    name: str, first: str, own: list[Parameter], keywords: list[Parameter], result: str
) -> str:
    """The line, or the lines, that begin a function."""
    items = [first, *map(str, own), *(["*", *map(str, keywords)] if keywords else [])]
    hides = any(parameter.name == "max" for parameter in own)
    end = ":  # noqa: A002" if hides else ":"
    indent = 4 if first == "self" else 0
    line = f"def {name}({', '.join(items)}) -> {result}{end}"
    if len(line.removesuffix("  # noqa: A002")) + indent <= WIDTH:
        return line
    return "\n".join([f"def {name}(", *(f"    {item}," for item in items), f") -> {result}:"])


def call(function: str, arguments: list[str], indent: int) -> str:
    """A statement that returns what a function returns, on one line or on several."""
    line = f"return {function}({', '.join(arguments)})"
    if len(line) + indent <= WIDTH:
        return line
    body = f"    {', '.join(arguments)}"
    if len(body) + indent <= WIDTH:
        return f"return {function}(\n{body}\n)"
    return "\n".join([f"return {function}(", *(f"    {one}," for one in arguments), ")"])


def measures(step: type) -> bool:
    """Whether a step measures anything."""
    base = importlib.import_module("pxprep.steps.base").Step
    return step.statistic is not base.statistic or step.measure is not base.measure


MEASURED = [
    Parameter("pool", "Pool", '"mean"', POOL),
    Parameter("where", "object", "None", WHERE),
]


def function_text(step: type) -> str:
    """The function of a step."""
    own, keywords = parameters_of_step(step), MEASURED if measures(step) else []
    document = Docstring(step.__doc__ or "")
    described = {"images": IMAGES} | document.entries("Parameters")
    document.with_entries("Parameters", described | {one.name: one.text for one in keywords})
    like = LIKE_MASKED if keywords else LIKE
    document.with_entries("Returns", {"xarray.DataArray or cohort": like})
    raised = document.entries("Raises") | {"ImageError": NO_IMAGES}
    document.with_entries("Raises", raised)
    head = signature(step.kind, "images: AnyImages", own, keywords, "AnyImages")
    made = f"{step.__name__}({', '.join(parameter.name for parameter in own)})"
    given = [f"{parameter.name}={parameter.name}" for parameter in keywords]
    body = call("apply_step", [made, "images", *given], 4)
    return f"{head}\n{document.text(4)}\n{textwrap.indent(body, '    ')}\n"


def method_text(name: str, source: str, step: type | None) -> str:
    """The method of `.pxprep` that does what a function of `ops` does, from its source.

    That of a step calls what the function calls; any other the function.
    """
    own, keywords, result, document = parsed(source)
    described = document.entries("Parameters")
    del described["images"]
    document.with_entries("Parameters", described)
    returns = "Made" if result == "AnyImages" else result
    head = signature(name, "self", own, keywords, returns)
    first = [parameter.name for parameter in own]
    given = [f"{parameter.name}={parameter.name}" for parameter in keywords]
    if step is None:
        body = "from . import ops\n\n" + call(f"ops.{name}", ["self._images", *first, *given], 8)
    else:
        made = f"{step.__name__}({', '.join(first)})"
        body = f"from .steps import {step.__name__}\nfrom .steps.base import apply_step\n\n"
        body += call("apply_step", [made, "self._images", *given], 8)
    text = document.text(8).replace("Like `images`", "Like the image or the cohort")
    text = text.replace(NO_IMAGES, "If it is no image, or the images of a cohort differ in dims.")
    # A method has no parameter `images`.
    text = text.replace("like `images`", "in the form of the images")
    text = text.replace("`images`", "the images")
    return f"{textwrap.indent(head, '    ')}\n{text}\n{textwrap.indent(body, ' ' * 8)}\n"


def fluent_text(step: type) -> str:
    """The method of a pipeline that adds a step."""
    own = parameters_of_step(step)
    keywords = [Parameter("name", "str | None", "None", NAME)]
    document = Docstring(step.__doc__ or "")
    document.with_entries("Parameters", document.entries("Parameters") | {"name": NAME})
    document.with_entries("Returns", {"Pipeline": "With one more step."})
    del document.sections["Examples"]
    head = signature(step.kind, "self", own, keywords, "Self")
    made = f"{step.__name__}({', '.join(parameter.name for parameter in own)})"
    body = call("self.then", [made, "name"], 8)
    return (
        f"{textwrap.indent(head, '    ')}\n{document.text(8)}\n{textwrap.indent(body, ' ' * 8)}\n"
    )


def listed(names: list[str]) -> str:
    """What a module hands on."""
    return "\n".join(["__all__ = [", *(f'    "{name}",' for name in sorted(names)), "]"])


def imported(module: str, names: list[str]) -> str:
    """An import, on one line or on several."""
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in names), ")"])


OPS_DOC = '''"""The steps as functions on labeled images.

Every function takes an image, an `xarray.DataArray` with the dims ``c``, ``y``, ``x`` and
optionally ``z`` in any order, and returns one with the same dims, coordinates, name and attrs. The
input is never modified. Integers, bool, float16 and float32 give float32, float64 stays float64. An
image that holds a NumPy array is processed at once, on all cores; one that holds a Dask array gives
a Dask array and nothing is computed, not even the quantiles, until it is asked for. Both give the
same bits. Infinite pixels count as missing, that is, as NaN.

Or it takes a cohort: a sequence, a mapping of names to images, an `xarray.Dataset` of images, an
`xarray.DataTree` with an image in each leaf, or a `pxprep.Cohort`. The images, which must have the
same channels in any order, are measured together and each is processed; the result is a list, a
dict, a dataset, a tree or a cohort like the one given. A node of a tree that holds ``scale0``,
``scale1``, ... is one image, measured and processed at ``scale0``; its coarser scales are made
again.

``docs/method.md`` says what each step means and where it comes from.
"""
'''


def files() -> dict[Path, str]:
    """What is made: the text of each file."""
    steps = load()
    classes = [getattr(steps, name) for name in STEPS]
    modules = {name: importlib.import_module(f"pxprep.steps.{m}") for name, m in FUNCTIONS.items()}
    functions = {name: getattr(module, name) for name, module in modules.items()}
    made = {step.kind: function_text(step) for step in classes if step.kind not in functions}
    own = [step.__name__ for step in classes if step.kind not in functions]
    by_module: dict[str, list[str]] = {}
    for name, module in FUNCTIONS.items():
        by_module.setdefault(module, []).append(name)
    ops = "\n".join(
        [
            HEAD + OPS_DOC,
            imported(".aliases", sorted([*ALIASES, "Pool"])),
            "from .images.image_set import AnyImages",
            imported(".steps", sorted(own)),
            "from .steps.base import apply_step",
            *(
                imported(f".steps.{module}", sorted(names))
                for module, names in sorted(by_module.items())
            ),
            "",
            listed([*made, *functions]),
            "",
            "",
            "\n\n".join(made.values()),
        ]
    )
    sources = made | {name: inspect.getsource(one) for name, one in functions.items()}
    in_order = dict.fromkeys([*(step.kind for step in classes), *functions])
    by_kind = {step.kind: step for step in classes if step.kind in made}
    methods = [method_text(name, sources[name], by_kind.get(name)) for name in in_order]
    accessor = "\n".join(
        [
            HEAD + '"""The steps as methods of images and cohorts.',
            "",
            "They import what they need when called, so that importing the package stays fast.",
            '"""\n',
            "from collections.abc import Mapping",
            "from typing import Generic, TypeVar\n",
            "import xarray as xr\n",
            imported(".aliases", sorted([*ALIASES, "Images", "Pool", "SizeFactor"])) + "\n",
            "# The type that these methods return: that of the image or tree, or `Cohort`.",
            'Made = TypeVar("Made")\n\n',
            "class StepMethods(Generic[Made]):",
            '    """Methods that call the function of their name with images."""\n',
            "    _images: Images\n",
            "\n".join(methods),
        ]
    )
    fluent = "\n".join(
        [
            HEAD + '"""The steps as methods that add one to a pipeline."""\n',
            "from typing import Self\n",
            imported("..aliases", sorted(ALIASES)),
            imported("..steps", sorted(STEPS)) + "\n\n",
            "class FluentSteps:",
            '    """Methods that add the step of their name."""\n',
            "    def then(self, step: object, name: str | None = None) -> Self:",
            '        """The pipeline with one more step: a `Step` or a function image -> image."""',
            "        raise NotImplementedError\n",
            "\n".join(fluent_text(step) for step in classes),
        ]
    )
    return {
        PACKAGE / "ops.py": ops,
        PACKAGE / "methods.py": accessor,
        PACKAGE / "pipeline" / "fluent.py": fluent,
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
