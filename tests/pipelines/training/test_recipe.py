"""Recipes: what is wrong is said with line, key and nearest name, before anything is read."""

from pathlib import Path

import pytest
from training_builders import RECIPE, write_recipe

from medmm.errors import UsageError
from pipelines.training.recipe import line_of, read_recipe

pytestmark = pytest.mark.bad_input("G5")


def line_with(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_a_recipe_is_read_with_its_manifest_beside_it(tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path))

    assert recipe.data.manifest == tmp_path / "cases.csv"
    assert recipe.labels().tasks[0].title == "Kind"
    assert recipe.training.what.patience == 2


def test_another_manifest_can_be_given(tmp_path: Path) -> None:
    assert read_recipe(write_recipe(tmp_path), Path("/other.csv")).data.manifest == Path("/other.csv")


@pytest.mark.parametrize(
    ("old", "new", "message", "remedy"),
    [
        ("folds = 2", "fold = 2", "no key 'validation.fold'", "'folds'"),
        ("[training.what]\nepochs", "[training.what]\nepoch", "no key 'training.what.epoch'", "'epochs'"),
        ('name = "side"\nsource', 'name = "side"\nsurce', "no key 'tasks.1.surce'", "'source'"),
        ("width = 8", "widht = 8", "no key 'model.widht'", "'width'"),
        ('tokens = ["descriptor"]', 'token = ["descriptor"]', "no key 'model.volume.token'", "'tokens'"),
        ("[card]", "[crad]", "no key 'crad'", "'card'"),
        ("folds = 2", "folds = 1", "validation.folds is not valid", ""),
        ("folds = 2", 'folds = "two"', "validation.folds is not valid", ""),
        ("learning_rate = 1e-2", "learning_rate = 3", "training.where.learning_rate is not valid", ""),
        ('source = "location"', 'source = "nowhere"', "tasks.1.source is not valid", ""),
        ('name = "tiny-train"', "version = '1'", "key 'name' is missing", ""),
        ('stratify = ["side"]', 'stratify = ["grade"]', "stratify names no task", ""),
        ('name = "kind"', 'name = "kind"\nfollows = "side"', "kind follows no ranking task", ""),
        ('name = "side"', 'name = "side"\nfollows = "kind"', "tasks.1 is not valid", ""),
    ],
)
def test_what_is_wrong_is_named_with_line_key_and_nearest_name(
    tmp_path: Path, old: str, new: str, message: str, remedy: str
) -> None:
    assert old in RECIPE

    with pytest.raises(UsageError, match=message) as caught:
        read_recipe(write_recipe(tmp_path, RECIPE.replace(old, new)))

    assert caught.value.code == "config.key"
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("new", ["folds = 1", "fold = 2"])
def test_the_line_is_that_of_the_key(tmp_path: Path, new: str) -> None:
    text = RECIPE.replace("folds = 2", new)

    with pytest.raises(UsageError, match=f"Line {line_with(text, new)} "):
        read_recipe(write_recipe(tmp_path, text))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = ", "not TOML.*end of document"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a = " + b"[" * 100_000, "not TOML"),
        (b"# " + b"x" * 1_000_001, "too large"),
        (b"name = '!!python/object:os.system'", "name"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)

    with pytest.raises(UsageError, match=message):
        read_recipe(path)


def test_a_recipe_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")


def test_a_model_that_reads_nothing_is_refused(tmp_path: Path) -> None:
    text = 'name = "a"\n[model]\nwidth = 8\n[[tasks]]\nname = "t"\nclasses = ["x", "y"]\n'

    with pytest.raises(UsageError, match="expected something to read"):
        read_recipe(write_recipe(tmp_path, text))


def test_lines_are_found_in_tables_of_tables() -> None:
    text = "[[tasks]]\nname = 1\n[[tasks]]\nname = 2\n[a.b]\nc.d = 3\n"

    assert line_of(text, ("tasks", 1, "name")) == 4
    assert line_of(text, ("a", "b", "c", "d")) == 6
    assert line_of(text, ("a", "b", "zzz")) == 5
    assert line_of(text, ("nothing",)) == 1


def test_the_recipe_of_the_page_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "train.md").read_text(encoding="utf-8")

    recipe = read_recipe(write_recipe(tmp_path, page.split("```toml\n")[1].split("```")[0]))

    assert recipe.model.graph is not None
    assert recipe.tasks[0].classes[0].title == "G2"
