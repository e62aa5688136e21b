#!/usr/bin/env python3
"""serve_fuzz.py URL COUNT [SEED] - malformed requests: sound ones with bytes changed, cut, doubled and left out, in the
head and in the body, and JSON of the wrong kinds. Each must be answered or closed, and a sound one after them answered."""
import json
import random
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

host, port = sys.argv[1].split("//")[1].split(":")
count = int(sys.argv[2])
seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
draw = random.Random(seed)
VALUES = [None, True, -1, 0, 1e308, 2**63, "", "x", "\ud800", [], [[]], {}, {"text": 1}, {"image": "////"}, {"video": "R0lGODlh"},
          {"text": "a" * 5000}, [{"text": "x"}] * 17, ["x"] * 1025, "input", "target", "small"]
FIELDS = ["input", "inputs", "labels", "answers", "question", "query", "candidates", "tuned", "top", "beam", "max_words",
          "min_words", "stream", "side", "template"]
PATHS = ["/encode", "/classify", "/retrieve", "/caption", "/vqa", "/health", "/model", "/", "/nowhere"]
SOUND = {"/encode": {"inputs": [{"text": "cat"}]}, "/classify": {"input": {"text": "x"}, "labels": ["a", "b"]},
         "/retrieve": {"query": {"text": "x"}, "candidates": [{"text": "a"}]},
         "/caption": {"input": {"text": "a"}, "max_words": 2, "beam": 1},
         "/vqa": {"input": {"text": "x"}, "question": "y", "answers": ["a"]}}


def request(path, body):
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def damage(data):
    data = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        at = draw.randrange(len(data)) if data else 0
        kind = draw.randrange(4)
        if kind == 0 and data:
            data[at] = draw.randrange(256)
        elif kind == 1:
            del data[at:at + draw.randint(1, 40)]
        elif kind == 2:
            data[at:at] = data[at:at + draw.randint(1, 40)]
        else:
            data[at:at] = bytes(draw.randrange(256) for _ in range(draw.randint(1, 20)))
    return bytes(data)


def malformed():
    path = draw.choice(PATHS)
    asked = dict(SOUND.get(path, {}))
    for _ in range(draw.randint(0, 3)):
        asked[draw.choice(FIELDS)] = draw.choice(VALUES)
    body = json.dumps(asked).encode()
    kind = draw.randrange(3)
    if kind == 0:
        return request(path, body)
    return request(path, damage(body)) if kind == 1 else damage(request(path, body))


def exchange(data):
    with socket.create_connection((host, int(port)), timeout=30) as s:
        s.sendall(data)
        try:
            return s.recv(65536)
        except ConnectionResetError:
            return b""


answers = {}
requests = [malformed() for _ in range(count)]
with ThreadPoolExecutor(16) as clients:  # those that are cut short take until the server ends them
    for i, answer in enumerate(clients.map(exchange, requests)):
        status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.") else "closed"
        answers[status] = answers.get(status, 0) + 1
        if status == "500":
            sys.exit(f"serve_fuzz: FAILED at request {i} of seed {seed}: {requests[i][:300]}: {answer[:300]}")
sound = exchange(request("/classify", json.dumps(SOUND["/classify"]).encode()))
if not sound.startswith(b"HTTP/1.1 200"):
    sys.exit(f"serve_fuzz: FAILED: after seed {seed} a sound request is answered: {sound[:300]}")
print(f"serve_fuzz: {count} requests of seed {seed}:", ", ".join(f"{k}: {v}" for k, v in sorted(answers.items())))
