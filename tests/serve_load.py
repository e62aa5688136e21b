#!/usr/bin/env python3
"""serve_load.py URL CASE [ARGUMENT] - clients of `uniperceiver serve` that curl is no match for:
slow    requests that stop on their way are told 408, and others are answered meanwhile
full    more requests than may wait: some are told 429, all others are answered
batch   32 at once are answered alike, some of them together, and a broken one among them fails alone
idle    1,000 connections that say nothing do not stop others
stop P  requests under way when process P is told to end are answered"""
import http.client
import json
import os
import resource
import signal
import socket
import sys
import threading
import time

host, port = sys.argv[1].split("//")[1].split(":")
TEXT = {"input": {"text": "a cat"}, "labels": ["cat", "dog"]}


def ask(path, asked=None, wait=60):
    connection = http.client.HTTPConnection(host, int(port), timeout=wait)
    if asked is None:
        connection.request("GET", path)
    else:
        connection.request("POST", path, json.dumps(asked), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    told = answer.status, json.loads(answer.read())
    connection.close()
    return told


def together(requests):
    answers = [None] * len(requests)

    def one(i):
        answers[i] = ask(*requests[i])

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(requests))]
    for t in threads:
        t.start()
    return threads, answers


def slow():
    head = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n"
    begun = [b"", b"POST /cl", head, head + b"{"]
    clients = [socket.create_connection((host, int(port)), timeout=20) for _ in begun]
    for client, text in zip(clients, begun):
        client.sendall(text)
    assert ask("/classify", TEXT)[0] == 200
    drip = socket.create_connection((host, int(port)), timeout=20)
    drip.sendall(head)
    since = time.time()
    try:
        while time.time() - since < 10:
            drip.sendall(b" " if time.time() - since < 9 else b"")
            time.sleep(0.3)
    except OSError:
        pass
    assert time.time() - since < 9, "a request that drips in is not ended"
    for client in clients:
        answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408 "), answer
        assert client.recv(1) == b""


def full():
    asked = {"inputs": [{"text": f"{i} cats and dogs"} for i in range(64)]}
    threads, answers = together([("/encode", asked)] * 40)
    for t in threads:
        t.join()
    told = sorted({a[0] for a in answers})
    assert set(told) <= {200, 429, 503} and 200 in told and 429 in told, told
    assert ask("/classify", TEXT)[0] == 200


def batch():
    alone = ask("/classify", TEXT)
    wrong = {"input": {"image": "AAAA"}, "labels": ["cat", "dog"]}
    threads, answers = together([("/classify", wrong if i == 7 else TEXT) for i in range(32)])
    for t in threads:
        t.join()
    assert answers.pop(7)[0] == 400
    for status, told in answers:
        assert status == 200
        for a, b in zip(told["labels"], alone[1]["labels"]):
            assert a["label"] == b["label"] and abs(a["probability"] - b["probability"]) < 1e-6
    assert ask("/health")[1]["largest_batch"] > 1


def idle():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    clients = [socket.create_connection((host, int(port)), timeout=20) for _ in range(1000)]
    for _ in range(20):
        assert ask("/classify", TEXT)[0] == 200
    for client in clients:
        client.close()
    assert ask("/health")[0] == 200


def stop():
    asked = {"input": {"text": "a"}, "max_words": 40, "beam": 8, "min_words": 39}
    threads, answers = together([("/caption", asked)] * 4)
    while ask("/health")[1]["waiting"] + ask("/health")[1]["batches"] < 2:
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(int(sys.argv[3]), signal.SIGTERM)
    for t in threads:
        t.join()
    assert [a[0] for a in answers] == [200] * 4, answers


{"slow": slow, "full": full, "batch": batch, "idle": idle, "stop": stop}[sys.argv[2]]()
print(f"serve_load: {sys.argv[2]}: as it should be")
