"""Collectives read from HLO: known bytes, by hand and of programs of known arithmetic."""
# ruff: noqa: E501 (the lines of a compiler's text)

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from experiments.benchmark import scaling_speed
from experiments.benchmark.collectives import Collective, collectives, summed
from train.mesh import make_mesh

HAND = """\
HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[8,4]{1,0})->f32[8,4]{1,0}}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%wrapped (p.1: f32[16]) -> f32[4] {
  %p.1 = f32[16]{0} parameter(0)
  ROOT %rs = f32[4]{0} reduce-scatter(%p.1), channel_id=9, replica_groups={{0,1,2,3}}, dimensions={0}, to_apply=%add
}

%body (carry: (s32[], bf16[6])) -> (s32[], bf16[6]) {
  %carry = (s32[], bf16[6]{0}) parameter(0)
  %i = s32[] get-tuple-element(%carry), index=0
  %v = bf16[6]{0} get-tuple-element(%carry), index=1
  %moved = bf16[6]{0} collective-permute(%v), channel_id=5, source_target_pairs={{0,1},{1,0}}
  ROOT %next = (s32[], bf16[6]{0}) tuple(%i, %moved)
}

%condition (carry.1: (s32[], bf16[6])) -> pred[] {
  %carry.1 = (s32[], bf16[6]{0}) parameter(0)
  ROOT %more = pred[] constant(true)
}

ENTRY %main (a: f32[8,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0:T(8,128)} parameter(0), metadata={op_name="all-reduce(not one)"}
  %b = pred[3]{0} constant({true, false, true})
  %both = (f32[8,4]{1,0}, pred[3]{0}) all-reduce(%a, /*index=1*/%b), channel_id=1, replica_groups=[1,4]<=[4], to_apply=%add
  %alone = f32[8,4]{1,0} all-reduce(%a), channel_id=2, replica_groups={{0},{1},{2},{3}}, to_apply=%add
  %g = f32[8,8]{1,0} all-gather(f32[8,4]{1,0} %a), channel_id=3, replica_groups=[2,2]<=[2,2]T(1,0), dimensions={1}
  %started = (f32[8,4]{1,0}, f32[32,4]{1,0}) all-gather-start(%a), channel_id=4, replica_groups={{0,1,2,3}}, dimensions={0}
  %gathered = f32[32,4]{1,0} all-gather-done(%started)
  %r = f32[8,4]{1,0} all-reduce-start(%a), channel_id=6, replica_groups={}, to_apply=%add
  %rd = f32[8,4]{1,0} all-reduce-done(%r)
  %c = f32[16]{0} constant({...})
  %as = ((f32[16]{0}), f32[4]{0}, s32[]) async-start(%c), calls=%wrapped
  %ad = f32[4]{0} async-done(%as), calls=%wrapped
  %cp = (f32[8,4]{1,0}, f32[8,4]{1,0}, u32[], u32[]) collective-permute-start(%a), channel_id=7, source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
  %cpd = f32[8,4]{1,0} collective-permute-done(%cp)
  %x2 = f64[5]{0} constant({...})
  %swapped = (f64[5]{0}, f64[5]{0}) all-to-all(%x2, %x2), channel_id=8, replica_groups=mesh['x'=2,'y'=2], device_ids=([2,2]T(1,0)) {'y'}
  %zero = s32[] constant(0)
  %h = bf16[6]{0} constant({...})
  %begin = (s32[], bf16[6]{0}) tuple(%zero, %h)
  %w = (s32[], bf16[6]{0}) while(%begin), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %out = f32[8,4]{1,0} copy(%a)
}
"""


def test_every_kind_has_its_bytes_its_group_and_its_turns():
    assert collectives(HAND) == [
        Collective("all-reduce", 8 * 4 * 4 + 3, 4),
        Collective("all-gather", 8 * 8 * 4, 2),
        Collective("all-gather", 32 * 4 * 4, 4),
        Collective("all-reduce", 8 * 4 * 4, 0),
        Collective("reduce-scatter", 16 * 4, 4),
        Collective("collective-permute", 8 * 4 * 4, 2),
        Collective("all-to-all", 2 * 5 * 8, 2),
        Collective("collective-permute", 6 * 2, 2, times=3),
    ]


def test_a_loop_of_unknown_length_is_said():
    found = collectives(HAND.replace('"known_trip_count":{"n":"3"}', ""))
    assert found[-1] == Collective("collective-permute", 12, 2, times=1, certain=False)
    assert all(one.certain for one in found[:-1])


def test_what_a_ring_sends():
    assert Collective("all-reduce", 100, 4).sent(8) == 2 * 3 / 4 * 100
    assert Collective("all-reduce", 100, 0).sent(2) == 2 * 1 / 2 * 100
    assert Collective("all-gather", 100, 4, times=2).sent(4) == 2 * 3 / 4 * 100
    assert Collective("collective-permute", 100, 2).sent(4) == 100
    assert summed(collectives(HAND), 4)["all-gather"] == {
        "count": 2,
        "bytes": 256 + 512,
        "sent": 256 / 2 + 512 * 3 / 4,
    }


def test_what_is_no_program_is_an_error():
    with pytest.raises(ValueError, match="no ENTRY"):
        collectives("HloModule nothing")


def compiled(function, spec, shape, out):
    """Text of a program over four devices."""
    mesh = make_mesh()
    x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))
    where = NamedSharding(mesh, PartitionSpec(*out))
    return jax.jit(function, out_shardings=where).lower(x).compile().as_text()


def test_a_sum_over_devices_reduces_the_bytes_of_its_result():
    text = compiled(lambda x: x.sum(0), ("data",), (8, 1000), ())
    assert collectives(text) == [Collective("all-reduce", 4000, 4)]


def test_an_array_that_is_made_whole_gathers_its_bytes():
    text = compiled(lambda x: 2 * x, ("data",), (8, 1000), ())
    assert collectives(text) == [Collective("all-gather", 32000, 4)]


@pytest.mark.parametrize("backend", ["jax", "xla"])
def test_data_alone_divided_sums_the_gradients_and_what_batch_norm_needs(backend):
    spec = {"model": "resnet20", "fields": {"stages": [1], "channels": [8], "stem_features": 8}}
    spec |= {"size": 8, "classes": 10, "dtype": "float32", "backend": backend}
    spec |= {"batch_size": 8, "devices": 4, "fsdp": 1}
    state, step, loader, _ = scaling_speed.training(spec)
    text = step.lower(state, loader.data, next(loader.payloads(0))).compile().as_text()
    found = summed(collectives(text), 4)
    assert [*found] == ["all-reduce"]
    gradients, statistics = (scaling_speed.size(x) for x in (state.params, state.collections))
    # Mean and variance in the forward pass, and twice as many sums at most in the backward pass.
    least, most = gradients + statistics, gradients + 2 * statistics
    assert least <= found["all-reduce"]["bytes"] <= most + 64
