#!/usr/bin/env python3
"""serve_load.py URL PICTURE [SECONDS] [CLIENTS] - requests to classify one picture by ten labels, from one client and then
from CLIENTS at once (64), each asking again as soon as it has its answer: answers a second, median and 99th percentile of
the time to an answer, size of the batches. The connections stay open. Exit 1 where any answer is not 200."""
import base64
import http.client
import json
import sys
import threading
import time

if len(sys.argv) < 3 or sys.argv[1] in ("-h", "--help"):
    print(__doc__)
    sys.exit(0 if len(sys.argv) > 1 and sys.argv[1] in ("-h", "--help") else 2)
host, port = sys.argv[1].rstrip("/").split("//")[1].split(":")
with open(sys.argv[2], "rb") as file:
    picture = base64.b64encode(file.read()).decode()
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 30
many = int(sys.argv[4]) if len(sys.argv) > 4 else 64
LABELS = ["cat", "dog", "horse", "tree", "car", "house", "person", "bird", "ship", "flower"]
BODY = json.dumps({"input": {"image": picture}, "labels": LABELS})


def client(until, times, failed):
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    while time.monotonic() < until:
        since = time.monotonic()
        connection.request("POST", "/classify", BODY, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        times.append(time.monotonic() - since)
        if answer.status != 200:
            failed.append(answer.status)


def health():
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.request("GET", "/health")
    return json.loads(connection.getresponse().read())


def measure(clients):
    times, failed, before = [], [], health()
    since = time.monotonic()
    threads = [threading.Thread(target=client, args=(since + seconds, times, failed)) for _ in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    took, after = time.monotonic() - since, health()
    times.sort()
    batch = (after["answered"] - before["answered"]) / max(1, after["batches"] - before["batches"])
    print(f"{clients:3} clients: {len(times)} answers in {took:.1f} s, {len(times) / took:.1f} a second, median "
          f"{1e3 * times[len(times) // 2]:.1f} ms, 99% within {1e3 * times[int(len(times) * 0.99)]:.1f} ms, "
          f"{batch:.1f} a batch, {len(failed)} failed", flush=True)
    return failed


sys.exit(1 if measure(1) + measure(many) else 0)
