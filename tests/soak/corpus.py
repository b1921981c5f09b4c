"""Values that something, somewhere, was once not ready for."""

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
# An IHDR that promises 60000 x 60000 pixels.
BOMB = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA6mAAAOpgCAIAAAB7rz2F"
TRAVERSAL = [
    "../../../../../../etc/passwd",
    "..\\..\\..\\windows\\win.ini",
    "/etc/passwd",
    "C:\\x",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "....//....//etc/passwd",
    "a/../../b",
    "\\\\host\\share",
    "file:///etc/passwd",
    "http://127.0.0.1:1/",
    "con",
    "~root",
]
TEXTS = [
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\r\nX-Injected: 1",
        "\x1b[31mred",
        "\x7f\x80",
        "\u202egnp.exe",
        "\u2066x\u2069",
    ),
    *("\ufeff", "\uffff", "e\u0301" * 50, "\U0001f600" * 500, "x" * 100_000, "ß" * 50_000, "\n" * 5000),
    *("'; DROP TABLE swarm_rows; --", "{{7*7}}${7*7}", "%s%n%d", "<script>alert(1)</script>", "__proto__"),
    *("null", "true", "NaN", "nan", "Infinity", "-inf", "1e999", "-0", "0x10", "1_000", "٣", "1" * 5000),
    *("<random:a,b>", "<repeat:999999999,x>", "<wildcard:*>", "[" * 5000, "(" * 5000, "<lora:../x:1>"),
    *(PIXEL, BOMB, "data:image/png;base64,%%%", "data:text/html,<b>"),
    *TRAVERSAL,
]
NUMBERS = [
    *(0, -1, 1, 2, 2**31 - 1, 2**31, -(2**31) - 1, 2**53, 2**63, 2**64, -(2**64), 10**40, 10**400),
    *(0.5, -0.0, 1e-320, 1e308, -1e308),
    *(float("nan"), float("inf")),
]
DEEP: list = []
for _ in range(60):
    DEEP = [DEEP]
BROKEN_JSON = [
    *(
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"5",
        b"{}{}",
        b"{'a':1}",
        b'{"a":1,}',
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
    ),
    *(b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"\\ud800":1}', b'{"a":NaN}', b'{"a":1e999}', b'{"a":01}'),
    *(b"[" * 100_000, b'{"a":' * 2000, b'{"a":' + b"1" * 5000 + b"}", b'{"images":1,"images":[]}'),
    *(b'{"a":"\x01"}', b"{" + b'"k":[],' * 30_000 + b'"z":1}', b'{"a":[' + b"{}," * 250_000 + b"{}]}"),
]
