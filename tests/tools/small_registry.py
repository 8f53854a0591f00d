"""A registry for tests that has what lies in an OCI layout, counts what it is asked for, and is as slow as one likes."""
import collections, http.server, json, pathlib, re, threading, time


class Registry(http.server.ThreadingHTTPServer):
    """Serves on loopback, in threads of this process, until that ends."""
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, layout, rate=None):
        super().__init__(("127.0.0.1", 0), Answers)
        self.layout, self.rate = pathlib.Path(layout), rate
        self.host = f"127.0.0.1:{self.server_port}"
        self.asked = collections.Counter()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def blob(self, digest):
        return self.layout / "blobs" / digest.replace(":", "/")

    def manifest(self, tag):
        """The digest of what a tag means, and its media type."""
        for entry in json.loads((self.layout / "index.json").read_text())["manifests"]:
            if tag in (entry["digest"], entry.get("annotations", {}).get("org.opencontainers.image.ref.name")):
                return entry["digest"], entry["mediaType"]
        return None, None

    def forget(self):
        """What was asked for until now, by kind; what comes after is counted anew."""
        asked, self.asked = self.asked, collections.Counter()
        return dict(asked)

    def handle_error(self, request, client_address):
        """A client that has gone is nothing to tell of."""


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, is_body):
        found = re.fullmatch(r"/v2/[a-z/]+/(manifests|blobs)/([A-Za-z0-9:._-]+)", self.path)
        kind, name = found.groups() if found else ("other", "")
        self.server.asked[kind] += 1
        digest, media = (name, "application/octet-stream") if kind == "blobs" else self.server.manifest(name)
        path = self.server.blob(digest) if digest else None
        if self.path == "/v2/":
            return self.send(200, b"{}", "application/json", is_body)
        if path is None or not path.is_file():
            return self.send(404, b"{}", "application/json", is_body)
        body, wanted = path.read_bytes(), re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and int(wanted.group(1)) < len(body):
            begin = int(wanted.group(1))
            return self.send(206, body[begin:], media, is_body, digest, f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.send(200, body, media, is_body, digest)

    def send(self, status, body, media, is_body, digest=None, stretch=None):
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        if stretch:
            self.send_header("Content-Range", stretch)
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        rate = self.server.rate
        part = max(1, rate // 10) if rate else len(body) or 1
        for start in range(0, len(body) if is_body else 0, part):
            self.wfile.write(body[start:start + part])
            if rate:
                time.sleep(0.1)

    def log_message(self, *words):
        """Nothing is written down."""
