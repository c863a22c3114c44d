"""`kgen bench`: kernels on the GPU that is here, beside what a user would call instead; and what a build costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from kgen.cli import show
from kgen.cli.options import AsJson, OneArch, command_group, row_counts
from kgen.cli.progress import Counting
from kgen.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kgen.bench.layer import Layer
    from kgen.spec.base import Dtype
    from kgen.spec.problem import GemmShape

app = command_group("Time kernels on the GPU that is here, or the build.", invoke_without_command=True)
COLUMNS = ("dtype", "M", "N", "K", "us", "floor", "ratio", "GB/s")  # then the peers' times and the kernel
ROWS = {
    "llmm1": "1",
    "wvsplitkrc": "16,64",
    "gemm_4bit": "1,8",
    "gemm_w4a16": "16,64,256,1024,4096",
    "w4a16_linear": "1,8,16,64,256,1024,4096",
}  # activation rows where nobody says; 1 and 4 for the others


@app.callback()
def kernels(
    context: typer.Context,
    arch: OneArch = None,
    family: Annotated[str, typer.Option(help="Kernel family whose op is timed.")] = "wvsplitk",
    model: Annotated[
        list[str] | None,
        typer.Option("--shapes", help="Model of `kgen shapes list`; may be given again. Default: all."),
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option("--shape", metavar="MxK", help="A layer as 4096x2048; may be given again.")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option("--rows", "-N", help="Activation rows, such as 1,4. Default: what the family is made for."),
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="bf16, fp16, or fp32 of gemm_4bit; may be given again. Default: bf16.")
    ] = None,
    trait: Annotated[
        list[str] | None,
        typer.Option(
            "--trait",
            metavar="KEY=VALUE",
            help="Of the weights, such as GROUP_SIZE=32 or HAS_ZP=true; may be given again.",
        ),
    ] = None,
    kernel: Annotated[str | None, typer.Option(help="This kernel in place of the table's pick.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Time what a user would call instead as well, in turn.")
    ] = True,
    launch: Annotated[
        bool, typer.Option("--launch", help="Only the host's cost of one eager call of each op.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Time a family's op for every shape, beside what else would answer and the time in which the device reads the same cold bytes."""
    if context.invoked_subcommand is not None:
        return
    from kgen.spec.registry import family_of, tabled

    family = family_of(kernel) if kernel else family
    traits = _traits(family, trait or [])
    wanted = [
        tabled(family).shape(each.M, each.N, each.K, **traits)
        for each in _shapes(model, shape, rows or ROWS.get(family, "1,4"))
    ]
    import kgen.ops  # noqa: F401 - registers the ops
    from kgen.bench.kernels import bench_family, library_on_gpu
    from kgen.runtime import session

    library = session.load(arch)
    if launch:
        from kgen.bench.launch import bench_launch

        _print_launch(bench_launch(library_on_gpu()), as_json)
        return
    kinds = [_dtype(word) for word in dtype or ["bf16"]]
    done: list[dict[str, Any]] = []
    total = len(wanted) * len(kinds)
    with Counting("bench") as bar:
        for case in bench_family(family, wanted, kinds, kernel=kernel, peers=compare):
            done.append(case.as_dict())
            bar.step(len(done), total, f"{case.M}x{case.K} N{case.N} {case.dtype}")
    if as_json:
        show.print_json(done)
        return
    print(f"{library.driver.device}; us: median of paired rounds, cold weights; floor: reading the same bytes")
    peers = [f"{name} us" for name in (done[0]["peers"] if done else ())]
    show.print_table([_row(case) for case in done], (*COLUMNS, *peers, "kernel"))


def _shapes(models: list[str] | None, layers: list[str] | None, rows: str) -> list[GemmShape]:
    """Every layer with every number of rows, without repeats; SpecError for words that are no sizes."""
    from kgen.spec.problem import GemmShape
    from kgen.spec.shapes import load_shapes, shape_sets

    pairs: list[tuple[int, int]] = []
    problems = []
    for word in layers or ():
        m, _, k = word.partition("x")
        if m.isdigit() and k.isdigit():
            pairs.append((int(m), int(k)))
        else:
            problems.append(Problem(("--shape",), repr(word), "MxK, such as 4096x2048"))
    counts: tuple[int, ...] = ()
    try:
        counts = row_counts(rows)
    except SpecError as error:
        problems += error.problems
    if problems:
        raise SpecError("what to measure", problems)
    if models or not layers:
        pairs += [(s.M, s.K) for name in models or shape_sets() for s in load_shapes(name)]
    return [GemmShape(m, n, k) for m, k in dict.fromkeys(pairs) for n in counts]


