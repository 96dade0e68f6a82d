"""A real browser without a window that a test drives: keys, what the page says, pictures of it.

It is spoken to over two pipes by the DevTools protocol: JSON objects that end with a NUL.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.browser import find_browser
from tests.waiting import wait_until

_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking"),
    *("--remote-debugging-pipe", "--force-prefers-reduced-motion", "--hide-scrollbars"),
)
_KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, ""), " ": (32, " ")}
_KEYS |= {"End": (35, ""), "Home": (36, ""), "ArrowUp": (38, ""), "ArrowDown": (40, "")}
_KEYS |= {"j": (74, "j"), "k": (75, "k")}
_CONTROL = 2
_SHIFT = 8


class DrivenBrowser:
    """One tab.

    Args:
        sink: Where commands go.
        source: Where answers come from.
    """

    def __init__(self, sink: int, source: int) -> None:
        self._sink, self._source = os.fdopen(sink, "wb", 0), os.fdopen(source, "rb", 0)
        self._number, self._left, self._session = 0, b"", ""
        self.faults: list[str] = []
        """What the page's script raised, and what its policy kept from loading."""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self._ask(f"{domain}.enable")

    def open(
        self, address: str, *, width: int = 1100, height: int = 900, dark: bool = False
    ) -> None:
        """Open a page and wait until it is there."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        self._ask("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """Return the value of an expression."""
        told = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def text(self, selector: str) -> str:
        """Return what the first element of a selector shows."""
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def wait_for(self, script: str) -> None:
        """Wait until an expression holds."""
        wait_until(lambda: self.run(f"Boolean({script})"), what=script, every=0.05)

    def write(self, text: str) -> None:
        """Type a text where the focus is."""
        self._ask("Input.insertText", text=text)

    def press(self, key: str, *, control: bool = False, shift: bool = False) -> None:
        """Press a key."""
        code, text = _KEYS[key]
        named = {"key": key, "code": "Space" if key == " " else key}
        named |= {"windowsVirtualKeyCode": code}
        named |= {"modifiers": _CONTROL * control + _SHIFT * shift}
        pressed = {"text": text} if text and not control else {}
        down = "keyDown" if pressed else "rawKeyDown"
        self._ask("Input.dispatchKeyEvent", type=down, **named, **pressed)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **named)

    def tab_to(self, name: str) -> None:
        """Press Tab until what has the focus is called so by a screen reader."""
        seen: list[str] = []
        for _ in range(40):
            self.press("Tab")
            seen.append(self.focused())
            if seen[-1] == name:
                return
        raise AssertionError(f"no key leads to {name!r}: {seen}")

    def focused(self) -> str:
        """Return the name by which a screen reader calls what has the focus."""
        nodes = self._ask("Accessibility.getFullAXTree")["nodes"]
        for node in reversed(nodes):
            properties = (
                {each["name"]: each["value"].get("value") for each in node["properties"]}
                if "properties" in node
                else {}
            )
            if properties.get("focused") and node["role"]["value"] != "RootWebArea":
                return str(node["name"]["value"])
        return ""

    def nameless(self) -> list[str]:
        """Return the roles of what can be used and has no name for a screen reader."""
        used = {"button", "textbox", "checkbox", "spinbutton", "link"}
        nodes = self._ask("Accessibility.getFullAXTree")["nodes"]
        return [
            node["role"]["value"]
            for node in nodes
            if not node["ignored"] and node["role"]["value"] in used and not node["name"]["value"]
        ]

    def take_picture(self, path: Path) -> None:
        """Write what is seen of the page to a file."""
        height = self.run("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": self.run("innerWidth"), "height": height, "scale": 1}
        told = self._ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        wish = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            wish["sessionId"] = self._session
        self._sink.write(json.dumps(wish).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("id") == self._number:
                assert "error" not in told, (method, told["error"])
                found: dict[str, Any] = told["result"]
                return found
            self._note(told)

    def _note(self, told: dict[str, Any]) -> None:
        if told.get("method") == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(told["params"])[:500])
        elif told.get("method") == "Log.entryAdded":
            entry = told["params"]["entry"]
            # A refused request is written there too; the page tells of it itself.
            if entry["level"] == "error" and entry["source"] != "network":
                self.faults.append(entry["text"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            piece = self._source.read(1 << 16)
            assert piece, "the browser has ended"
            self._left += piece
        told, _, self._left = self._left.partition(b"\0")
        found: dict[str, Any] = json.loads(told)
        return found

    def close(self) -> None:
        """Have the browser end, and close the pipes."""
        with suppress(OSError):
            self._sink.write(json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        self._sink.close()
        self._source.close()


@contextmanager
def drive(folder: Path) -> Iterator[DrivenBrowser]:
    """Start a browser; the test is skipped where this machine has none."""
    program = find_browser()
    to_it, sink = os.pipe()
    source, from_it = os.pipe()

    def place_pipes() -> None:
        # It reads commands from 3 and answers on 4. The ends may have these very numbers.
        reading, writing = os.dup(to_it), os.dup(from_it)
        os.dup2(reading, 3)
        os.dup2(writing, 4)

    process = subprocess.Popen(
        [program, *_OPTIONS, f"--user-data-dir={folder / 'profile'}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=place_pipes,
        close_fds=False,
    )
    os.close(to_it)
    os.close(from_it)
    browser = DrivenBrowser(sink, source)
    try:
        yield browser
    finally:
        browser.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
