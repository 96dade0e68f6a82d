"""The tokenizer: the shipped one is the trained one, and its chat template marks the answer."""

from pathlib import Path

from generator.tokenizer import load_tokenizer

SHIPPED = Path(__file__).parents[2] / "assets" / "base_tiny"
MESSAGES = [
    {"role": "user", "content": "CREATE TABLE livros (preco REAL);\nQual é o preço de 'São João'?"},
    {"role": "assistant", "content": "SELECT preco FROM livros WHERE nome = 'São João'"},
]


def test_the_shipped_tokenizer_is_what_training_gives(tokenizer_folder: Path) -> None:
    trained = (tokenizer_folder / "tokenizer.json").read_bytes()
    assert (SHIPPED / "tokenizer.json").read_bytes() == trained


def test_text_survives_the_round_trip() -> None:
    tokenizer = load_tokenizer(SHIPPED)
    text = "Ação, coração , 3.14 '€' \t\n  ünïcode 漢字 -- x != 'y' ."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_are_single_tokens() -> None:
    tokenizer = load_tokenizer(SHIPPED)
    pieces = tokenizer.tokenize("4821")
    assert pieces == ["4", "8", "2", "1"]


def test_the_mask_covers_the_answer_and_its_end_only() -> None:
    tokenizer = load_tokenizer(SHIPPED)
    encoded = tokenizer.apply_chat_template(
        MESSAGES, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    pairs = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    answer = [token for token, said in pairs if said]
    assert tokenizer.decode(answer) == MESSAGES[1]["content"] + tokenizer.eos_token


def test_the_prompt_of_generation_is_a_prefix_of_the_whole() -> None:
    tokenizer = load_tokenizer(SHIPPED)
    whole = tokenizer.apply_chat_template(MESSAGES, tokenize=True, return_dict=True)["input_ids"]
    prompt = tokenizer.apply_chat_template(
        MESSAGES[:1], add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    answer = tokenizer(MESSAGES[1]["content"])["input_ids"]
    assert whole == [*prompt, *answer, tokenizer.eos_token_id]


def test_padding_is_not_the_end() -> None:
    tokenizer = load_tokenizer(SHIPPED)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
