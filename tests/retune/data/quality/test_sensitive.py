"""Secrets and personal data. No real ones: each is put together here."""

import random
import string

import pytest

from retune.data.quality.sensitive import (
    find_personal_data,
    find_secrets,
    redact,
    redact_values,
)

_DRAW = random.Random(5)


def _signs(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(_DRAW.choices(alphabet, k=count))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("private key", "-----BEGIN RSA " + "PRIVATE KEY-----\nMII"),
        ("AWS key", "AK" + "IA" + _signs(16, string.ascii_uppercase)),
        ("GitHub token", "gh" + "p_" + _signs(36)),
        ("GitLab token", "gl" + "pat-" + _signs(20)),
        ("Slack token", "xo" + "xb-123456789012-" + _signs(24)),
        ("Hugging Face token", "h" + "f_" + _signs(34, string.ascii_letters)),
        ("OpenAI-like key", "s" + "k-" + "proj-9" + _signs(40)),
        ("Google key", "AI" + "za" + _signs(35)),
        (
            "JSON web token",
            ".".join(["ey" + "J" + _signs(20), "ey" + "J" + _signs(30), _signs(43)]),
        ),
        ("assigned password", "password = '" + "x9Kq2vTz7Wpa" + "'"),
        ("assigned password", 'SENHA: "' + "x9Kq2vTz7Wpa" + '"'),
    ],
)
def test_secret_is_found(kind: str, text: str) -> None:
    """Each kind is found within a sentence."""
    assert find_secrets(f"a chave é {text} , guarde-a") == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "esqueci minha senha do banco, alguém ajuda?",
        "senha: esqueci completamente",
        "password = ********",
        "password = get_password(user_id)",
        "token=https://example.com/a1b2c3d4e5",
        "task-based learning and risk-averse-approaches-to-fine-tuning",
        "select password from users where token = 'x'",
    ],
)
def test_talk_of_secrets_is_none(text: str) -> None:
    """Words about passwords, placeholders and code hold no secret."""
    assert not find_secrets(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("e-mail", "maria.silva@exemplo.com.br"),
        ("CPF", "390.533.447-05"),  # a made number with right check digits
        ("CPF", "CPF 39053344705"),
        ("CNPJ", "11.222.333/0001-81"),
        ("card number", "4111 1111 1111 1111"),  # the test number of payment providers
        ("card number", "378282246310005"),
        ("telephone", "(11) 98765-4321"),
        ("telephone", "11 98765-4321"),
        ("telephone", "+55 11 98765-4321"),
        ("telephone", "+44 20 7946 0958"),
        ("telephone", "(84) 3232-1234"),
    ],
)
def test_personal_data_is_found(kind: str, text: str) -> None:
    """Each kind is found within a sentence."""
    assert find_personal_data(f"fale com {text} hoje") == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "390.533.447-06",  # wrong check digit
        "39053344705",  # eleven digits without a name may be anything
        "11.222.333/0001-80",
        "4111 1111 1111 1112",  # fails Luhn
        "0000000000000000",
        "1234567890123456",  # no issuer
        "@user me liga",
        "x = [0.123456789012, 3.14159265358979]",
        "de 2019-2020 a 2021-2022",
        "user@example.com",
    ],
)
def test_other_numbers_are_no_personal_data(text: str) -> None:
    """Check digits, issuers and forms keep false alarms away."""
    assert not find_personal_data(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ask maria@banco.com.br now", "ask [e-mail] now"),
        ("senha: xK9mQ2vLp7Zt1, then", "senha: [assigned password], then"),
        ("CPF 529.982.247-25 of a test", "CPF [CPF] of a test"),
        ("id 123.456.789-00 is none", "id 123.456.789-00 is none"),
        ("before -----BEGIN RSA " + "PRIVATE KEY-----\nMIIE", "before [private key]"),
        ("nothing here", "nothing here"),
    ],
)
def test_what_is_found_is_put_in_brackets(text: str, expected: str) -> None:
    """The kind stands in place of what matched, and nothing is found a second time."""
    assert redact(text) == expected
    assert not find_secrets(redact(text)) | find_personal_data(redact(text))


@pytest.mark.parametrize("before", ["98765-4321", "rua 12,", "1234 5678"])
def test_a_number_before_it_hides_no_card(before: str) -> None:
    """With its own digits it would be too long, or have other check digits."""
    text = f"{before} 4539 1488 0343 6467"
    assert "card number" in find_personal_data(text)
    assert "[card number]" in redact(text)


def test_texts_within_lists_and_mappings_are_redacted() -> None:
    """Keys, numbers and what is no text stay as they are."""
    row = {"a": ["a@b.com.br", 1.5, None], "b": {"c": "ghp_" + "a1" * 20}, "d": True}
    found = {"a": ["[e-mail]", 1.5, None], "b": {"c": "[GitHub token]"}, "d": True}
    assert redact_values(row) == found
