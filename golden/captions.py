#!/usr/bin/env python3
"""Captions, answers and labels with the scores that other implementations give them.

    python3 golden/captions.py make                   writes golden/captions/
    python3 golden/captions.py compare PROGRAM [N]    N (1,000) generated pictures: PROGRAM against the others
    python3 golden/captions.py words PROGRAM FILE     the words of each line of FILE: PROGRAM against the Java tokenizer

Needs pycocoevalcap 1.2 (with its jars) and Java.
"""
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pycocoevalcap.bleu.bleu
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

FOLDER = Path(__file__).parent / "captions"
JARS = Path(pycocoevalcap.bleu.bleu.__file__).parent.parent

# Words of captions, some of them synonyms or other forms of each other.
SUBJECTS = ("man woman boy girl child kid dog puppy cat kitten bird horse person men women children dogs people "
            "player skateboarder").split()
ADJECTIVES = "young old small little big large brown black white grey gray red happy wooden two-story wet".split()
VERBS = ("riding rides holding holds walking walks sitting standing playing plays watching looking eating eats "
         "throwing carrying jumping running").split()
OBJECTS = ("bicycle bike horse sofa couch frisbee ball umbrella sandwich kite surfboard phone tv T-shirt car "
           "automobile bus road street boat ship").split()
PLACES = ("on the street|in the park|near a tree|next to a couch|at the beach|in front of the U.S. flag|on top of a table|"
          "beside a woman's bag|under an umbrella|by the sea").split("|")
TAILS = (" while it's raining.| and isn't looking at the camera!|, with 2.5 liters of water| (in the dark)|.| that says "
         "\"STOP\"| at 10:30 p.m.||||| in a black-and-white photo").split("|")


def caption(rng):
    noun = rng.choice(SUBJECTS)
    text = rng.choice(["a", "the", "A", "two", "one"]) + " "
    if rng.random() < 0.6:
        text += rng.choice(ADJECTIVES) + " "
    text += noun + " "
    text += rng.choice(["", "is ", "is "]) + rng.choice(VERBS) + " "
    if rng.random() < 0.7:
        text += rng.choice(["a", "the", "his", "an old"]) + " " + rng.choice(OBJECTS) + " "
    return text + rng.choice(PLACES) + rng.choice(TAILS)


def vary(rng, text):
    """The same caption in other words: some dropped, some changed."""
    out = []
    for word in text.split(" "):
        draw = rng.random()
        if draw < 0.12:
            continue
        if draw < 0.25:
            for group in (SUBJECTS, ADJECTIVES, VERBS, OBJECTS):
                if word in group:
                    word = rng.choice(group)
        out.append(word)
    return " ".join(out) or text


def pictures(count, seed):
    rng = random.Random(seed)
    candidates, references = [], []
    for image in range(count):
        true = caption(rng)
        candidates.append({"image_id": image, "caption": vary(rng, true) if rng.random() < 0.9 else true})
        for _ in range(rng.randint(1, 6)):
            references.append({"image_id": image, "caption": vary(rng, true) if rng.random() < 0.8 else caption(rng)})
    return candidates, references


def grouped(records):
    out = {}
    for r in records:
        out.setdefault(r["image_id"], []).append({"caption": r["caption"]})
    return out


class PlainCider:
    """CIDEr of the paper's equations 1 to 3, without the habits of CIDEr-D, from plain dictionaries."""

    @staticmethod
    def grams(text):
        words, out = text.split(), {}
        for n in range(1, 5):
            for i in range(len(words) - n + 1):
                key = tuple(words[i:i + n])
                out[key] = out.get(key, 0) + 1
        return out

    def compute_score(self, truth, said):
        df = {}
        for refs in truth.values():
            for g in {g for r in refs for g in self.grams(r)}:
                df[g] = df.get(g, 0) + 1
        log_n = math.log(len(truth))

        def vector(text, n):
            return {g: c * (log_n - math.log(max(1, df.get(g, 0)))) for g, c in self.grams(text).items() if len(g) == n}

        def cosine(a, b):
            dot = sum(v * b.get(g, 0) for g, v in a.items())
            size = math.sqrt(sum(v * v for v in a.values())) * math.sqrt(sum(v * v for v in b.values()))
            return dot / size if size else 0.0

        own = []
        for key, refs in truth.items():
            total = sum(cosine(vector(said[key][0], n), vector(r, n)) for r in refs for n in range(1, 5))
            own.append(10 * total / 4 / len(refs))
        return sum(own) / len(own), own


