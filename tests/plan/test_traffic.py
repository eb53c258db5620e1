"""What is read from the text of a compiled program: kernels, exchanges and arrays."""

from vae_jax.plan.traffic import arrays, collectives, kernels

PROGRAM = """
ENTRY %main (d: f32[100]) -> f32[8] {
  %d = f32[100]{0} parameter(0)
  %e = f32[25]{0} parameter(1)
  %x = f32[1]{0} parameter(2)
  %y = f32[1]{0} parameter(3)
  %z = f32[5]{0} parameter(4)
  %all-reduce.22 = (f32[]{:T(128)}, f32[5,12544]{1,0:T(8,128)S(1)}, /*index=5*/bf16[3,3,32,1]{2,3,1,0}) all-reduce(%a, %b, %c), channel_id=1
  %all-reduce-start = f32[100]{0:T(128)} all-reduce-start(%d), channel_id=2
  %all-reduce-done = f32[100]{0:T(128)} all-reduce-done(%all-reduce-start)
  %all-reduce-start.2 = ((f32[1]{0}, f32[1]{0}), (f32[1]{0}, f32[1]{0})) all-reduce-start(%x, %y), channel_id=3
  %collective-permute-start = (f32[5]{0}, f32[5]{0}, u32[], u32[]) collective-permute-start(%z), channel_id=4
  %all-gather-start.1 = (f32[25]{0}, f32[100]{0}) all-gather-start(%e), dimensions={0}
  %last = f32[8]{0} copy(%all-gather-done.1)
}
"""  # noqa: E501


def test_what_devices_exchange():
    """Tuples count with all their arrays, transfers in two halves once and by what arrives."""
    assert collectives(PROGRAM) == {
        "all-reduce": {"count": 3, "bytes": 4 * (1 + 5 * 12544) + 2 * 3 * 3 * 32 + 400 + 8},
        "all-gather": {"count": 1, "bytes": 400},
        "collective-permute": {"count": 1, "bytes": 20},
    }


KERNELS = """
HloModule jit_step, is_scheduled=true

%fused_slice (param_0.1: f32[100]) -> f32[10] {
  %param_0.1 = f32[100]{0} parameter(0)
  ROOT %slice.1 = f32[10]{0} slice(%param_0.1), slice={[0:10]}
}

%fused_add (param_0.2: f32[10], param_1.2: f32[10]) -> f32[10] {
  %param_0.2 = f32[10]{0} parameter(0)
  %param_1.2 = f32[10]{0} parameter(1)
  ROOT %add.1 = f32[10]{0} add(%param_0.2, %param_1.2)
}

%body (arg: (s32[], f32[10])) -> (s32[], f32[10]) {
  %arg = (s32[], f32[10]{0}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %x = f32[10]{0} get-tuple-element(%arg), index=1
  %twice = f32[10]{0} fusion(%x, %x), kind=kLoop, calls=%fused_add
  ROOT %out = (s32[], f32[10]{0}) tuple(%i, %twice)
}

%other (p: f32[10]) -> f32[10] {
  %p = f32[10]{0} parameter(0)
  ROOT %copied = f32[10]{0} copy(%p)
}

ENTRY %main (w: f32[100], flag: pred[]) -> f32[10] {
  %w = f32[100]{0} parameter(0), metadata={op_name="state.params['w']"}
  %flag = pred[] parameter(1)
  %part = f32[10]{0} fusion(%w), kind=kLoop, calls=%fused_slice
  %conv = (f32[10]{0}, u8[5]{0}) custom-call(%part, %w), custom_call_target="__cudnn$convForward"
  %result = f32[10]{0} get-tuple-element(%conv), index=0
  %start = ((f32[10]{0}), f32[10]{0}) all-reduce-start(%result), to_apply=%add
  %done = f32[10]{0} all-reduce-done(%start)
  %none = s32[] constant(0)
  %pair = (s32[], f32[10]{0}) tuple(%none, %done)
  %loop = (s32[], f32[10]{0}) while(%pair), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %y = f32[10]{0} get-tuple-element(%loop), index=1
  ROOT %last = f32[10]{0} conditional(%flag, %y, %y), branch_computations={%other, %other}
}
"""


def test_kernels_by_hand():
    """A slice of ten numbers reads ten; a call of cuDNN all its operands and workspace; a loop counts three times, both
    branches once; an exchange and what only names arrays not at all."""
    slices, conv, turns, branches = 40 + 40, 40 + 400 + 40 + 5, 3 * (40 + 40), 2 * (40 + 40)
    assert kernels(KERNELS) == (1 + 1 + 3 + 2, slices + conv + turns + branches, 0)


ON_A_TPU = """
%condition (arg: (s32[], f32[8,128])) -> pred[] {
  %arg = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %two = s32[]{:T(128)} constant(2)
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %two), direction=LT
}

%body (arg.1: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %arg.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  %x = f32[8,128]{1,0:T(8,128)} get-tuple-element(%arg.1), index=1
  %sum = f32[8,128]{1,0:T(8,128)} all-reduce(%x), to_apply=%add
  %twice = f32[8,128]{1,0:T(8,128)} add(%sum, %sum)
  ROOT %out = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%i.1, %twice)
}

ENTRY %main (w: f32[10,3], v: f32[16,128]) -> f32[8,128] {
  %w = f32[10,3]{1,0:T(8,128)} parameter(0)
  %v = f32[16,128]{1,0:T(8,128)} parameter(1)
  %copy-start = (f32[10,3]{1,0:T(8,128)S(1)}, f32[10,3]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%w)
  %copy-done = f32[10,3]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %slice-start = ((f32[16,128]{1,0:T(8,128)}), f32[8,128]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%v), slice={[0:8], [0:128]}
  %slice-done = f32[8,128]{1,0:T(8,128)S(1)} slice-done(%slice-start)
  %on_chip = f32[8,128]{1,0:T(8,128)S(1)} add(%slice-done, %slice-done)
  %kept = f32[8,128]{1,0:T(8,128)} copy(%on_chip)
  %none = s32[]{:T(128)} constant(0)
  %pair = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%none, %kept)
  %loop = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%pair), condition=%condition, body=%body
  ROOT %last = f32[8,128]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
"""  # noqa: E501


def test_kernels_of_a_tpu_by_hand():
    """Tiles of 8 x 128 are whole in memory; what lies on the chip moves nothing there; a slice reads its part; a loop
    turns up to the constant of its condition, and so do the exchanges in it."""
    whole = 8 * 128 * 4
    copied, sliced, kept, turns = 2 * whole, whole, whole, 2 * 2 * whole
    assert kernels(ON_A_TPU) == (1 + 1 + 1 + 1 + 2, copied + sliced + kept + turns, copied - 10 * 3 * 4)
    assert collectives(ON_A_TPU) == {"all-reduce": {"count": 2, "bytes": 2 * whole}}


def test_arrays_in_tiles():
    """The first tile alone pads, over the fastest sides, however many there are."""
    for text, padded in (
        ("f32[2,28,28,1]{0,3,2,1:T(1,128)}", 4 * 28 * 28 * 128), ("f32[5]{0:T(128)}", 4 * 128),
        ("bf16[32,64,64]{2,1,0:T(8,128)(2,1)}", 2 * 32 * 64 * 128), ("f32[7]{0}", 28), ("f32[]{:T(128)}", 4 * 128),
    ):  # fmt: skip
        assert [array.padded for array in arrays(text)] == [padded], text
    assert arrays("(f32[8]{0}, u32[]{:S(2)}, u8[0]{0})") == [(32, 32, False), (0, 0, False)]
