"""`kgen spec`: what the parameters mean and may be."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kgen.cli import show
from kgen.cli.options import Arches, AsJson, Families, OneArch, SpecSet, command_group
from kgen.cli.targets import DEFAULT_SET, arches_of, one_arch, specs_of

app = command_group("What the parameters of the kernels mean and may be.", no_args_is_help=True)


@app.command()
def explain(
    what: Annotated[
        str | None,
        typer.Argument(
            help="Parameter, such as UNRL; a family; or a kernel's name, whose values are shown. Default: all parameters.",
            metavar="[FIELD|FAMILY|NAME]",
        ),
    ] = None,
    family: Families = None,
    arch: OneArch = None,
    as_json: AsJson = False,
) -> None:
    """Parameters: what they mean, may be and are by default; with a kernel's name (and its --arch) also what they are there.

    Rules that depend on the target answer when a spec is made.
    """
    from kgen.errors import Problem, SpecError
    from kgen.spec.registry import FAMILIES, family_class, family_of

    if what in FAMILIES:
        family, what = [what], None
    elif what and family_of(what) in FAMILIES:
        return _explain_kernel(what, one_arch(arch), as_json)
    classes = [family_class(name) for name in family or FAMILIES]
    rows = [row for cls in classes for row in _fields(cls) if what in (None, row["field"])]
    if not rows:
        known = ", ".join(dict.fromkeys(name for cls in classes for name in cls.model_fields))
        allowed = f"{known}; a family ({', '.join(FAMILIES)}) or a kernel's name"
        raise SpecError("no such parameter", [Problem(("FIELD",), repr(what), allowed, "case matters")])
    if as_json:
        show.print_json(rows)
    else:
        show.print_table(rows, ("family", "field", "default", "allowed", "doc"), {"doc": "meaning"})


def _explain_kernel(name: str, arch: str, as_json: bool) -> None:
    from kgen.spec.registry import spec_from_name

    spec = spec_from_name(name, arch)
    values = spec.model_dump()
    rows = [{**row, "value": values[row["field"]]} for row in _fields(type(spec))]
    launch = {"work_items": spec.threads, "grid": spec.grid_rule, "dynamic_lds": spec.lds_expr}
    if as_json:
        show.print_json({"name": spec.name, "arch": arch, "family": spec.family, "fields": rows, **launch})
        return
    show.print_table(rows, ("field", "value", "default", "allowed", "doc"), {"doc": "meaning"})
    lds = "none but what the code object reserves" if spec.lds_expr == "0" else f"{spec.lds_expr} bytes at launch"
    print(f"{spec.threads} work-items in a work-group; grid: {spec.grid_rule}; LDS: {lds}")


def _fields(cls: Any) -> list[dict[str, Any]]:
    out = []
    for name, info in cls.model_fields.items():
        default = "required" if info.is_required() else "none" if info.default is None else info.default
        out.append(
            {
                "family": cls.family,
                "field": name,
                "default": default,
                "allowed": _allowed(info),
                "doc": info.description,
            }
        )
    return out


def _allowed(info: Any) -> str:
    extra = info.json_schema_extra
    if info.annotation is bool:
        return "True, False"
    if isinstance(extra, dict) and extra.get("among"):
        return ", ".join(map(str, extra["among"]))
    low = next((limit.ge for limit in info.metadata if hasattr(limit, "ge")), "")
    high = next((limit.le for limit in info.metadata if hasattr(limit, "le")), "")
    return f"{low} to {high}" if info.metadata else "any"


@app.command("list")
def list_specs(
    arch: Arches = None, spec_set: SpecSet = DEFAULT_SET, family: Families = None, as_json: AsJson = False
) -> None:
    """The kernels of a spec set; every rule is checked on the way."""
    specs = [spec for name in arches_of(arch) for spec in specs_of(name, spec_set, family)]
    if as_json:
        show.print_json([{"arch": s.arch, "name": s.name, "family": s.family, "spec": s.model_dump()} for s in specs])
        return
    show.print_table([{"arch": s.arch, "kernel": s.name} for s in specs], ("arch", "kernel"))
    print(show.plural(len(specs), "kernel"))
