import os

from train.data.said import counted, examples, few


def test_names_in_words():
    paths = [f"a/{i}.txt" for i in range(1200)] + ["b/x.TXT", "Makefile", "c/y.json"]
    said = "1,201 .txt (a/0.txt), 1 .json (c/y.json), 1 without an ending (Makefile)"
    assert examples(paths) == said
    assert examples([f"x.{i}" for i in range(6)]).endswith(", 1 .3 (x.3) and 2 others")
    assert few(list("abcdef")) == "a, b, c, d and 2 more"
    assert few([os.fsdecode(b"caf\xe9\n")]) == "caf\\xe9\\n"
    assert [counted(count, "file") for count in (0, 1, 2000)] == [
        "0 files",
        "1 file",
        "2,000 files",
    ]
