"""Servers on this machine that models are fetched from."""

import http.server
import ssl
import threading
from contextlib import contextmanager

import attrs


@attrs.define
class Host:
    """
    A server on this machine: paths, and what is done with a request for them.

    *asked* are the paths in order, *heads* their headers; *gone* is for pages to say that a client has left.
    """

    pages: dict = attrs.field(factory=dict)
    asked: list = attrs.field(factory=list)
    heads: list = attrs.field(factory=list)
    gone: threading.Event = attrs.field(factory=threading.Event)
    port: int = 0

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def add(self, path, page):
        self.pages[path] = page
        return self.url(path)


@contextmanager
def serving(certificate=None):
    """Serve pages, over TLS with a *certificate*, until the end."""
    host = Host()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            host.asked.append(self.path)
            host.heads.append(dict(self.headers))
            self.close_connection = True
            try:
                host.pages[self.path](self)
            except OSError:
                pass

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    host.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()


def page(content, *, status=200, length=None, **headers):
    """A page that sends *content*; a length that is no number leaves that header out."""

    def send(request):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        if length != "":
            request.send_header("Content-Length", str(len(content) if length is None else length))
        request.end_headers()
        request.wfile.write(content)

    return send
