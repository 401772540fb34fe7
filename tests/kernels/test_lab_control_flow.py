"""Loops out of jumps, on small programs whose loops are known."""

import pytest

from kernels.lab import gcn, sass
from kernels.lab.control_flow import Instruction, Loop, main_loops, natural_loops


def program(text: str) -> list[Instruction]:
    """Lines `kind`, `kind -> line` (a branch), `jump -> line` and `end`; addresses count lines."""
    out = []
    for n, line in enumerate(filter(None, (line.strip() for line in text.splitlines()))):
        word, _, target = line.partition(" -> ")
        goes_on = word not in ("jump", "end")
        where = int(target) if target else None
        out.append(Instruction(n, word, "", word, target=where, falls_through=goes_on))
    return out


def lines(loop: Loop) -> list[int]:
    return [i.address for i in loop.body]


def test_straight_code_and_forward_jumps_have_no_loop() -> None:
    assert natural_loops(program("a\nb -> 3\nc\nd\nend")) == []


def test_a_simple_loop() -> None:
    (loop,) = natural_loops(program("a\nb\nc -> 1\nend"))
    assert loop.header == 1 and lines(loop) == [1, 2]


def test_nested_loops_come_innermost_first() -> None:
    inner, outer = natural_loops(program("a\nb\nc\nd -> 2\ne -> 1\nend"))
    assert lines(inner) == [2, 3] and lines(outer) == [1, 2, 3, 4]
    assert inner.inside(outer) and not outer.inside(inner)


def test_two_jumps_back_to_one_header_are_one_loop() -> None:
    (loop,) = natural_loops(program("a\nb\nc -> 1\nd -> 1\nend"))
    assert lines(loop) == [1, 2, 3]


def test_a_part_of_the_loop_that_lies_out_of_line_belongs_to_it() -> None:
    """1 branches to 5, behind the end; 5 and 6 come back to 2."""
    (loop,) = natural_loops(program("a\nb -> 5\nc\nd -> 1\nend\ne\njump -> 2"))
    assert lines(loop) == [1, 2, 3, 5, 6]


def test_code_between_that_leaves_the_loop_does_not_belong_to_it() -> None:
    """Line 3 is inside by address, but it only leads out."""
    (loop,) = natural_loops(program("a\nb\nc -> 4\njump -> 6\nd -> 1\ne\nend"))
    assert lines(loop) == [1, 2, 4]


def test_a_jump_into_the_middle_is_not_a_natural_loop() -> None:
    assert natural_loops(program("a -> 2\nb\nc\nd -> 1\nend")) == []


def test_padding_behind_the_end_is_not_a_loop() -> None:
    assert natural_loops(program("a\nend\njump -> 2\nb\nb")) == []


def test_code_that_only_a_computed_jump_reaches_is_searched_too() -> None:
    (loop,) = natural_loops(program("a\nend\nb\nc\nd -> 3\nend"))
    assert lines(loop) == [3, 4]


def test_the_main_loop_is_the_innermost_with_tensor_cores() -> None:
    """Not the loop that spins on a barrier (2-3), nor the one around both (1-8)."""
    code = program("a\nb\nsync\nsync -> 2\nmma\nglobal\nx -> 4\nglobal\ny -> 1\nend")
    loops = natural_loops(code)
    assert len(loops) == 3
    assert [lines(loop) for loop in main_loops(loops)] == [[4, 5, 6]]


def test_without_tensor_cores_the_innermost_that_touches_memory() -> None:
    loops = natural_loops(program("a\nglobal\nx -> 1\nsync\nsync -> 3\nend"))
    assert [lines(loop) for loop in main_loops(loops)] == [[1, 2]]
    assert main_loops([]) == []


LISTING = """
        Function : k
        /*0000*/                   LDC R1, c[0x0][0x28] ;             /* 0x00000a00ff017624 */
                                                                      /* 0x000fe400078e00ff */
        /*0010*/              @!P0 EXIT ;                             /* 0x000000000000794d */
        /*0020*/                   HGMMA.64x64x16.F32 R4, gdesc[UR4] ;
        /*0030*/                   MUFU.EX2 R3, R3 ;
        /*0040*/                   STL.128 [R1], R4 ;
        /*0050*/               @P1 BRA 0x20 ;
        /*0060*/                   BRA.U UP0, 0x30 ;
        /*0070*/                   EXIT ;
        /*0080*/                   BRA 0x80;
"""


