from dataclasses import replace

from memzoo.benchmarks.cases import GENERATED, Case, Row


def test_numbers_of_a_case_tell_it_apart():
    coarse = Case(operation="titans_mlp", time=64, update_every=16)
    assert (coarse.name, coarse.label) == ("titans_mlp:64:16", "titans mlp/16")
    plain = Case(operation="scalar_decay", time=64)
    assert (plain.name, plain.label) == ("scalar_decay:64", "scalar decay")
    uneven = Case(operation="mixture", time=64, num_memories=8, preferred="one")
    assert (uneven.name, uneven.label) == ("mixture:64:8:one", "mixture/8/one")


def test_names_begin_with_what_a_user_asks_for():
    def name(**fields):
        return Case(time=64, **fields).name

    assert name(operation="delta", device="gpu") == "delta:64:both"
    assert name(operation="delta", device="gpu", passes="forward").endswith("forward")
    assert name(operation="attention", kind="prompt") == "prompt:64:attention"
    assert name(operation="mamba2", kind="step") == "step:mamba2:64"
    assert name(operation="retnet/num_heads=8", kind="layer") == (
        "layer:retnet/num_heads=8"
    )


def test_whole_models_and_gpus_are_timed_by_the_clock():
    case = Case(operation="attention", time=64)
    assert case.clock == "cpu"
    assert replace(case, device="gpu").clock == "wall"
    assert replace(case, kind="read").clock == "wall"
    assert replace(case, kind="layer").clock == "cpu"


def test_tokens_are_those_of_a_pass():
    case = Case(operation="attention", time=64, batch_size=2)
    assert case.tokens == 128
    assert replace(case, kind="decode").tokens == 2
    assert replace(case, kind="generate").tokens == 2 * GENERATED


def test_a_peer_of_ours_is_named_by_what_tells_it_apart():
    case = Case(operation="mixture", time=64)
    dense = replace(case, form="dense")
    row = Row(case=case, peer="memzoo", other=dense, peer_function="f")
    assert row.peer_name == "dense" and row.theirs == ("memzoo", dense)
    other = Row(case=case, peer="fla", peer_function="f")
    assert other.peer_name == "fla" and other.theirs == ("fla", case)
    assert other.name == "mixture:64 against fla"