def meteor(truth, said, modules):
    """METEOR's own jar, as pycocoevalcap calls it, with the named modules alone."""
    command = ["java", "-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
    if modules:
        command += ["-m", modules]
    run = subprocess.Popen(command, cwd=JARS / "meteor", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)

    def ask(line):
        run.stdin.write(line + "\n")
        run.stdin.flush()
        return run.stdout.readline().strip()

    stats = [ask(" ||| ".join(["SCORE", *truth[k], said[k][0].replace("  ", " ")])) for k in truth]
    own = [float(ask("EVAL ||| " + " ||| ".join(stats)))]
    own += [float(run.stdout.readline()) for _ in range(len(stats))]
    run.stdin.close()
    run.wait()
    return own[-1], own[:-1]


def expected(candidates, references):
    tokenizer = PTBTokenizer()
    truth, said = tokenizer.tokenize(grouped(references)), tokenizer.tokenize(grouped(candidates))
    out = {}
    bleu, bleu_own = Bleu(4).compute_score(truth, said, verbose=0)
    for k in range(4):
        out[f"BLEU-{k + 1}"] = (bleu[k], bleu_own[k])
    for name, scorer in (("ROUGE-L", Rouge()), ("CIDEr-D", Cider()), ("CIDEr", PlainCider())):
        value, own = scorer.compute_score(truth, said)
        out[name] = (float(value), [float(x) for x in own])
    out["METEOR"] = meteor(truth, said, "exact stem synonym")
    out["METEOR, paraphrases"] = meteor(truth, said, None)
    return out, truth, said


def score(program, folder, *flags):
    text = subprocess.run([program, "score", *flags, "--each", "--json", folder / "candidates.json",
                           folder / "references.json"], check=True, stdout=subprocess.PIPE).stdout
    return json.loads(text)


def write(folder, candidates, references):
    folder.mkdir(exist_ok=True)
    (folder / "candidates.json").write_text(json.dumps(candidates, indent=0) + "\n")
    (folder / "references.json").write_text(json.dumps({"annotations": references}, indent=0) + "\n")


def compare(program, count):
    candidates, references = pictures(count, 7)
    want, _, _ = expected(candidates, references)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), candidates, references)
        got = score(program, Path(folder))
    print(f"{count} pictures, {len(references)} references")
    print(f"{'score':22} {'ours':>10} {'theirs':>10} {'difference':>11} {'largest of a picture':>21} {'mean of a picture':>18}")
    for name, (value, own) in want.items():
        ours = name.split(",")[0]
        far = [abs(got["each"][str(k)][ours] - x) for k, x in enumerate(own)]
        print(f"{name:22} {got['scores'][ours]:10.6f} {value:10.6f} {got['scores'][ours] - value:11.1e} {max(far):21.1e} "
              f"{sum(far) / len(far):18.1e}")
    print(f"{'SPICE (approximated)':22} {got['scores']['SPICE (approximated)']:10.6f}")


