"""`kgen run`: programs that show the kernels at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kgen.cli import show
from kgen.cli.options import AsJson, OneArch, command_group
from kgen.cli.progress import Counting
from kgen.cli.targets import arches_of
from kgen.errors import KgenError, MissingPieceError, Problem, SpecError

if TYPE_CHECKING:
    from kgen.demo.report import DemoResult

app = command_group("Run a real model through the kernels.", no_args_is_help=True)
DTYPES = ("bf16", "fp16")


@app.callback()
def group() -> None:
    """Run a real model through the kernels."""


@app.command()
def demo(
    arch: OneArch = None,
    device: Annotated[
        str | None, typer.Option(help="hip, cuda or emu. Default: the GPU that is here, else the emulator.")
    ] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="bf16, fp16; may be given again. Default: both.")] = None,
    sentence: Annotated[
        list[str] | None, typer.Option(help="Text to embed; may be given again. Default: three short ones.")
    ] = None,
    races: Annotated[bool, typer.Option(help="In the emulator, watch LDS for data races.")] = True,
    as_json: AsJson = False,
) -> None:
    """A real sentence encoder through the kernels.

    Embeds sentences with all-MiniLM-L6-v2: its 36 linear layers through torch.ops.kgen.wvsplitk, in calls of 1 to 8 rows, each
    compared with the exact result and with torch.
    """
    target = arches_of([arch] if arch else None)[0]
    wanted = _dtypes(dtype)
    try:
        from kgen.demo.run import SENTENCES, run_demo
    except ImportError as error:
        raise MissingPieceError(f'the demonstration needs torch ({error})\n  try: pip install "kgen[demo]"') from error
    chosen: Any = device
    with Counting(f"demo {target}") as bar:
        result = run_demo(
            target, device=chosen, dtypes=wanted, sentences=sentence or SENTENCES, progress=bar.step, races=races
        )
    if as_json:
        show.print_json(result.as_json())
    else:
        _print(result)
    if not result.ok:
        wrong = [
            f"  {r.dtype} layer {x.number} {x.name}: {x.words}" for r in result.results for x in r.layers if not x.ok
        ]
        raise KgenError("linear layers beyond their tolerance\n" + "\n".join(wrong))


def _dtypes(words: list[str] | None) -> Any:
    names = list(dict.fromkeys(words or DTYPES))
    wrong = [name for name in names if name not in DTYPES]
    if wrong:
        raise SpecError("unknown element type", [Problem(("--dtype",), repr(w), ", ".join(DTYPES)) for w in wrong])
    return names


def _print(result: DemoResult) -> None:
    print(f"all-MiniLM-L6-v2, {len(result.sentences)} sentences, {result.tokens} tokens, on {result.device}")
    print(f"watched: {result.checks}\n")
    _print_picks(result)
    print()
    _print_layers(result)
    print()
    _print_similarities(result)
    for each in result.results:
        counted = f", {each.instructions:,} wave instructions" if each.instructions is not None else ""
        verdict = "all within tolerance" if each.ok else "NOT all within tolerance"
        launches = f"{len(each.layers)} linear layers, {each.launches} launches"
        print(f"{each.dtype}: {launches}{counted}, {each.seconds:.1f} s; {verdict}")


def _print_picks(result: DemoResult) -> None:
    """One line per shape; the element types share it where the table picks the same kernel but for them."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in result.results:
        for pick in each.picks:
            shape = pick.shape
            name = pick.kernel.replace(f"_{each.dtype}_", "_DTYPE_")
            row = rows.setdefault(
                (shape.M, shape.K, shape.N, pick.row, name),
                {"M": shape.M, "K": shape.K, "N": shape.N, "row": pick.row, "launches": 0, "kernel": name},
            )
            row["launches"] += pick.calls
            row[each.dtype] = pick.instructions
    print(
        "picks: what the dispatch table answers (M outputs, K reduction, N rows), and wave instructions of one launch"
    )
    columns = ("M", "K", "N", "row", "launches", *(each.dtype for each in result.results), "kernel")
    show.print_table([rows[key] for key in sorted(rows)], columns)
    for number, why in sorted({(pick.row, pick.why) for each in result.results for pick in each.picks}):
        print(f"  row {number}: {why}")


def _print_layers(result: DemoResult) -> None:
    """One line per linear layer, the element types side by side."""
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    columns = ["layer", "linear"]
    for each in result.results:
        heads = [f"{each.dtype} {head}" for head in ("max error", "mean", "of tol.", "exact", "torch")]
        columns += heads
        for layer in each.layers:
            row = rows.setdefault((layer.number, layer.name), {"layer": layer.number, "linear": layer.name})
            shares = (layer.rounded_right / layer.outputs, layer.torch_right / layer.outputs)
            cells = (f"{layer.max_abs_err:.1e}", f"{layer.mean_abs_err:.1e}", f"{layer.nearest:.2f}")
            row.update(zip(heads, (*cells, *(f"{share:.2%}" for share in shares)), strict=True))
            row["verdict"] = "WRONG" if not layer.ok else row.get("verdict", "ok")
    print("outputs against the exact result (fp64); of tol.: largest error as a share of its tolerance;")
    print("exact: equal to the exact result correctly rounded, bit for bit; torch: the same of torch's linear")
    show.print_table(rows.values(), (*columns, "verdict"))


def _print_similarities(result: DemoResult) -> None:
    for number, text in enumerate(result.sentences, 1):
        print(f"{number}  {text}")
    rows = []
    for pair in range(len(result.results[0].similarities)):
        first = result.results[0].similarities[pair]
        row: dict[str, Any] = {"sentences": f"{first.first}, {first.second}", "fp32 model": f"{first.fp32:.5f}"}
        for each in result.results:
            row[f"{each.dtype} kgen"] = f"{each.similarities[pair].kgen:.5f}"
            row[f"{each.dtype} torch"] = f"{each.similarities[pair].torch:.5f}"
        rows.append(row)
    if rows:
        print("cosine of their embeddings")
        show.print_table(rows, tuple(rows[0]))
    for each in result.results:
        print(
            f"{each.dtype}: cosine of each embedding through kgen with torch's at least {each.to_torch:.7f}, "
            f"with the fp32 model's {each.to_fp32:.7f} (torch's with it: {each.torch_to_fp32:.7f})"
        )
