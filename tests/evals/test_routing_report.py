"""The section on where mixtures send their tokens."""

from memzoo.evals.routing import ANSWERED, CHANCE, ENTROPY, KINDS, ROUTED
from memzoo.evals.routing_report import routing_sections


def row(metric, value, *, seed=0, layer="mixture_of_memories", pairs=4, **setting):
    return {
        "layer": layer,
        "setting": {"num_pairs": pairs, "length": 16, "width": 8, **setting},
        "metric": metric,
        "value": value,
        "seed": seed,
        "learning_rate": 0.1,
        "parameters": 1234,
        "state_bytes": 1024,
        "checkpoint_step": 300,
        "chance": 1 / pairs,
    }


def routed(seed, block, share, **others):
    where = {"seed": seed, "block": block, **others}
    rows = [
        row(ROUTED, value, kind=kind, memory=memory, **where)
        for kind in (*KINDS, "all")
        for memory, value in enumerate((share, 1 - share))
    ]
    return [*rows, row(ENTROPY, 0.5, **where), row(ANSWERED, 0.625, **where)]


def test_the_first_seed_of_the_hardest_setting_is_shown_a_figure_a_block():
    rows = [
        row("accuracy", 0.5),
        row("accuracy", 0.75, seed=1),
        row("accuracy", 0.9, pairs=2),
        row("accuracy", 0.4, layer="attention"),
        *routed(0, 0, 0.125),
        *routed(0, 1, 0.25),
        *routed(1, 0, 0.4375),
        *routed(0, 0, 0.3125, pairs=2),
    ]
    (section,) = routing_sections(rows, {"mixture_of_memories": 0, "attention": 1})
    assert section.title == "Which memory answers?"
    assert "4 pairs, 16 tokens" in section.lead
    for shown in ("mixture_of_memories, block 1", "mixture_of_memories, block 2"):
        assert shown in section.body
    for share in (">12<", ">88<", ">25<", ">75<", "filler", "query"):
        assert share in section.body.replace("\n", "").replace(" <", "<")
    assert ">44<" not in section.body and ">31<" not in section.body
    assert "routing 0.50 nats; 62% answered by the writer." in section.body


def test_what_chance_would_answer_is_said_where_it_was_counted():
    where = {"seed": 0, "block": 0}
    rows = [row("accuracy", 0.5), *routed(0, 0, 0.125), row(CHANCE, 0.5, **where)]
    (section,) = routing_sections(rows, {"mixture_of_memories": 0})
    assert "62% answered by the writer, 50% by chance." in section.body


def test_there_is_no_section_without_a_mixture():
    assert routing_sections([row("accuracy", 0.5)], {"mixture_of_memories": 0}) == []