def java_words(path):
    drop = {"''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
    out = subprocess.run(["java", "-cp", JARS / "tokenizer/stanford-corenlp-3.4.1.jar",
                          "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", path],
                         check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    return [" ".join(w for w in line.rstrip().split(" ") if w not in drop) for line in out.split("\n")]


def words(program, path):
    want = java_words(path)
    got = subprocess.run([program, "score", "--words", path], check=True, stdout=subprocess.PIPE).stdout.decode().split("\n")
    lines = Path(path).read_text().split("\n")[:-1]
    wrong = [i for i in range(len(lines)) if got[i] != want[i]]
    for i in wrong[:20]:
        print(f"line {i + 1}: {lines[i]}\n  ours   {got[i]}\n  theirs {want[i]}")
    print(f"{len(lines)} lines, {len(wrong)} differ")


HARD = r"""A grey cat's colour isn't "nice" (really) -- it cannot go.
Two men don't wanna ride 3.5 miles, 1,000 people at 10:30 p.m.
It's a black-and-white dog; he'll go w/ the U.S. team... and/or $5.00 & 50% off!
I gotta go; gimme that, lemme see. 'Tis the season, 'twas dunno more'n
The man's dogs' toys. rock'n'roll rock 'n' roll O'Reilly's
www.foo.com http://foo.com/a?b=c foo@bar.com #tag @name <br> &amp; &lt;
1/2 cup, 1 1/2 cups ½ 3-4 1990s '90s 5th 10-year-old 6'2"
café naïve “smart quotes” it’s ‘single’ — dash – en … ellipsis
Mr. Smith and Dr. Jones vs. St. Louis Jan. 5 etc. no.
a/b *star* _under_ [bracket] {curly} a+b=c 5'10" x~y ^ | \
A man: standing; sitting - walking.Next to a dog
cats,dogs and cats.dogs 12" TV  A&W AT&T R&B
£5 €6 ¢7 $ 20 US$5 -5 +5 1,2,3 1-2-3 12/25/2013 24/7
hello.world end. U.S.A. i.e. e.g. a.m. Inc. 7:00am 2x4 B2B iPod's t-shirt T-Shirt
the CD's DVDs' y'all ain't won't can't shouldn't've o'clock ma'am
:) :-( <3 ;) hello :D
日本語 テスト hello
??? !!! ?! ....  .. . . .
it 's do n't 'em ' s the class of '97 the maitre d' gave an ol' dog U.S.-made Ph.D. de'Medici RU_486""".split("\n")

CONTRACTED = ["dont", "cant", "its", "whats"]
ANSWERS = ("yes|no|2|two|a dog|the dog|dog|dogs|red and white|red, white|1,000|1,000 people|don't|dont|3.5|u.s.|frisbee.|none|"
           "on the table|table|black/white|left; right").split("|")


def vqa_truth(rng):
    kind = rng.choice(["yes/no", "number", "other"])
    base = rng.choice(ANSWERS)
    said = [base if rng.random() < 0.7 else rng.choice(ANSWERS) for _ in range(10)]
    return kind, said if rng.random() < 0.8 else [base] * 10


def vqa_normal(text, words):
    """Written from the rules, character by character, for an answer without line breaks."""
    import re
    signs = ";:/'[]\"()=+\\_><@`,?"
    out = text
    for p in signs:
        gone = p + " " in text or " " + p in text or re.search(r"\d,\d", text)
        out = out.replace(p, "" if gone else " ")
    out = re.sub(r"\.(?!\d)", "", out)
    if not words:
        return out
    numbers = dict(zip("none zero one two three four five six seven eight nine ten".split(), [0, *range(11)]))
    short = {"dont": "don't", "cant": "can't", "whats": "what's"}
    kept = [str(numbers.get(w, w)) for w in out.lower().split()]
    return " ".join(short.get(w, w) for w in kept if w not in ("a", "an", "the"))


def make_vqa():
    rng = random.Random(3)
    candidates, truth, own, kinds = [], [], [], {}
    for i in range(200):
        kind, said = vqa_truth(rng)
        answer = rng.choice([rng.choice(said), rng.choice(ANSWERS), rng.choice(CONTRACTED)])
        candidates.append({"question_id": i, "answer": answer})
        truth.append({"question_id": i, "answer_type": kind,
                      "answers": [{"answer_id": k + 1, "answer": a} for k, a in enumerate(said)]})
        theirs = [vqa_normal(a, 0) for a in said] if len(set(said)) > 1 else said
        ours = vqa_normal(answer, 1)
        each = [min(1, sum(a == ours for k, a in enumerate(theirs) if k != left) / 3) for left in range(10)]
        own.append(sum(each) / 10)
        kinds.setdefault(kind, []).append(own[-1])
    (FOLDER / "vqa_candidates.json").write_text(json.dumps(candidates, indent=0) + "\n")
    (FOLDER / "vqa_references.json").write_text(json.dumps({"annotations": truth}) + "\n")
    values = {"VQA accuracy": sum(own) / len(own)}
    values.update({f"VQA accuracy, {k}": sum(v) / len(v) for k, v in kinds.items()})
    return {"scores": values, "each": own}


def make_labels():
    rng = random.Random(5)
    true = [int(rng.random() < 0.6) for _ in range(300)]
    said = [t if rng.random() < 0.75 else 1 - t for t in true]
    for name, labels in (("labels_candidates", said), ("labels_references", true)):
        (FOLDER / f"{name}.tsv").write_text("id\tlabel\n" + "".join(f"{i}\t{x}\n" for i, x in enumerate(labels)))
    tp, fp, fn, tn = (sum((t, p) == pair for t, p in zip(true, said)) for pair in ((1, 1), (0, 1), (1, 0), (0, 0)))
    mean_t, mean_p = sum(true) / len(true), sum(said) / len(said)
    covariance = sum((t - mean_t) * (p - mean_p) for t, p in zip(true, said))
    spread = sum((t - mean_t) ** 2 for t in true) * sum((p - mean_p) ** 2 for p in said)
    return {"accuracy": (tp + tn) / len(true), "F1": tp / (tp + (fp + fn) / 2),
            "Matthews correlation": covariance / math.sqrt(spread)} # of two labels: Pearson's


def make():
    candidates, references = pictures(60, 1)
    candidates[3]["caption"] = ""
    references.append({"image_id": 5, "caption": "..."})
    write(FOLDER, candidates, references)
    want, _, _ = expected(candidates, references)
    out = {"scores": {k: v for k, (v, _) in want.items()}, "each": {k: list(o) for k, (_, o) in want.items()}}
    out["vqa"] = make_vqa()
    out["labels"] = make_labels()
    (FOLDER / "expected.json").write_text(json.dumps(out, indent=0) + "\n")
    lines = HARD + [r["caption"] for r in references[:100]]
    (FOLDER / "lines.txt").write_text("\n".join(lines) + "\n")
    (FOLDER / "words.txt").write_text("\n".join(java_words(FOLDER / "lines.txt")))


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make()
    elif sys.argv[1:2] == ["compare"] and len(sys.argv) > 2:
        compare(os.path.abspath(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1000)
    elif sys.argv[1:2] == ["words"] and len(sys.argv) == 4:
        words(os.path.abspath(sys.argv[2]), sys.argv[3])
    else:
        sys.exit(__doc__)
