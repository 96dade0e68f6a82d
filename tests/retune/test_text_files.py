"""Text files of every kind: marks that are no text, and encodings that are none of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from retune.collecting.sourcing import _read_list
from retune.data.chats.templates import locate_template, read_template
from retune.data.chats.tokenizers import end_token_ids, load_tokenizer
from retune.data.databases import load_databases
from retune.data.sources import locate_databases
from retune.data.stages import DatabasesInputs
from retune.data.tables import read_rows
from retune.errors import ConfigError, DataError
from retune.modeling.prequantized import quantized_as
from retune.modeling.reference import read_references
from retune.modeling.snapshots import check_snapshot
from retune.recipe.document import read_document
from retune.recipe.sections import PromptConfig
from retune.scoring.case_files import read_probe_files
from retune.spine.stage import Workdir
from retune.text_files import MARK, guess_encoding, read_text_file

Snapshot = Callable[[str], Path]
Copy = Callable[[Path], Path]


def marked(path: Path, text: str) -> Path:
    """Write a text as an editor on Windows does."""
    path.write_text(text, encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    return path


class TestReading:
    def test_a_mark_and_ends_of_lines_as_on_windows_are_no_text(self, tmp_path: Path) -> None:
        """What is left is what an editor shows; a mark inside of the text is text."""
        path = tmp_path / "a.txt"
        path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\xef\xbb\xbf\n")
        assert read_text_file(path) == "a\nb\nc\ufeff\n"

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"\xe9\n", "a.txt:1: byte 0xe9 is no UTF-8; save the file as UTF-8"),
            ("uma linha\nSão\n".encode("cp1252"), ":2: byte 0xe3 is no UTF-8 (the file seems to "),
            ("uma linha\nSão\n".encode("cp850"), "be in cp850); save the file as UTF-8"),
            ("a linha".encode("utf-16"), "is in utf-16, expected UTF-8"),
            ("a linha".encode("utf-16-le"), "is in utf-16-le, expected UTF-8"),
            ("a linha".encode("utf-16-be"), "is in utf-16-be, expected UTF-8"),
            ("a linha".encode("utf-32"), "is in utf-32, expected UTF-8"),
            ("строка и ещё".encode("cp1251"), "byte 0xf1 is no UTF-8; save the file as UTF-8"),
        ],
    )
    def test_another_encoding_is_named_where_it_can_be_told(
        self, tmp_path: Path, content: bytes, says: str
    ) -> None:
        """With the line and the byte; where none is likely, none is named."""
        path = tmp_path / "a.txt"
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            read_text_file(path, ConfigError)
        assert says in str(caught.value)

    @pytest.mark.parametrize("encoding", ["cp1252", "cp850", "mac_roman"])
    def test_portuguese_is_told_in_what_offices_write(self, encoding: str) -> None:
        """Windows, its console, and an old Mac: the same bytes are letters in one of them alone."""
        text = "Não há previsão de manutenção às três horas; é só amanhã."
        assert guess_encoding(text.encode(encoding)) == encoding

    def test_a_letter_that_is_cut_in_two_is_no_other_encoding(self) -> None:
        """The beginning of a file may end anywhere."""
        assert guess_encoding("manutenção".encode()[:-2]) == "utf-8"

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        """Under the class that the caller wants."""
        with pytest.raises(DataError, match=r"gone: cannot be read \(No such file"):
            read_text_file(tmp_path / "gone")


class TestKindsOfFiles:
    """Each file that a person may have written, with a mark before its text."""

    def test_a_recipe(self, tmp_path: Path) -> None:
        """Its first key is `name`."""
        assert read_document(marked(tmp_path / "a.yaml", "name: a\n")).values == {"name": "a"}

    def test_a_chat_template(self, tmp_path: Path) -> None:
        """Every prompt would begin with the mark, in training and in the release."""
        path = marked(tmp_path / "chat.jinja", "{{ messages[0].content }}\r\n")
        found = locate_template(
            PromptConfig(template=str(path)), lambda each: each, lambda each: each
        )
        assert found is not None
        assert read_template(found) == "{{ messages[0].content }}\n"

    @pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
    def test_a_template_that_is_borrowed(self, tmp_path: Path, name: str) -> None:
        """As a file, and inside of the tokenizer's settings, which have a mark of their own."""
        text = "{{ messages }}"
        inner = json.dumps({"chat_template": MARK + text}, ensure_ascii=False)
        marked(tmp_path / name, inner if name.endswith("json") else text)
        found = locate_template(
            PromptConfig(template_from=str(tmp_path)), lambda each: each, lambda each: each
        )
        assert found is not None
        assert read_template(found) == text

    def test_the_tokenizers_own_template(self, snapshot: Snapshot, copied: Copy) -> None:
        """The library keeps the mark; what is released would have it too."""
        folder = copied(snapshot("llama"))
        text = load_tokenizer(folder).chat_template
        marked(folder / "chat_template.jinja", text)
        tokenizer = load_tokenizer(folder)
        assert tokenizer.chat_template == text
        tokenizer.save_pretrained(folder / "released")
        assert (folder / "released" / "chat_template.jinja").read_text("utf-8") == text

    def test_several_templates_of_a_tokenizer(self, snapshot: Snapshot, copied: Copy) -> None:
        """Each of them, by name."""
        folder = copied(snapshot("llama"))
        (folder / "additional_chat_templates").mkdir()
        marked(folder / "additional_chat_templates" / "tools.jinja", "tools")
        found = load_tokenizer(folder).chat_template
        assert isinstance(found, dict)
        assert found["tools"] == "tools"

    def test_settings_of_a_model(self, snapshot: Snapshot, copied: Copy) -> None:
        """Those that transformers reads itself are refused by name; the others are read."""
        folder = copied(snapshot("llama"))
        marked(folder / "generation_config.json", '{"eos_token_id": [5]}')
        assert end_token_ids(load_tokenizer(folder), folder)[-1] == 5
        marked(folder / "config.json", '{"quantization_config": {"quant_method": "awq"}}')
        assert quantized_as(folder) == "awq"
        with pytest.raises(ConfigError, match=r"config.json: begins with a byte-order mark"):
            check_snapshot(folder)

    @pytest.mark.parametrize("ending", ["json", "jsonl"])
    def test_databases(self, tmp_path: Path, work: Workdir, ending: str) -> None:
        """As a mapping, and a line each."""
        script = "CREATE TABLE t (a INTEGER);"
        whole = {"one": script} if ending == "json" else {"db_id": "one", "schema": script}
        source = locate_databases(marked(tmp_path / f"a.{ending}", json.dumps(whole)))
        found = load_databases(DatabasesInputs(source=source), work)
        assert [row["db_id"] for row in read_rows(found.folder / "databases.parquet")] == ["one"]

    def test_probes(self, tmp_path: Path) -> None:
        """The first key is known."""
        text = "categories: {a: [{id: x, prompt: p, must: [y]}]}\n"
        problems: list[str] = []
        files = read_probe_files([marked(tmp_path / "a.yaml", text)], problems)
        assert not problems
        assert list(files[0].content) == ["categories"]

    def test_general_and_reference_texts(self, tmp_path: Path) -> None:
        """JSON Lines, all read by one function."""
        path = marked(tmp_path / "a.jsonl", '{"text": "x"}')
        assert [each.text for each in read_references(path)] == ["x"]

    def test_a_list_of_addresses(self, tmp_path: Path) -> None:
        """The first address begins with its scheme."""
        path = marked(tmp_path / "a.txt", "https://a.example/\r\n")
        assert _read_list(path) == ["https://a.example/"]
