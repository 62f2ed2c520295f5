"""A headless Chromium, driven over the DevTools protocol with the standard library alone.

    with Chromium() as browser:
        page = browser.page(width=360, dark=True)
        page.open(path)
        page.press("ArrowRight")
        assert page.evaluate("document.title") == "..." and not page.messages and not page.requests

Chromium reads commands from its file descriptor 3 and answers on 4: messages in JSON, a zero byte after each.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

__all__ = ["Chromium", "Page", "missing"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
_FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--no-default-browser-check", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--disable-dev-shm-usage", "--disable-breakpad", "--mute-audio",
    "--hide-scrollbars", "--password-store=basic", "--use-mock-keychain",
)  # fmt: skip
_PATIENCE = 60.0  # seconds that an answer may take on a busy machine, after which the browser hangs

# Keys by the name that JavaScript's event.key has: code, number, and the text it types.
_KEYS = {
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
    "Home": ("Home", 36, ""),
    "End": ("End", 35, ""),
    "Tab": ("Tab", 9, ""),
    "Escape": ("Escape", 27, ""),
    "Enter": ("Enter", 13, "\r"),
    " ": ("Space", 32, " "),
}


def find() -> str | None:
    """The path of a Chromium or Chrome; None where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    return found or (_MAC if os.path.exists(_MAC) else None)


def missing() -> str:
    """Why no browser can be driven here, as the reason of a skipped test; "" where one can."""
    if not hasattr(os, "posix_spawn"):
        return "driving Chromium over a pipe needs os.posix_spawn, which this system has not got"
    return "" if find() else f"no browser: none of {', '.join(_NAMES)} is installed"