def _traits(family: str, words: list[str]) -> dict[str, int | bool]:
    """`GROUP_SIZE=32` and such as a dict; SpecError for what the family does not have."""
    from kgen.spec.registry import tabled

    known = tabled(family).traits
    out: dict[str, int | bool] = {}
    problems = []
    for word in words:
        key, _, value = word.partition("=")
        values = {str(each).lower(): each for each in known.get(key, ())}
        if value.lower() in values:
            out[key] = values[value.lower()]
        else:
            allowed = "; ".join(f"{name}={'|'.join(str(v).lower() for v in each)}" for name, each in known.items())
            problems.append(Problem(("--trait",), repr(word), allowed or f"nothing: {family} has no traits"))
    if problems:
        raise SpecError("what to measure", problems)
    return out


def _row(case: dict[str, Any]) -> dict[str, Any]:
    peers = {f"{name} us": peer["us"] for name, peer in case["peers"].items()}
    return case | {"floor": case["floor_us"], "GB/s": case["gbs"]} | peers


def _dtype(word: str) -> Dtype:
    """An element type as the user spelled it; SpecError lists the known ones."""
    from kgen.spec.base import Dtype

    for known in get_args(Dtype):
        if word == known:
            return known
    raise SpecError("unknown element type", [Problem(("dtype",), repr(word), " or ".join(get_args(Dtype)))])


def _print_launch(costs: dict[str, float], as_json: bool) -> None:
    if as_json:
        show.print_json(costs)
    else:
        show.print_table(
            [{"us per call": value, "what": name} for name, value in costs.items()], ("us per call", "what")
        )


