import json

from kgen.dispatch import explain
from kgen.spec.problem import GemmShape

from .tables import GLOBAL, LAST, LDS, ONE, SOUND, table_of

MEASURED_ROW = """\
row 2 of 5   wvsplitk_bf16_N1_THRDS32_YTILE1_WvPrGrp4_A_CHUNK8_UNRL4_STAGINGlds
  N = 1               holds
  K = 2048            holds   (<= 2048)
  tiles_per_cu = 26   holds   (1 < .. <= 26)   ceil_div(M, 4 * cu), cu 20
measured over 14 shapes in this range: +8.1 % [6.9, 9.3] against torch, 10 pairs, on Radeon 8060S, 2026-11-21; the kernel source has changed since

rows tried before:
  row 1  torch   fails at K % 8 != 0 (K = 2048)"""

LATER_ROW = """\
row 4 of 5   wvsplitk_fp16_N8_THRDS32_YTILE2_WvPrGrp4_A_CHUNK8_UNRL4_STAGINGglobal
  N = 8   holds   (<= 8)
default, not measured
made up for a test

rows tried before:
  row 1  torch                                                  fails at K % 8 != 0 (K = 8192)
  row 2  N1_THRDS32_YTILE1_WvPrGrp4_A_CHUNK8_UNRL4_STAGINGlds   fails at N = 8 (== 1)
  row 3  THRDS32_YTILE2_WvPrGrp4_A_CHUNK8_UNRL4_STAGINGlds      fails at act_bytes <= lds_per_group (act_bytes = 131072, lds_per_group = 65536)"""

PASSED_OVER = """\
row 2 of 2   torch
  true   holds
default, not measured
made up for a test
row 1 holds, but wvsplitk_bf16_N8_THRDS32_YTILE2_WvPrGrp4_A_CHUNK8_UNRL4_STAGINGlds does not fit: 8 rows of 8192: 131072 bytes of LDS
  allowed: at most 65536 on gfx1151"""


def test_measured_row_reads_as_in_the_docs():
    assert explain(table_of(*SOUND), GemmShape(2048, 1, 2048)).text() == MEASURED_ROW


def test_rows_before_show_the_condition_that_failed():
    assert explain(table_of(*SOUND), GemmShape(64, 8, 8192), "fp16").text() == LATER_ROW


def test_row_that_was_passed_over_is_told():
    assert explain(table_of(("N <= 8", LDS), LAST), GemmShape(64, 8, 8192)).text() == PASSED_OVER


def test_condition_of_another_form_is_shown_whole_with_its_values():
    table = table_of(("(N == 1 or K > 64) and not mfma_4x4x4 and 2 * K == M", GLOBAL), LAST)
    lines = explain(table, GemmShape(128, 1, 64)).text().splitlines()
    assert lines[1:4] == [
        "  N == 1 or K > 64   holds   (N = 1, K = 64)",
        "  not mfma_4x4x4     holds   (mfma_4x4x4 = false)",
        "  2 * K == M         holds   (K = 64, M = 128)",
    ]


def test_data_keeps_the_promised_keys():
    data = explain(table_of(*SOUND), GemmShape(2048, 1, 2048)).as_data()
    assert json.loads(json.dumps(data)) == data
    assert (data["row"], data["kernel"]) == (2, ONE.format(dtype="bf16"))
    assert data["conditions"][2] == {
        "text": "1 < tiles_per_cu <= 26",
        "values": {"tiles_per_cu": 26},
        "holds": True,
        "formulas": {"tiles_per_cu": "ceil_div(M, 4 * cu), cu 20"},
    }
    assert data["provenance"]["kind"] == "measured"
    assert data["provenance"]["date"] == "2026-11-21"
    assert data["provenance"]["source"] != data["provenance"]["source_now"]
    assert data["tried"][0]["failed"]["holds"] is False


def test_torch_is_named_as_the_kernel():
    assert explain(table_of(*SOUND), GemmShape(64, 9, 64)).as_data()["kernel"] == "torch"


def test_cu_of_the_caller_shows_in_the_formula():
    data = explain(table_of(*SOUND), GemmShape(2048, 1, 2048), cu=40).as_data()
    assert data["conditions"][2]["formulas"]["tiles_per_cu"] == "ceil_div(M, 4 * cu), cu 40"
    assert data["problem"]["cu"] == 40