class Chromium:
    """A browser with a profile of its own, which ends, with all its processes, at the end of the `with` block."""

    def __init__(self) -> None:
        import fcntl  # not on Windows, where missing() says so and nobody comes here

        path = find()
        assert path is not None, missing()
        self._profile = tempfile.mkdtemp(prefix="minigrad-chromium-")
        self._log = os.path.join(self._profile, "log.txt")
        self._buffer, self._asked = b"", 0
        self.pages: dict[str, Page] = {}
        ours: list[int] = []
        try:
            theirs_in, our_out = os.pipe()
            our_in, theirs_out = os.pipe()
            ours = [theirs_in, our_out, our_in, theirs_out]
            # Numbers above 9, so that making 3 of one never closes the other.
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (theirs_in, theirs_out)]
            ours += high
            arguments = [path, *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
            actions: list[Any] = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, high[0], 3),
                (os.POSIX_SPAWN_DUP2, high[1], 4),
            ]
            # subprocess has nothing for given numbers but preexec_fn, which is not safe beside NumPy's threads.
            self._pid = os.posix_spawn(path, arguments, dict(os.environ), file_actions=actions, setpgroup=0)
            self._in, self._out = our_in, our_out
            for fd in (theirs_in, theirs_out, *high):
                os.close(fd)
        except BaseException:
            for fd in ours:
                os.close(fd)
            shutil.rmtree(self._profile, ignore_errors=True)
            raise
        try:
            self.send("Target.setDiscoverTargets", {"discover": False})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the browser, and every process it started, and removes its profile."""
        os.close(self._in)
        os.close(self._out)
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        for _ in range(100):  # processes that were writing when they were killed may still be ending
            shutil.rmtree(self._profile, ignore_errors=True)
            if not os.path.exists(self._profile):
                break

    def page(
        self,
        width: int = 1000,
        height: int = 700,
        *,
        phone: bool = False,
        dark: bool = False,
        reduced_motion: bool = False,
        scale: float = 1,
    ) -> Page:
        """A new tab of this size; phone: with a touch screen and a phone's viewport."""
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self.pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone}
        page.send("Emulation.setDeviceMetricsOverride", metrics)
        page.send("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        page.emulate(dark=dark, reduced_motion=reduced_motion)
        return page

    def send(self, method: str, parameters: dict[str, Any] | None = None, session: str | None = None) -> dict[str, Any]:
        """Asks the browser, or one page of it, and waits for the answer."""
        number = self.post(method, parameters, session)
        while True:
            answer = self.receive(method)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def post(self, method: str, parameters: dict[str, Any] | None = None, session: str | None = None) -> int:
        """Asks without waiting; the number that the answer will have."""
        self._asked += 1
        message: dict[str, Any] = {"id": self._asked, "method": method, "params": parameters or {}}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        with suppress(BrokenPipeError):  # it has ended; whoever waits for the answer says so, with its last words
            while data:
                data = data[os.write(self._out, data) :]
        return self._asked

    def receive(self, waiting_for: str) -> dict[str, Any]:
        """The next message; events are also noted on their page."""
        until = monotonic() + _PATIENCE
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], max(0.0, until - monotonic()))[0]:
                raise TimeoutError(f"Chromium did not answer {waiting_for} within {_PATIENCE:.0f} s{self._said()}")
            data = os.read(self._in, 1 << 16)
            if not data:
                raise RuntimeError(f"Chromium ended while it was asked {waiting_for}{self._said()}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        page = self.pages.get(message.get("sessionId", ""))
        if page is not None and "method" in message:
            page.happened(message["method"], message["params"])
        return message

    def _said(self) -> str:
        text = Path(self._log).read_text(errors="replace")[-2000:] if os.path.exists(self._log) else ""
        return f"; its last words:\n{text}" if text else ""


class Page:
    """A tab, with what happened in it.

    messages: console output, uncaught errors and the browser's own complaints. requests: addresses that it asked for,
    the opened file itself left out. dialogs: the texts of alert, confirm and prompt, each dismissed.
    """

    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self.browser, self.session, self.target = browser, session, target
        self.address = ""
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self._loaded = False
        self._frames: list[tuple[str, str]] = []

    def send(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Asks this page over the protocol."""
        return self.browser.send(method, parameters, self.session)

    def happened(self, event: str, about: dict[str, Any]) -> None:
        """Notes an event of this page."""
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Target.attachedToTarget":
            self._frames.append((about["sessionId"], about["targetInfo"]["targetId"]))
        elif event == "Page.javascriptDialogOpening":
            self.dialogs.append(about["message"])
            self.browser.post(
                "Page.handleJavaScriptDialog", {"accept": False}, self.session
            )  # scripts stand still till then
        elif event == "Network.requestWillBeSent":
            if about["request"]["url"] != self.address.partition("#")[0]:
                self.requests.append(about["request"]["url"])
        elif event == "Runtime.consoleAPICalled":
            words = [str(a.get("value", a.get("description", ""))) for a in about["args"]]
            self.messages.append(f"console.{about['type']}: {' '.join(words)}")
        elif event == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.messages.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Log.entryAdded":
            self.messages.append(f"{about['entry']['level']}: {about['entry']['text']}")

    def open(self, path: str | os.PathLike[str]) -> None:
        """Loads a file, or an address, and waits until it is there."""
        text = os.fspath(path)
        self.address = text if re.match(r"(file|https?|data|about):", text) else Path(text).resolve().as_uri()
        self._loaded = False
        answer = self.send("Page.navigate", {"url": self.address})
        if answer.get("errorText"):
            raise RuntimeError(f"{self.address}: {answer['errorText']}")
        while not self._loaded:
            self.browser.receive("Page.navigate")

    def frame(self) -> Page:
        """What is in the sandboxed iframe of this page, which runs in a process of its own."""
        self.send("Target.setAutoAttach", {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True})
        while not self._frames:
            self.browser.receive("Target.attachedToTarget")
        page = self.browser.pages[self._frames[0][0]] = Page(self.browser, *self._frames[0])
        page.send("Runtime.enable")
        return page

    def emulate(self, *, dark: bool = False, reduced_motion: bool = False, print_: bool = False) -> None:
        """What the page finds when it asks for the colour scheme, for motion, and for the medium."""
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"},
        ]
        self.send("Emulation.setEmulatedMedia", {"media": "print" if print_ else "", "features": features})

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for. An error in it is a RuntimeError."""
        question = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.send("Runtime.evaluate", question)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """The text of an element as it is shown."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def press(self, key: str, *, shift: bool = False) -> None:
        """Presses and releases a key, named as in JavaScript: "ArrowRight", " ", "p"."""
        code, number, text = _KEYS.get(key, (f"Key{key.upper()}", ord(key[0].upper()), key))
        event = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": 8 if shift else 0}
        self.send("Input.dispatchKeyEvent", {"type": "keyDown" if text else "rawKeyDown", **event, "text": text})
        self.send("Input.dispatchKeyEvent", {"type": "keyUp", **event})

    def click(self, selector: str) -> None:
        """Clicks on the middle of an element, scrolled into sight first; what covers it gets the click."""
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'nearest', inline: 'nearest', behavior: 'instant'});"
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1})

    def accessibility(self) -> list[dict[str, Any]]:
        """The tree that a screen reader is given, as a list: role, name, and properties by their names."""
        found = []
        for node in self.send("Accessibility.getFullAXTree")["nodes"]:
            if not node.get("ignored"):
                entry = {key: node.get(key, {}).get("value") for key in ("role", "name", "description", "value")}
                entry |= {p["name"]: p["value"].get("value") for p in node.get("properties", [])}
                found.append(entry)
        return found

    def screenshot(self, path: str | os.PathLike[str], *, whole: bool = False) -> None:
        """Writes a PNG of what is seen, or of the whole page."""
        data = self.send("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Closes the tab."""
        self.browser.send("Target.closeTarget", {"targetId": self.target})
        self.browser.pages.pop(self.session, None)


if __name__ == "__main__":  # python tests/chromium.py FILE PICTURE.png [WIDTH HEIGHT]
    with Chromium() as chromium:
        size = [int(v) for v in sys.argv[3:5]]
        tab = chromium.page(*size)
        tab.open(sys.argv[1])
        tab.screenshot(sys.argv[2])
        print("\n".join(tab.messages + tab.requests))
