"""Edits: the field asked for changes, and no other byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prototxts import CorpusFile, Plain, corpus, needs_shared, plain, renderings, trees

from ristretto.caffe.edit import UNIT, Edits
from ristretto.caffe.textproto import Document, Field, Message, parse
from ristretto.errors import PrototxtError

FORMAT = ["bw_layer_in: 8", "fl_layer_in: 4"]


def first(document: Document, *names: str) -> Message:
    """A message by the names that lead to it."""
    node = document.root
    for name in names:
        found = node.first(name)
        assert isinstance(found, Message)
        node = found
    return node


def field(document: Document, *names: str) -> Field:
    """A field by the names that lead to it."""
    return next(first(document, *names[:-1]).named(names[-1]))


def with_format(text: str) -> str:
    document = parse(text)
    edits = Edits(document)
    edits.set_message(first(document, "layer"), "quantization_param", FORMAT)
    return edits.apply().text


def without(text: str, *names: str) -> str:
    document = parse(text)
    edits = Edits(document)
    edits.remove(field(document, *names))
    return edits.apply().text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            'layer {\n  name: "a"\n}\n',
            'layer {\n  name: "a"\n  quantization_param {\n    bw_layer_in: 8\n    fl_layer_in: 4\n  }\n}\n',
        ),
        (
            'layer {\r\n\tname: "a" # why\r\n}\r\n',
            'layer {\r\n\tname: "a" # why\r\n}\r\n'.replace(
                "}", "\tquantization_param {\r\n\t\tbw_layer_in: 8\r\n\t\tfl_layer_in: 4\r\n\t}\r\n}"
            ),
        ),
        ('layer { name: "a" }', 'layer { name: "a" quantization_param { bw_layer_in: 8 fl_layer_in: 4 } }'),
        ('layer{name: "a"}# c', 'layer{name: "a" quantization_param { bw_layer_in: 8 fl_layer_in: 4 }}# c'),
        ('layer <name: "a">', 'layer <name: "a" quantization_param { bw_layer_in: 8 fl_layer_in: 4 }>'),
        ("layer {}", "layer { quantization_param { bw_layer_in: 8 fl_layer_in: 4 } }"),
        ("layer { }", "layer { quantization_param { bw_layer_in: 8 fl_layer_in: 4 } }"),
        (
            "layer {\n}",
            "layer {\n  quantization_param {\n    bw_layer_in: 8\n    fl_layer_in: 4\n  }\n}",
        ),
        (
            "layer {\n    # nothing yet\n    }\n",
            "layer {\n    # nothing yet\n  quantization_param {\n    bw_layer_in: 8\n    fl_layer_in: 4\n  }\n    }\n",
        ),
        (
            'layer {\n  name: "a"  # the last } of all\n  type: "b" }\n',
            'layer {\n  name: "a"  # the last } of all\n'
            '  type: "b" quantization_param { bw_layer_in: 8 fl_layer_in: 4 } }\n',
        ),
        (
            'layer {\n    name: "a"\n    p { x: 1 }  # }\n}\n',
            'layer {\n    name: "a"\n    p { x: 1 }  # }\n'
            "    quantization_param {\n        bw_layer_in: 8\n        fl_layer_in: 4\n    }\n}\n",
        ),
        (
            "layer {\n  quantization_param {\n    precision: MINIFLOAT  # old\n  }\n  top: 'x'\n}\n",
            "layer {\n  quantization_param {\n    bw_layer_in: 8\n    fl_layer_in: 4\n  }\n  top: 'x'\n}\n",
        ),
        (
            "layer { quantization_param: <exp_bits: 5>, top: 'x' }",
            "layer { quantization_param { bw_layer_in: 8 fl_layer_in: 4 }, top: 'x' }",
        ),
    ],
)
def test_a_message_is_added_or_replaced_in_the_style_around_it(before: str, after: str) -> None:
    assert with_format(before) == after
    assert with_format(after) == after


@pytest.mark.parametrize(
    ("before", "names", "after"),
    [
        ("a: 1\nb: 2\nc: 3\n", ["b"], "a: 1\nc: 3\n"),
        ("a: 1\r\nb: 2\r\nc: 3", ["b"], "a: 1\r\nc: 3"),
        ("a: 1\nb: 2", ["b"], "a: 1\n"),
        ("a: 1\n  b: 2  # why\nc: 3", ["b"], "a: 1\n    # why\nc: 3"),
        ("a: 1 b: 2 c: 3", ["b"], "a: 1 c: 3"),
        ("a: 1, b: 2, c: 3", ["b"], "a: 1, c: 3"),
        ("a: 1, b: 2;\nc: 3", ["b"], "a: 1,\nc: 3"),
        ("a: 1;\nb: 2;\nc: 3", ["b"], "a: 1;\nc: 3"),
        ("m { a: 1 }", ["m", "a"], "m { }"),
        ("m {a: 1}", ["m", "a"], "m {}"),
        ("m {\n  a {\n    b: 1\n  }\n}", ["m", "a"], "m {\n}"),
    ],
)
def test_a_field_is_removed_with_its_line_and_separator(before: str, names: list[str], after: str) -> None:
    assert without(before, *names) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: 1\n\nb: 2\n\nc: 3\n\nd: 4\n", "a: 1\n\nd: 4\n"),
        ("a: 1\r\n\r\nb: 2\r\n \t\r\nc: 3\r\n\r\nd: 4", "a: 1\r\n\r\nd: 4"),
        ("a: 1\n\nb: 2\nc: 3\n\nd: 4\n", "a: 1\n\nd: 4\n"),
        ("a: 1\n\n\nb: 2\nc: 3\n\n\nd: 4\n", "a: 1\n\n\n\nd: 4\n"),
        ("a: 1\n\nb: 2\nc: 3\nd: 4\n", "a: 1\n\nd: 4\n"),
        ("a: 1\nb: 2\nc: 3\n\nd: 4\n", "a: 1\n\nd: 4\n"),
        ("a: 1\n\n# why\nb: 2\n\nc: 3\n\nd: 4\n", "a: 1\n\n# why\n\nd: 4\n"),
        ("\nb: 2\n\nc: 3\n\nd: 4\n", "\nd: 4\n"),
        ("b: 2\n\nc: 3\n\n", ""),
        ("a: 1\n\nb: 2\n\nc: 3", "a: 1\n\n"),
        ("a: 1 b: 2 c: 3\n\nd: 4\n", "a: 1\n\nd: 4\n"),
        ("a: 1\n\nb: 2 x: 5\n\nc: 3\n\nd: 4\n", "a: 1\n\n x: 5\n\nd: 4\n"),
    ],
)
def test_fields_go_with_the_blank_lines_that_would_double(before: str, after: str) -> None:
    document = parse(before)
    edits = Edits(document)
    edits.remove_blocks([field(document, "b"), field(document, "c")])
    assert edits.apply().text == after


def test_a_scalar_is_replaced_where_it_stands() -> None:
    document = parse("layer { type : 'Conv' 'olution' ; # keep\n type: 'b' }")
    edits = Edits(document)
    edits.set_scalar(first(document, "layer"), "type", '"ConvolutionRistretto"')
    assert edits.apply().text == "layer { type : \"ConvolutionRistretto\" ; # keep\n type: 'b' }"


def test_words_do_not_grow_together() -> None:
    document = parse("a:'x'b:'y'c:1")
    edits = Edits(document)
    edits.set_scalar(document.root, "a", "MAX")
    edits.set_scalar(document.root, "b", "-1")
    assert edits.apply().text == "a:MAX b:-1 c:1"


def test_a_scalar_that_is_missing_is_added() -> None:
    document = parse("a: 1")
    edits = Edits(document)
    edits.set_scalar(document.root, "b", "2")
    assert edits.apply().text == "a: 1\nb: 2\n"


def test_a_message_can_be_added_again() -> None:
    document = parse("layer {\n  param { lr_mult: 1 }\n}\n")
    edits = Edits(document)
    for rate in (2, 3):
        edits.add_message(first(document, "layer"), "param", [f"lr_mult: {rate}"])
    assert edits.apply().text == (
        "layer {\n  param { lr_mult: 1 }\n  param {\n    lr_mult: 2\n  }\n  param {\n    lr_mult: 3\n  }\n}\n"
    )


def test_two_additions_to_a_message_on_one_line() -> None:
    document = parse("m {a: 1}")
    edits = Edits(document)
    edits.set_scalar(first(document, "m"), "b", "2")
    edits.set_scalar(first(document, "m"), "c", "3")
    assert plain(edits.apply().root) == plain(parse("m { a: 1 b: 2 c: 3 }").root)


def test_a_field_is_replaced_by_others() -> None:
    document = parse("  rates: 1\nx { rates: 2 y: 3 }\nz {\n    rates: 4\n}")
    edits = Edits(document)
    for names in (["rates"], ["x", "rates"], ["z", "rates"]):
        edits.replace_field(field(document, *names), ["p { r: 1 }", "p { r: 2 }"])
    assert edits.apply().text == (
        "  p { r: 1 }\n  p { r: 2 }\nx { p { r: 1 } p { r: 2 } y: 3 }\nz {\n    p { r: 1 }\n    p { r: 2 }\n}"
    )


def test_nested_lines_get_lines_of_their_own() -> None:
    document = parse("name: 'a' input: 'b'\nlayer {\n    x: 1\n}\n")
    edits = Edits(document)
    edits.replace_field(field(document, "input"), ["layer {", UNIT + "p {", UNIT + UNIT + "q: 1", UNIT + "}", "}"])
    edits.insert_before(field(document, "layer"), ["y {", UNIT + "z: 2", "}"])
    assert edits.apply().text == (
        "name: 'a' \nlayer {\n    p {\n        q: 1\n    }\n}\ny {\n    z: 2\n}\nlayer {\n    x: 1\n}\n"
    )


def test_overlapping_edits_are_a_fault_of_the_program() -> None:
    document = parse("layer { a: 1 }")
    edits = Edits(document)
    edits.remove(field(document, "layer"))
    edits.remove(field(document, "layer", "a"))
    with pytest.raises(ValueError, match="two edits overlap"):
        edits.apply()


def test_text_that_is_no_prototxt_is_refused() -> None:
    document = parse("a: 1", "net.prototxt")
    edits = Edits(document)
    edits.set_scalar(document.root, "a", "{")
    with pytest.raises(PrototxtError, match=r"net\.prototxt:1:4"):
        edits.apply()


@needs_shared
@pytest.mark.parametrize("file", [file for file in corpus() if file.well_formed], ids=lambda file: file.path.name)
def test_adding_to_every_layer_of_a_real_net_leaves_all_else(file: CorpusFile) -> None:
    document = parse(file.path.read_bytes())
    assert Edits(document).apply() is document
    edits = Edits(document)
    layers = [node for node in document.root.all("layer") if isinstance(node, Message)]
    for layer in layers:
        edits.set_message(layer, "newly_added", FORMAT)
    edited = edits.apply()
    added = [node for node in edited.root.all("layer") if isinstance(node, Message)]
    for layer in added:
        assert plain(layer)[-1] == ("newly_added", [plain(parse(" ".join(FORMAT)).root)])
    back = Edits(edited)
    for layer in added:
        back.remove(layer.fields[-1])
    assert back.apply().to_bytes() == document.to_bytes()


def messages(document: Document) -> list[tuple[tuple[int, ...], Message]]:
    """Every message of a document, with the way to it: positions of fields and values by turns."""
    found: list[tuple[tuple[int, ...], Message]] = [((), document.root)]
    for way, message in found:
        for place, entry in enumerate(message.fields):
            found += [
                ((*way, place, number), value)
                for number, value in enumerate(entry.values)
                if isinstance(value, Message)
            ]
    return found


def inside(tree: Plain, way: tuple[int, ...]) -> Plain:
    """The message of a plain tree that a way leads to."""
    for place, number in zip(way[::2], way[1::2], strict=True):
        value = tree[place][1][number]
        assert isinstance(value, list)
        tree = value
    return tree


def kept(before: str, after: str) -> int:
    """How many characters of a text stand before and behind one place that was edited."""
    head = next(
        (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    rest, tail = before[head:], after[head:]
    return head + next(
        (n for n, (a, b) in enumerate(zip(reversed(rest), reversed(tail), strict=False)) if a != b),
        min(len(rest), len(tail)),
    )


@settings(max_examples=300)
@given(st.data())
def test_random_edits_of_random_texts(data: st.DataObject) -> None:
    """Whatever the layout, the tree changes as asked, and an addition is one insertion into the text."""
    document = parse(data.draw(renderings(data.draw(trees))))
    way, message = data.draw(st.sampled_from(messages(document)))
    expected = plain(document.root)
    target = inside(expected, way)
    edits = Edits(document)
    actions = ["add scalar", "add message", "set", "remove", "remove blocks"] if target else ["add scalar"]
    action = data.draw(st.sampled_from(actions))
    if action == "add scalar":
        edits.set_scalar(message, "newly_added", "7")
        target.append(("newly_added", [("number", "7")]))
    elif action == "add message":
        edits.set_message(message, "newly_added", FORMAT)
        target.append(("newly_added", [plain(parse(" ".join(FORMAT)).root)]))
    else:
        place = data.draw(st.integers(0, len(target) - 1))
        if action == "remove":
            edits.remove(message.fields[place])
            del target[place]
        elif action == "remove blocks":
            end = data.draw(st.integers(place, len(target)))
            edits.remove_blocks(message.fields[place:end])
            del target[place:end]
        else:
            name = target[place][0]
            values = next((values for other, values in target if other == name and values), None)
            if values is None or isinstance(values[0], list):
                return
            edits.set_scalar(message, name, "MAX")
            values[0] = ("identifier", "MAX")
    edited = edits.apply()
    assert plain(edited.root) == expected
    if action.startswith("add"):
        assert kept(document.text, edited.text) == len(document.text)
    if action == "remove":
        assert kept(document.text, edited.text) >= len(edited.text)
