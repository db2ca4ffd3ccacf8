"""The lossless parser: nothing lost, nothing misread, every bad input a PrototxtError that helps."""

from __future__ import annotations

import re

import pytest
from google.protobuf import text_format
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prototxts import SHARED, CorpusFile, corpus, names, needs_shared, plain, renderings, trees

from ristretto.caffe.schema import message_class
from ristretto.caffe.textproto import Document, Message, Scalar, parse
from ristretto.errors import PrototxtError

LAYER = 'layer {\n  name: "conv1"  # the first\n  type: "Convolution"\n  param { lr_mult: 1 }\n}\n'
SYMBOLS = ["{", "}", "<", ">", "[", "]", ",", ";", ":", "-", "#c\n"]
VALUES = ["1", "0x2", ".5e1f", "true", "inf", '"a"', "'b\\101'", '"\\n"']
TOKENS = [*SYMBOLS, *VALUES, "name", "layer", "input", "input_dim", "input_shape", "dim", "force_backward"]
_NUMBERED = re.compile(r"\b[0-9]\w*(?:\s|#c)*[:{<\[]|\.5e1f(?:\s|#c)*[:{<\[]")
_BETWEEN = re.compile(r"(?:[\s,;]|#[^\n]*)*\ufeff?")


def parsed_or_error(text: str) -> Document | PrototxtError:
    try:
        return parse(text)
    except PrototxtError as error:
        return error


def check_spans(document: Document, message: Message) -> None:
    """Fields stand in order inside their message, with nothing but layout between them, and read alone as they do."""
    position = message.body_start
    for field in message.fields:
        assert _BETWEEN.fullmatch(document.text[position : field.start].lstrip("\ufeff"))
        assert document.text[field.start : field.name_end] == field.name
        (alone,) = parse(document.text[field.start : field.end]).root.fields
        assert plain(Message((alone,), 0, 0, 0, 0)) == plain(Message((field,), 0, 0, 0, 0))
        for value in field.values:
            assert field.name_end <= value.start < value.end <= field.end
            if isinstance(value, Message):
                assert document.text[value.start] + document.text[value.end - 1] in ("{}", "<>")
                assert (value.body_start, value.body_end) == (value.start + 1, value.end - 1)
                check_spans(document, value)
        position = field.end
    assert _BETWEEN.fullmatch(document.text[position : message.body_end].lstrip("\ufeff"))


@needs_shared
@pytest.mark.parametrize("file", corpus(), ids=lambda file: file.path.name)
def test_corpus_prints_back_byte_for_byte(file: CorpusFile) -> None:
    data = file.path.read_bytes()
    if not file.well_formed:
        with pytest.raises(PrototxtError):
            parse(data, file.path.name)
        return
    document = parse(data, file.path.name)
    assert document.to_bytes() == data
    assert document.root.fields
    if len(data) < 100_000:
        check_spans(document, document.root)


@needs_shared
def test_the_corpus_has_both_kinds_of_file() -> None:
    kinds = [file.well_formed for file in corpus()]
    assert kinds.count(False) == 2
    assert kinds.count(True) > 100


@needs_shared
def test_every_other_prototxt_prints_back_byte_for_byte() -> None:
    paths = [path for folder in ("models", "golden") for path in (SHARED / folder).rglob("*.prototxt")]
    assert len(paths) > 100
    for path in paths:
        data = path.read_bytes()
        assert parse(data, path.name).to_bytes() == data


@settings(max_examples=300)
@given(st.data())
def test_any_layout_of_a_tree_reads_as_the_tree(data: st.DataObject) -> None:
    tree = data.draw(trees)
    text = data.draw(renderings(tree))
    document = parse(text.encode(), "random")
    assert plain(document.root) == tree
    assert document.to_bytes() == text.encode()
    check_spans(document, document.root)


@given(st.binary(max_size=80), st.sampled_from([b"\xef\xbb\xbf", b""]))
def test_any_bytes_survive_in_a_comment(junk: bytes, mark: bytes) -> None:
    data = mark + b"a: 1 # " + junk.replace(b"\n", b"") + b"\r\nb: 2"
    document = parse(data)
    assert document.to_bytes() == data
    assert [field.name for field in document.root.fields] == ["a", "b"]


@given(st.data())
def test_mutations_raise_nothing_but_our_error(data: st.DataObject) -> None:
    text = LAYER * 2
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 8)))
        junk = data.draw(st.text(max_size=3) | st.text(alphabet="{}<>[]:;,\"'\\-.#0x1eu \n", max_size=4))
        text = text[:start] + junk + text[end:]
    result = parsed_or_error(text)
    if isinstance(result, Document):
        check_spans(result, result.root)
    else:
        assert min(result.line, result.column) >= 1
        assert result.cure