def test_sass_is_parsed() -> None:
    code = sass.parse(LISTING)
    assert [i.address for i in code] == list(range(0, 0x90, 16))
    assert [i.kind for i in code[:5]] == ["constant", "control", "mma", "exp2", "local"]
    assert code[1].falls_through and code[1].predicate == "!P0" and code[1].target is None
    assert (code[5].target, code[5].falls_through) == (0x20, True)
    assert (code[6].target, code[6].falls_through) == (0x30, True)
    assert not code[7].falls_through and not code[8].falls_through
    assert {loop.header for loop in natural_loops(code)} == {0x20, 0x30}
    assert str(code[5]) == "0x0050  @P1   BRA 0x20"


@pytest.mark.parametrize(
    ("opcode", "kind"),
    [
        ("HMMA.16816.F32", "mma"),
        ("UTCHMMA.2CTA", "mma"),
        ("MUFU.EX2", "exp2"),
        ("MUFU.RCP", "mufu"),
        ("FFMA", "fp32"),
        ("FFMA2", "fp32"),
        ("FMNMX3", "fp32"),
        ("F2FP.BF16.F32.PACK_AB", "convert"),
        ("HADD2.F32", "convert"),
        ("HFMA2.MMA", "fp16"),
        ("LDGSTS.E.BYPASS.128", "global"),
        ("LDG.E.128", "global"),
        ("LDGDEPBAR", "sync"),
        ("UTMALDG.2D", "global"),
        ("LDSM.16.M88.4", "shared"),
        ("LDL.LU", "local"),
        ("SHFL.BFLY", "shuffle"),
        ("IMAD.MOV.U32", "integer"),
        ("LOP3.LUT", "integer"),
        ("UIADD3", "integer"),
        ("LEA.HI", "integer"),
        ("BAR.SYNC.DEFER_BLOCKING", "sync"),
        ("BRA", "control"),
        ("ULDC.64", "constant"),
        ("LDCU", "constant"),
    ],
)
def test_sass_classes(opcode: str, kind: str) -> None:
    assert sass.classify(opcode) == kind


@pytest.mark.parametrize(
    ("opcode", "kind"),
    [
        ("v_mfma_f32_32x32x8_bf16", "mma"),
        ("v_exp_f32_e32", "exp2"),
        ("v_fma_f32", "fp32"),
        ("v_pk_mul_f32", "fp32"),
        ("v_max3_f32", "fp32"),
        ("v_cvt_f16_f32_e32", "convert"),
        ("v_rcp_f32_e32", "mufu"),
        ("scratch_load_dwordx4", "local"),
        ("ds_read_b128", "shared"),
        ("ds_bpermute_b32", "shuffle"),
        ("global_load_dwordx4", "global"),
        ("buffer_load_dwordx4", "global"),
        ("s_load_dwordx4", "constant"),
        ("s_waitcnt", "sync"),
        ("s_cbranch_scc1", "control"),
        ("v_add_u32_e32", "integer"),
        ("v_accvgpr_read_b32", "integer"),
    ],
)
def test_amd_classes(opcode: str, kind: str) -> None:
    assert gcn.classify(opcode) == kind


ASSEMBLY = """
k:                                      ; @k
	s_load_dwordx2 s[0:1], s[4:5], 0x0
.LBB0_1:                                ; =>This Inner Loop Header: Depth=1
	v_mfma_f32_32x32x8_bf16 v[2:17], v[46:47], v[38:39], 0
	scratch_store_dword off, v1, off
	s_cbranch_scc1 .LBB0_1
	s_endpgm
	.amdgpu_metadata
  - .agpr_count:     0
    .private_segment_fixed_size: 24
    .vgpr_count:     54
"""


def test_amd_assembly_is_parsed() -> None:
    code = gcn.parse(ASSEMBLY)
    assert [i.kind for i in code] == ["constant", "mma", "local", "control", "control"]
    (loop,) = natural_loops(code)
    assert lines(loop) == [1, 2, 3] and not code[-1].falls_through
    assert gcn.resources(ASSEMBLY) == (54, 24)
    with pytest.raises(RuntimeError, match="metadata"):
        gcn.resources("")
