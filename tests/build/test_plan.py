"""Planning decides what to compile and touches nothing."""

from __future__ import annotations

import jinja2
import pytest

from kgen.build.plan import object_file, plan_build
from kgen.errors import KgenError
from tests.build.fakes import ARCH, FakeTools, a_spec, some_specs


def test_equal_specs_collapse_and_order_does_not_matter(tools: FakeTools):
    specs = some_specs(3)
    plan = plan_build(ARCH, [*specs, *reversed(specs)], tools, ())
    assert plan == plan_build(ARCH, specs, tools, ())
    assert [v.name for v in plan.edges] == sorted(spec.name for spec in specs)


def test_what_is_there_is_not_compiled(tools: FakeTools):
    first = plan_build(ARCH, some_specs(3), tools, ())
    there = {first.variants[0].object_file, first.variants[2].object_file}
    plan = plan_build(ARCH, some_specs(3), tools, there)
    assert plan.variants == first.variants
    assert plan.edges == (first.variants[1],)


def test_object_files_carry_name_and_key():
    assert object_file("k", "0" * 16, ARCH) == "k-0000000000000000.hsaco"
    assert object_file("k", "0" * 16, "sm_90") == "k-0000000000000000.cubin"
    assert a_spec().name.isidentifier()  # so that it needs no quoting in ninja, shell or file names


@pytest.mark.parametrize(("text", "words"), [("{{ nowhere }}", "'nowhere' is undefined"), ("{% if %}", "line 1: ")])
def test_broken_template_is_named(tools: FakeTools, monkeypatch: pytest.MonkeyPatch, text: str, words: str):
    env = jinja2.Environment(loader=jinja2.DictLoader({"t.hip.jinja": text}), undefined=jinja2.StrictUndefined)
    monkeypatch.setattr("kgen.render.source.environment", lambda: env)
    monkeypatch.setattr(type(a_spec()), "template", "t.hip.jinja")
    with pytest.raises(KgenError, match=r"(?s)template t.hip.jinja.*met when rendering wvsplitk_") as caught:
        plan_build(ARCH, some_specs(1), tools, ())
    assert words in str(caught.value)
