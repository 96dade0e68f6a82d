"""What is planted in a run to be looked for afterwards: secrets, personal data, hostile text.

All of it is made up; each text stands nowhere else, so that wherever it is found it was carried
there.
"""

from __future__ import annotations

SECRETS = {
    "HF_TOKEN": "hf_CanaryCanaryCanaryCanaryCanaryCana",
    "OPENAI_API_KEY": "sk-proj-canary0Canary1Canary2Canary3Canary4",
    "GITHUB_TOKEN": "ghp_canary0Canary1Canary2Canary3Canary4x",
    "GITLAB_TOKEN": "glpat-canary0Canary1Canary2",
    "SLACK_TOKEN": "xoxb-1234567890-canary0Canary1Canary2",
    "AWS_ACCESS_KEY_ID": "AKIACANARYCANARY2345",
    "AWS_SECRET_ACCESS_KEY": "canarySecret0/canarySecret1+canarySecret2",
    "GOOGLE_API_KEY": "AIzaCanary0Canary1Canary2Canary3Canary4",
    "WANDB_API_KEY": "ca0a12ca0a12ca0a12ca0a12ca0a12ca0a12ca0a",
    "MLFLOW_TRACKING_PASSWORD": "canary-mlflow-password-7",
    "PREFECT_API_KEY": "pnu_canary0Canary1Canary2Canary3Canary4",
    "SERVICE_JWT": "eyJjYW5hcnkiOiJjYW5hcnkifQ.eyJjYW5hcnkiOiJjYW5hcnkifQ.canary0Canary1",
    "DATABASE_URL": "postgresql://canary:canaryPassword9@db.canary.example/x",
    "BRIGHTDATA_API_TOKEN": "canary-brightdata-token-8",
    "DEPLOY_KEY": "-----BEGIN OPENSSH PRIVATE KEY-----\nY2FuYXJ5Q2FuYXJ5\n",
}
"""Variables of the environment, of fifteen kinds."""

PERSONAL = {
    "e-mail": "maria.canario@canarinho.com.br",
    "CPF": "529.982.247-25",
    "telephone": "(11) 98765-4321",
    "card number": "4539 1488 0343 6467",
}
"""Of a person who is not there; check digits are right, so that they count."""

IN_ROWS = {
    "AWS key": "AKIAROWSROWSROWS2345",
    "GitHub token": "ghp_rows0Rows1Rows2Rows3Rows4Rows5Rows6x",
}
"""Secrets that somebody left in a question."""

MARK = "canario_ran"
"""What a script of the payload would leave in a page."""


def payload(server: str) -> str:
    """Return hostile text: scripts, pictures and styles that lead to a server, links, escapes.

    Args:
        server: Address that everything in it would load from.
    """
    return (
        f"</td></script></style></textarea>\"'><script>document.title='{MARK}';"
        f"fetch('{server}/script')</script>"
        f"<img src='{server}/picture' onerror=\"document.title='{MARK}'\">"
        f"<svg onload=\"document.title='{MARK}'\"></svg>"
        f"<link rel=stylesheet href='{server}/style'><style>@import '{server}/import';</style>"
        f"<iframe src='{server}/frame'></iframe><object data='{server}/object'></object>"
        f"![x]({server}/markdown)[y](javascript:document.title='{MARK}')"
        f"<a href='javascript:0' autofocus onfocus=\"document.title='{MARK}'\">z</a>"
        "{{ 7 * 7 }}{% raw %}\x1b[31mred\x1b]0;title\x07\x9b2J\u202ederettamer\u2066|`a`"
    )