@app.command("study")
def bench_study(
    family: Annotated[str, typer.Argument(help="Family with a study in specs/studies.")],
    arch: OneArch = None,
    rows: Annotated[str | None, typer.Option("--rows", "-N", help="Activation rows in place of the study's.")] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="Element type in place of the study's; may be given again.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Where a family's kernels stop paying: the op and its peers over many layers and numbers of rows."""
    from dataclasses import replace

    import kgen.ops  # noqa: F401 - registers the ops
    from kgen.bench.study import crossovers, load_study, run_study, summary
    from kgen.runtime import session

    wanted = load_study(family)
    if rows:
        wanted = replace(wanted, rows=tuple(sorted(set(row_counts(rows)))))
    if dtype:
        wanted = replace(wanted, dtypes=tuple(_dtype(word) for word in dtype))
    library = session.load(arch)
    total = len(wanted.layers) * len(wanted.rows) * len(wanted.dtypes)
    cases = []
    with Counting("study") as bar:
        for case in run_study(wanted):
            cases.append(case)
            bar.step(len(cases), total, f"{case.M}x{case.K} N{case.N} {case.dtype}")
    found = crossovers(cases)
    if as_json:
        show.print_json({"cases": [case.as_dict() for case in cases], "crossovers": [each.as_dict() for each in found]})
        return
    print(f"{library.driver.device}; the largest N up to which the op beat its best peer; us of both at each N")
    lines = [
        {"dtype": each.dtype, "M": each.M, "K": each.K, "crossover": each.crossover}
        | {f"N{n}": f"{each.us[n]:.1f} / {each.peers_us[n]:.1f}" for n in each.us}
        for each in found
    ]
    show.print_table(lines, ("dtype", "M", "K", "crossover", *(f"N{n}" for n in wanted.rows)))
    print("median crossover: " + ", ".join(f"{name} {value:g}" for name, value in summary(found).items()))


@app.command("layer")
def bench_layer(
    arch: OneArch = None,
    experts: Annotated[int, typer.Option(help="Experts of the layer.")] = 128,
    top_k: Annotated[int, typer.Option(help="Experts of a token.")] = 8,
    hidden: Annotated[int, typer.Option(help="Elements of a token.")] = 2048,
    inner: Annotated[int, typer.Option(help="Gates of an expert.")] = 768,
    group: Annotated[int, typer.Option(help="K elements that share a scale.")] = 128,
    dtype: Annotated[str, typer.Option(help="bf16 or fp16.")] = "bf16",
    tokens: Annotated[
        str | None,
        typer.Option(help="Experts alone for so many tokens at once, such as 1,16,256,4096, beside what else answers."),
    ] = None,
    kernels: Annotated[
        list[str] | None,
        typer.Option(
            "--kernel", "-k", help="A built kernel that answers before its table wherever it fits; may be given again."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The expert layer of a decode step on int4 weights: router to weighted sum, one token after the other. Default: Qwen3-30B-A3B's layer."""
    from kgen.bench.layer import Layer
    from kgen.bench.layer import bench_layer as run
    from kgen.runtime import session

    layer = Layer(experts, top_k, hidden, inner, group, dtype)
    library = session.load(arch)
    if tokens is not None:
        library.prefer(kernels or ())
        _prefill(layer, row_counts(tokens), str(library.driver.device), as_json)
        return
    timing = run(layer, kernels=kernels or ())
    if as_json:
        show.print_json(timing.as_dict())
        return
    print(f"{library.driver.device}; {layer}")
    print(
        f"{timing.us:.2f} us a token ({timing.low:.2f} to {timing.high:.2f}); reading its {timing.megabytes:.1f} MB: {timing.floor_us:.2f} us"
    )
    print(
        f"{timing.apart_us:.2f} us with a small kernel of torch's in front of each layer, which takes {timing.other_us:.2f} us alone"
    )
    print(
        f"off by {timing.error:.1e} of the output's norm (allowed {layer.tolerance:.1e}); {', '.join(timing.kernels)}"
    )


def _prefill(layer: Layer, tokens: Sequence[int], device: str, as_json: bool) -> None:
    from kgen.bench.prefill import bench_prefill

    found = bench_prefill(layer, tokens)
    if as_json:
        show.print_json([each.as_dict() for each in found])
        return
    print(f"{device}; {layer}; us a call")
    rows = [
        {"tokens": each.tokens, **{name: f"{us:.1f}" for name, us in each.us.items()}}
        | {"TFLOPS": f"{each.tflops:.0f}", "error": f"{each.error:.1e}", "table": each.use}
        for each in found
    ]
    columns = list(dict.fromkeys(name for each in found for name in each.us))
    show.print_table(rows, ("tokens", *columns, "TFLOPS", "error", "table"))


@app.command("host")
def bench_host(
    arch: OneArch = None,
    calls: Annotated[int, typer.Option(min=1, help="Calls in one timed run.")] = 2000,
    as_json: AsJson = False,
) -> None:
    """What a launch costs the host on an AMD GPU, without one: the hip driver over a HIP runtime that checks launches and runs nothing."""
    from kgen.bench.launch_host import measure_host

    costs = measure_host(arch, calls)
    if as_json:
        show.print_json(costs.as_dict())
        return
    show.print_table(costs.rows(), ("us per call", "beyond hip-python", "what"))
    print(f"hip-python {costs.hip_python}; the bar is {costs.BAR_US:g} us a launch beyond hip-python's own call")


@app.command("build")
def bench_build(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of what is quick; the median counts.")] = 7,
    as_json: AsJson = False,
) -> None:
    """What a cold build costs per kernel, and whole processes when there is nothing to do; about a minute."""
    from kgen.bench.build import measure_build

    measures = measure_build(repeats, say=show.note)
    if as_json:
        show.print_json([measure.row() for measure in measures])
        return
    rows = [
        {
            "value": f"{each.value:.3f}",
            "bar": each.bar,
            "unit": each.unit,
            "": "" if each.bar is None else "ok" if each.ok else "MISSED",
            "case": each.case,
        }
        for each in measures
    ]
    show.print_table(rows, ("value", "bar", "unit", "", "case"))
