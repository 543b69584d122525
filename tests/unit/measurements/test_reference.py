"""A table's files compared with the reference that the repository holds."""

from measurements.reference import compared

FOUND = {"draw/coco/images.zip": "a", "finetune/x-0.003/weights.safetensors": "b", "table/quick/quick.csv": "c"}
REFERENCE = "# some CPU, glibc 2.36\n" + "".join(f"{digest}  {file}\n" for file, digest in FOUND.items())


def test_equal_files_are_said_to_be_equal() -> None:
    same, text = compared("quick", FOUND, REFERENCE)
    assert same and text.startswith("quick: all 3 files are the reference's, to the bit\nhere: ")


def test_the_first_file_that_differs_is_named_with_its_stage() -> None:
    same, text = compared("quick", FOUND | dict.fromkeys(list(FOUND)[1:], "other"), REFERENCE)
    assert not same
    first, here, reference = text.splitlines()
    assert first == ("quick: weights.safetensors of finetune x-0.003 differs; it is the first of 2 in 3 files")
    assert here.startswith("here: ") and reference == "reference: some CPU, glibc 2.36"


def test_a_file_that_only_one_side_has_differs() -> None:
    _, more = compared("quick", {"draw/pope/new.json": "d"} | FOUND, REFERENCE)
    assert "new.json of draw pope is not in the reference; it is the first of 1 in 4 files" in more
    _, fewer = compared("quick", dict(list(FOUND.items())[:2]), REFERENCE)
    assert "quick.csv of table quick is missing here" in fewer
