"""Places in JSON are filled by structure: no query can break or leave the string that it stands in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.retrievers.remote import template

QUERY = '"}], {{k}} ${HOME} \\ \n'
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
)


def test_a_place_alone_becomes_the_value_and_one_in_a_text_a_part_of_it():
    made = template.filled(
        {
            "q": "{{query}}",
            "n": "{{ k }}",
            "all": ["title:{{query}}!", {"{{query}}": 7}],
            "fields": "{{fields}}",
            "x": None,
        },
        {"query": QUERY, "k": 10, "fields": ["a", "b"]},
    )
    expected = {"q": QUERY, "n": 10, "all": [f"title:{QUERY}!", {"{{query}}": 7}], "fields": ["a", "b"], "x": None}
    assert made == json.loads(json.dumps(made)) == expected


def test_values_that_are_no_text_stand_in_one_as_json():
    values = {"k": 10, "exact": True, "fields": ["a"], "none": None}
    assert template.filled("hits {{k}}, {{exact}}, {{fields}}, {{none}}", values) == 'hits 10, true, ["a"], null'


def test_braces_that_are_no_place_stay():
    text = 'where {grammar: "weakAnd", targetHits: {{top_k}}}userInput(@q) {{}} {{a b}} {x}'
    assert template.filled(text, {"top_k": 5}) == text.replace("{{top_k}}", "5")
    assert template.places([text, {"a": ["{{query}}"], "{{key}}": 1}]) == {"top_k", "query"}


def test_a_place_without_a_value():
    with pytest.raises(KeyError):
        template.filled({"a": ["{{nothing}}"]}, {})


@given(query=st.text(), value=ANY)
def test_whatever_the_query_holds_the_json_around_it_stays(query, value):
    made = template.filled({"a": "{{query}}", "b": ["<{{query}}>"], "c": value}, {"query": query, "k": 1} | _own(value))
    back = json.loads(json.dumps(made))
    assert back["a"] == query
    assert back["b"] == [f"<{query}>"]
    assert back.keys() == {"a", "b", "c"}


def _own(value):
    return dict.fromkeys(template.places(value), "v")


def test_parameters_of_a_url():
    given = {"q": QUERY, "k": 10, "f": ["a", "b"], "exact": False}
    assert template.parameters(given) == [("q", QUERY), ("k", "10"), ("f", "a"), ("f", "b"), ("exact", "false")]