@given(st.integers(0, len(LAYER)))
def test_truncations_raise_nothing_but_our_error(length: int) -> None:
    complete = length >= len(LAYER.rstrip()) or length == 0
    assert isinstance(parsed_or_error(LAYER[:length]), Document) == complete


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(TOKENS),
        max_size=14,
    ).map(" ".join)
)
@example("layer: [ { name : 'b' } , < > ]")
@example("input_shape < dim : [ 1 , 2 ] ; > ,")
def test_whatever_protobuf_reads_we_read(text: str) -> None:
    """protobuf's own parser is the judge: it skips the fields that it does not know, where we keep them."""
    if _NUMBERED.search(text):  # read by protobuf when it skips fields, an error when Caffe reads
        return
    try:
        text_format.Parse(text, message_class("NetParameter")(), allow_unknown_field=True)
    except (text_format.ParseError, ValueError):
        return
    parse(text)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r'a: "\n\t\r\"\'\\\?\a\b\f\v"', "\n\t\r\"'\\?\a\b\f\v"),
        (r'a: "\101\x41\X41\7\x9"', "AAA\7\t"),
        (r'a: "\303\244\xc3\xa4\u00e4\U000000e4"', "ääää"),
        (r'a: "\1234\x412"', "S4A2"),
        ("a: 'say \"hi\"' \"it's\"\n # and\n 'me'", 'say "hi"it\'sme'),
        (r'a: "\377"', "\udcff"),
    ],
)
def test_strings(text: str, content: str) -> None:
    value = parse(text).root.first("a")
    assert isinstance(value, Scalar)
    assert (value.kind, value.text) == ("string", content)


@pytest.mark.parametrize("text", ["-1", "- 1", "-\n# minus\n1"])
def test_space_after_a_minus(text: str) -> None:
    value = parse(f"a: {text}").root.first("a")
    assert isinstance(value, Scalar)
    assert (value.kind, value.text) == ("number", "-1")


def test_lists_count_as_repeated_fields() -> None:
    root = parse("a: 1 a: [2, 3] b: [{c: 4}, <c: 5>] a: [] b {c: 6}").root
    assert [value.text for value in root.all("a") if isinstance(value, Scalar)] == ["1", "2", "3"]
    assert [value.fields[0].values for value in root.all("b") if isinstance(value, Message)] != []
    assert len(root.all("b")) == 3
    assert len(list(root.named("a"))) == 3
    assert root.first("c") is None


def test_extension_names_are_kept() -> None:
    document = parse("[caffe.fork_param] { x: 1 } [type.googleapis.com/a.B]: 2")
    assert [field.name for field in document.root.fields] == ["[caffe.fork_param]", "[type.googleapis.com/a.B]"]


@given(st.lists(names, min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_positions_count_lines_and_columns_from_one(fields: list[str], newline: str) -> None:
    document = parse(newline.join(f"  {name}: 1" for name in fields))
    found = [document.position(field.start) for field in document.root.fields]
    assert found == [(line, 3) for line in range(1, len(fields) + 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer {\n  name: 'a'\n", "net.prototxt:1:7: a '{' is never closed; add the matching '}'"),
        ("a { b <\n c: 1", "net.prototxt:1:7: a '<' is never closed; add the matching '>'"),
        ("a: [1, 2\n", "net.prototxt:1:4: a '[' is never closed; add the matching ']'"),
        ("a: 1\n}", "net.prototxt:2:1: unexpected '}'; nothing is open here: check the braces"),
        (
            "a {\n b < c: 1 }\n}",
            "net.prototxt:2:11: unexpected '}'; the '<' of line 2, column 4 needs a '>' before it",
        ),
        ("a: 'x\nb: 1", "net.prototxt:1:4: the string is not closed on its line; add the closing '"),
        ("a 1", "net.prototxt:1:3: expected ':' or '{' after 'a', found '1'; write 'a: value'"),
        ("a", "net.prototxt:1:2: expected ':' or '{' after 'a', found the end of the file; write 'a: value'"),
        (
            "a: 0,1",
            "net.prototxt:1:6: expected a field name, found '1'; every value needs a 'name:' before it",
        ),
        (
            "a: }",
            "net.prototxt:1:4: expected a value, found '}'; write a number, a quoted string or a word",
        ),
        ("a: -'x'", "net.prototxt:1:4: expected a number after '-'; write a number such as -1"),
        ("a: 1.2.3", "net.prototxt:1:4: '1.2.3' is no number; mend it, or put it into quotes"),
        ("a: 5x", "net.prototxt:1:4: '5x' is no number; mend it, or put it into quotes"),
        ("a: [1 2]", "net.prototxt:1:7: expected ',' or ']', found '2'; separate the elements by commas"),
        (r"a: 'C:\data'", r"net.prototxt:1:7: unknown escape '\d'; write a backslash as \\"),
        (r"a: '\ud800'", "net.prototxt:1:5: no such character; use a valid code point"),
        ("a: $x", "net.prototxt:1:4: unexpected character '$'; take it out, or put it into a quoted string"),
        (
            b"a: \xff",
            r"net.prototxt:1:4: unexpected character '\xff'; take it out, or put it into a quoted string",
        ),
        (
            "a: 1\u00a0",
            "net.prototxt:1:5: unexpected character 'U+00A0'; take it out, or put it into a quoted string",
        ),
    ],
)
def test_errors_say_where_what_and_how_to_mend(text: str | bytes, message: str) -> None:
    with pytest.raises(PrototxtError) as caught:
        parse(text, "net.prototxt")
    assert str(caught.value) == message


@pytest.mark.parametrize(("opening", "closing"), [("a{", "}"), ("a<", ">"), ("a:[{", "}]")])
def test_depth_is_limited(opening: str, closing: str) -> None:
    parse(opening * 100 + closing * 100)
    for depth in (101, 100_000):
        with pytest.raises(PrototxtError, match="nested more than 100 deep"):
            parse(opening * depth + closing * depth)


def test_nodes_are_frozen() -> None:
    document = parse(LAYER)
    for node in (document, document.root, document.root.fields[0], *document.root.all("layer")):
        with pytest.raises(AttributeError):
            node.start = 1  # type: ignore[misc, union-attr]
