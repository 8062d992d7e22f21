"""Requests whose framing could be read in two ways, and a replica that writes down how it was told to read them."""

import re
import socket
import threading

POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
GET = b"GET /p HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

# Each with the status that Evener answers; 200 is the replica's.
SHAPES = {
    # How long is the body?
    "`Content-Length` and `Transfer-Encoding`": (
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two equal `Content-Length`s": (POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 400),
    "two unequal `Content-Length`s": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi", 400),
    "`Content-Length: 2, 2`": (POST + b"Content-Length: 2, 2\r\n\r\nhi", 400),
    "`Content-Length: +2`": (POST + b"Content-Length: +2\r\n\r\nhi", 400),
    "`Content-Length: 0x2`": (POST + b"Content-Length: 0x2\r\n\r\nhi", 400),
    "`Content-Length: -2`": (POST + b"Content-Length: -2\r\n\r\nhi", 400),
    "an empty `Content-Length`": (POST + b"Content-Length:\r\n\r\nhi", 400),
    "a `Content-Length` beyond 64 bits": (POST + b"Content-Length: 18446744073709551618\r\n\r\nhi", 400),
    "`Transfer-Encoding: gzip, chunked`": (
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "`Transfer-Encoding: chunked, identity`": (
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501),
    "`Transfer-Encoding: identity`": (POST + b"Transfer-Encoding: identity\r\n\r\n", 501),
    "`Transfer-Encoding: xchunked`": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "`Transfer-Encoding: \\x0bchunked`": (
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "`Transfer-Encoding: \"chunked\"`": (
        POST + b"Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 501),
    "`Transfer-Encoding` twice": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    "`Transfer-Encoding` in HTTP/1.0": (
        b"POST /p HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "`Transfer_Encoding` beside a length": (
        POST + b"Transfer_Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi", 200),
    # Chunks.
    "a chunk size that is no number": (CHUNKED + b"zz\r\nhi\r\n0\r\n\r\n", 400),
    "a chunk size of `0x2`": (CHUNKED + b"0x2\r\nhi\r\n0\r\n\r\n", 400),
    "a chunk size of `+2`": (CHUNKED + b"+2\r\nhi\r\n0\r\n\r\n", 400),
    "an empty chunk size": (CHUNKED + b"\r\nhi\r\n0\r\n\r\n", 400),
    "a space before a chunk size": (CHUNKED + b" 2\r\nhi\r\n0\r\n\r\n", 400),
    "a space after a chunk size": (CHUNKED + b"2 \r\nhi\r\n0\r\n\r\n", 200),
    "a chunk size beyond 64 bits": (CHUNKED + b"10000000000000002\r\nhi\r\n0\r\n\r\n", 400),
    "a chunk that is longer than its size": (CHUNKED + b"2\r\nhiho\r\n0\r\n\r\n", 400),
    "LF alone after a chunk size": (CHUNKED + b"2\nhi\r\n0\r\n\r\n", 400),
    "LF alone after a chunk": (CHUNKED + b"2\r\nhi\n0\r\n\r\n", 400),
    "CR alone after a chunk size": (CHUNKED + b"2\rhi\r\n0\r\n\r\n", 400),
    "LF alone in a chunk extension": (CHUNKED + b"2;a\nb\r\nhi\r\n0\r\n\r\n", 400),
    "CR alone in a chunk extension": (CHUNKED + b"2;a\rb\r\nhi\r\n0\r\n\r\n", 400),
    "a plain chunk extension": (CHUNKED + b"2;a=b\r\nhi\r\n0\r\n\r\n", 200),
    "a trailer section": (CHUNKED + b"2\r\nhi\r\n0\r\nx-a: 1\r\n\r\n", 200),
    "no end after the last chunk": (CHUNKED + b"2\r\nhi\r\n0\r\n", 400),
    # The head's lines.
    "LF alone between fields": (b"GET /p HTTP/1.1\r\nHost: x\nx-a: 1\r\n\r\n", 400),
    "LF alone at all ends": (b"GET /p HTTP/1.1\nHost: x\n\n", 400),
    "CR alone between fields": (b"GET /p HTTP/1.1\r\nHost: x\rx-a: 1\r\n\r\n", 400),
    "CR alone in a value": (GET + b"x-a: 1\r2\r\n\r\n", 400),
    "a folded line": (GET + b"x-a: 1\r\n 2\r\n\r\n", 400),
    "a first field that is folded": (b"GET /p HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "a space before a colon": (GET + b"x-a : 1\r\n\r\n", 400),
    "a space before the colon of a length": (POST + b"Content-Length : 2\r\n\r\nhi", 400),
    "a field without a colon": (GET + b"x-a\r\n\r\n", 400),
    "a field without a name": (GET + b": 1\r\n\r\n", 400),
    "NUL in a value": (GET + b"x-a: a\0b\r\n\r\n", 400),
    "a control character in a value": (GET + b"x-a: a\x01b\r\n\r\n", 400),
    "DEL in a value": (GET + b"x-a: a\x7fb\r\n\r\n", 400),
    "NUL in a name": (GET + b"x\0a: 1\r\n\r\n", 400),
    "bytes above 127 in a value": (GET + b"x-a: \xc3\xa9\r\n\r\n", 200),
    # Whom is it for?
    "no `Host`": (b"GET /p HTTP/1.1\r\n\r\n", 400),
    "two `Host`s": (b"GET /p HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    "a `Host` with a space": (b"GET /p HTTP/1.1\r\nHost: x y\r\n\r\n", 400),
    "a `Host` with a path": (b"GET /p HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
    "a `Host` with a user": (b"GET /p HTTP/1.1\r\nHost: a@x\r\n\r\n", 400),
    "a `Host` that is a list": (b"GET /p HTTP/1.1\r\nHost: x, y\r\n\r\n", 400),
    "an absolute target of another host": (b"GET http://a/p HTTP/1.1\r\nHost: b\r\n\r\n", 400),
    "an absolute target of another scheme": (b"GET ftp://x/p HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a target without a slash": (b"GET p HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a target with a fragment": (b"GET /p#a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a space in the target": (b"GET /p q HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a control character in the target": (b"GET /p\x01q HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "NUL in the target": (b"GET /p\0q HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "two spaces before the target": (b"GET  /p HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a tab before the target": (b"GET\t/p HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "no version (HTTP/0.9)": (b"GET /p\r\n\r\n", 400),
    "an unknown version": (b"GET /p HTTP/3.7\r\nHost: x\r\n\r\n", 400),
    "HTTP/1.2": (b"GET /p HTTP/1.2\r\nHost: x\r\n\r\n", 400),
    # What do they want?
    "TRACE": (b"TRACE /p HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "CONNECT": (b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", 405),
    "a method with a control character": (b"G\x01T /p HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    # How much?
    "101 fields": (GET + b"x-h: 1\r\n" * 101 + b"\r\n", 431),
    "400 fields": (GET + b"x-h: 1\r\n" * 400 + b"\r\n", 431),
    "a head of 70 KB": (GET + b"x-large: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    "a body beyond `max_body`": (POST + b"Content-Length: 99000\r\n\r\n", 413),
    "a chunked body beyond `max_body`": (
        CHUNKED + b"18000\r\n" + b"a" * 0x18000 + b"\r\n0\r\n\r\n", 413),
    # Plain ones: that they pass shows that the others are refused for their shape.
    "a plain GET": (GET + b"\r\n", 200),
    "a plain POST": (POST + b"Content-Length: 2\r\n\r\nhi", 200),
    "a plain chunked POST": (CHUNKED + b"2\r\nhi\r\n0\r\n\r\n", 200),
    "an empty line first": (b"\r\n" + GET + b"\r\n", 200),
    "an absolute target of the same host": (b"GET http://x/p HTTP/1.1\r\nHost: x\r\n\r\n", 200),
}

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


class Replica:
    """Reads strictly, answers 200, and keeps each request as (method, target, body). What it cannot read it keeps too."""

    def __init__(self):
        self.seen = []
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        with conn, conn.makefile("rb") as file:
            try:
                while self._one(file):
                    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            except OSError:
                pass

    def _one(self, file):
        first = file.readline()
        if not first:
            return False
        fields = []
        while (line := file.readline()) not in (b"\r\n", b"\n", b""):
            fields.append(line)
        method, target, *_ = first.split(b" ") + [b""]
        length = [v for v in fields if re.match(rb"content-length:\s*\d+\s*$", v, re.I)]
        coded = [v for v in fields if re.match(rb"transfer-encoding:\s*chunked\s*$", v, re.I)]
        odd = [v for v in fields if re.match(rb"\W*(content-length|transfer-encoding)\W*:", v, re.I)]
        if len(length) + len(coded) > 1 or len(odd) > len(length) + len(coded):
            self.seen.append((b"ambiguous", first, b"".join(fields)))
            return False
        if coded:
            body = self._chunks(file)
        else:
            wanted = int(length[0].split(b":")[1]) if length else 0
            body = file.read(min(wanted, 1 << 20))
            body = body if len(body) == wanted else None
        # A request whose end never came is none.
        if body is None:
            return False
        self.seen.append((method, target, body))
        return True

    @staticmethod
    def _chunks(file):
        body = b""
        while True:
            line = file.readline()
            if not re.match(rb"[0-9a-fA-F]+(;.*)?\r\n$", line):
                return None
            size = int(line.split(b";")[0], 16)
            if size == 0:
                while (line := file.readline()) not in (b"\r\n", b""):
                    pass
                return body if line else None
            body += file.read(size)
            if file.read(2) != b"\r\n":
                return None

    def close(self):
        self.socket.close()


def ask(address, raw, deadline=10.0):
    """Sends bytes, and reads until the other side closes, which each does soon. Returns the statuses of the answers."""
    host, port = address.rsplit(":", 1)
    got = b""
    with socket.create_connection((host, int(port)), timeout=deadline) as conn:
        try:
            conn.sendall(raw)
        except OSError:
            pass
        try:
            while piece := conn.recv(65536):
                got += piece
        except ConnectionError:
            pass
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3})", got)]


def numbered(raw, number):
    """The same request of a path that tells it from all others."""
    return raw.replace(b"/p", b"/p%05d" % number, 1)


def mutated(raw, random):
    """The request with one to three mistakes, none of them in its number."""
    at = re.search(rb"/p\d{5}", raw)
    kept, raw = raw[:at.end()], raw[at.end():]
    for _ in range(random.randint(1, 3)):
        i = random.randrange(len(raw)) if raw else 0
        j = min(len(raw), i + random.randint(1, 12))
        odd = random.choice([
            b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"\x0b", b"\x7f", b"0", b"2", b"\r\n\r\n",
            b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: content-length\r\n", b"\xff",
        ])
        raw = random.choice([
            raw[:i] + odd + raw[i:],
            raw[:i] + raw[i + 1:],
            raw[:i] + odd + raw[i + 1:],
            raw[:i] + raw[i:j] + raw[i:],
            raw[:i] + raw[i:j].swapcase() + raw[j:],
        ])
    return kept + raw
