"""Four layers of settings, each with its origin, and one line for every mistake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from utils import settings
from utils.console import UserError
from utils.training.settings import TrainingSettings


@dataclass(frozen=True)
class Baking:
    """A schema with one setting of each kind."""

    loaves: Annotated[int, Meta(ge=1, description="How many.")] = 2
    hydration: Annotated[float, Meta(gt=0, le=1, description="Water over flour.")] = 0.7
    kneading: Annotated[float, Meta(description="Minutes by hand.")] = 9.0
    flour: Annotated[Literal["rye", "wheat"], Meta(description="What to bake with.")] = "wheat"
    oven: Annotated[Path, Meta(description="Where to bake.")] = Path("kitchen/oven")
    baker: Annotated[str | None, Meta(description="Who bakes.")] = None
    rest_hours: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="How long the dough rests.")] = 8
    steam: Annotated[bool, Meta(description="Steam at the start.")] = False
    seeds: Annotated[tuple[str, ...], Meta(description="What to strew on it.")] = ()
    scored: Annotated[bool | None, Meta(description="Cut before baking; none looks at the flour.")] = None


SCRIPT = {"__file__": "/somewhere/bake.py", "__doc__": "Bakes bread.", "__name__": "bake", "main": None}


@pytest.fixture
def resolve(tmp_path: Path):
    """Resolves with the script's constants, a preset's text and flags; `preset` is where the text lies."""

    def resolve_with(*argv: str, yaml: str | None = None, **constants):
        flags = list(argv)
        if yaml is not None:
            resolve_with.preset.write_text(yaml, encoding="utf-8")
            flags += ["--config", str(resolve_with.preset)]
        return settings.resolve(Baking, SCRIPT | constants, flags)

    resolve_with.preset = tmp_path / "preset.yaml"
    return resolve_with


def test_without_layers_everything_is_the_schemas_default(resolve):
    resolved = resolve()
    assert resolved.values == Baking()
    assert set(resolved.origins.values()) == {"default"}


def test_constant_overrules_default_preset_overrules_constant_and_flag_overrules_all(resolve):
    one = resolve(LOAVES=3)
    assert (one.values.loaves, one.origins["loaves"]) == (3, "LOAVES in bake.py")
    two = resolve(LOAVES=3, yaml="loaves: 4")
    assert (two.values.loaves, two.origins["loaves"]) == (4, f"loaves in {resolve.preset}")
    three = resolve("--loaves", "5", LOAVES=3, yaml="loaves: 4")
    assert (three.values.loaves, three.origins["loaves"]) == (5, "command line")
    assert three.values.hydration == 0.7


values = st.integers(1, 99)
layers = st.tuples(*[st.dictionaries(st.sampled_from(["loaves", "rest_hours"]), values)] * 3)


@given(layers)
def test_the_highest_layer_that_names_a_setting_wins(tmp_path_factory, layers):
    constants, preset, flags = layers
    path = tmp_path_factory.getbasetemp() / "layers.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in preset.items()), encoding="utf-8")
    argv = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    resolved = settings.resolve(
        Baking, SCRIPT | {name.upper(): value for name, value in constants.items()}, ["--config", str(path), *argv]
    )
    expected = {"loaves": 2, "rest_hours": 8} | constants | preset | flags
    assert {name: getattr(resolved.values, name) for name in expected} == expected
    assert {name for name, origin in resolved.origins.items() if origin == "command line"} == set(flags)


@given(st.floats(0, 1, exclude_min=True))
def test_a_float_survives_the_command_line(value):
    assert settings.resolve(Baking, SCRIPT, ["--hydration", repr(value)]).values.hydration == value


@pytest.mark.parametrize(("written", "value"), [("2e-4", 2e-4), ("2.0e-4", 2e-4), ("1", 1.0), ("0.5", 0.5)])
def test_floats_in_yaml_may_be_written_in_any_way(resolve, written, value):
    found = resolve(yaml=f"hydration: {written}").values.hydration
    assert (type(found), found) == (float, value)


@pytest.mark.parametrize("flag", ["--rest-hours=3", "--rest_hours=3"])
def test_flags_take_an_equals_sign_and_underscores(resolve, flag):
    resolved = resolve(flag)
    assert (resolved.values.rest_hours, resolved.origins["rest_hours"]) == (3, "command line")


def test_a_flag_equal_to_the_default_still_overrules_the_preset(resolve):
    resolved = resolve("--loaves", "2", yaml="loaves: 4")
    assert (resolved.values.loaves, resolved.origins["loaves"]) == (2, "command line")


def test_booleans_switch_on_and_off(resolve):
    assert resolve("--steam").values.steam is True
    assert resolve("--no-steam", STEAM=True).values.steam is False
    assert resolve("--no-steam", STEAM=True).origins["steam"] == "command line"
    assert resolve("--no-steam", yaml="steam: yes").values.steam is False
    assert resolve(STEAM=True).values.steam is True


@pytest.mark.parametrize(("flags", "value"), [([], True), (["True"], True), (["false"], False), (["None"], None)])
def test_what_is_on_off_or_unset_is_on_where_its_flag_stands_alone(resolve, flags, value):
    assert resolve("--scored", *flags, "--loaves", "3", SCORED=False).values.scored is value
    assert resolve("--loaves", "3", "--scored", *flags).values.scored is value
    assert resolve("--loaves", "3", SCORED=False).values.scored is False


def test_an_empty_word_from_a_variable_that_was_never_set_switches_nothing_on(resolve):
    with pytest.raises(UserError, match="--scored: expected True, False or None, not ''"):
        resolve("--scored", "")


def test_none_can_be_given_and_taken_back(resolve):
    assert resolve("--baker", "Ann").values.baker == "Ann"
    assert resolve("--baker", "None", BAKER="Ann").values.baker is None
    assert resolve(BAKER="Ann", yaml="baker: null").values.baker is None
    assert resolve("--rest-hours", "None").values.rest_hours is None
    assert resolve(REST_HOURS=None).values.rest_hours is None


def test_tuples(resolve):
    assert resolve("--seeds", "poppy", "sesame").values.seeds == ("poppy", "sesame")
    assert resolve("--seeds", "7", "--steam").values.seeds == ("7",)
    assert resolve("--seeds", SEEDS=("poppy",)).values.seeds == ()
    assert resolve(yaml="seeds: [poppy, sesame]").values.seeds == ("poppy", "sesame")
    assert resolve(SEEDS=["poppy"]).values.seeds == ("poppy",)


def test_paths(resolve):
    for resolved in (
        resolve("--oven", "a/b"),
        resolve(OVEN="a/b"),
        resolve(OVEN=Path("a/b")),
        resolve(yaml="oven: a/b"),
    ):
        assert resolved.values.oven == Path("a/b")


def test_numbers_as_text_stay_text_where_text_is_wanted(resolve):
    assert resolve("--baker", "104159265358979323").values.baker == "104159265358979323"
    assert resolve(yaml='baker: "104159265358979323"').values.baker == "104159265358979323"


def test_an_empty_preset_changes_nothing(resolve):
    assert resolve(yaml="# nothing yet\n").values == Baking()


@pytest.mark.parametrize(
    ("argv", "yaml", "constants", "message"),
    [
        ([], None, {"LOAFS": 3}, "unknown setting LOAFS in bake.py; did you mean loaves?"),
        ([], None, {"HYDRATON": 3}, "unknown setting HYDRATON in bake.py; did you mean hydration?"),
        ([], "hydratoin: 1", {}, "unknown setting hydratoin in {preset}; did you mean hydration?"),
        (["--resthours", "1"], None, {}, "unknown setting --resthours; did you mean --rest-hours?"),
        (["--loafs=3"], None, {}, "unknown setting --loafs=3; did you mean --loaves?"),
        (["--no-steem"], None, {}, "unknown setting --no-steem; did you mean --steam?"),
        (["--xyzzy"], None, {}, "unknown setting --xyzzy; --help lists the known ones"),
        (["spare"], None, {}, "unknown setting spare; --help lists the known ones"),
        ([], None, {"XYZZY": 1}, "unknown setting XYZZY in bake.py; --help lists the known ones"),
        ([], "config: other.yaml", {}, "unknown setting config in {preset}; --help lists the known ones"),
        (
            [],
            "hydration: 0.7\nloaves: 2\nhydration: 0.8",
            {},
            "{preset} sets hydration twice, in lines 1 and 3; keep one of them",
        ),
        ([], "{loaves: 2, loaves: 3}", {}, "{preset} sets loaves twice, in lines 1 and 1; keep one of them"),
        ([], "1: 2", {}, "unknown setting 1 in {preset}; --help lists the known ones"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(resolve, argv, yaml, constants, message):
    with pytest.raises(UserError) as error:
        resolve(*argv, yaml=yaml, **constants)
    assert str(error.value) == message.format(preset=resolve.preset)


@pytest.mark.parametrize(
    ("argv", "yaml", "constants", "message"),
    [
        ([], None, {"LOAVES": "many"}, "LOAVES in bake.py: expected `int`, got `str`, not 'many'"),
        ([], None, {"LOAVES": 2.5}, "LOAVES in bake.py: expected `int`, got `float`, not 2.5"),
        ([], None, {"LOAVES": True}, "LOAVES in bake.py: expected `int`, got `bool`, not True"),
        ([], None, {"LOAVES": None}, "LOAVES in bake.py: expected `int`, got `null`, not None"),
        ([], None, {"LOAVES": 0}, "LOAVES in bake.py: expected `int` >= 1, not 0"),
        ([], "loaves: 0", {}, "loaves in {preset}: expected `int` >= 1, not 0"),
        ([], "hydration: .nan", {}, "hydration in {preset}: expected `float` > 0.0, not nan"),
        ([], "hydration: wet", {}, "hydration in {preset}: expected `float`, got `str`, not 'wet'"),
        ([], "steam: maybe", {}, "steam in {preset}: expected `bool`, got `str`, not 'maybe'"),
        ([], "oven: null", {}, "oven in {preset}: expected `path`, not None"),
        ([], "oven: ''", {}, "oven in {preset}: expected `path`, not ''"),
        ([], None, {"OVEN": ""}, "OVEN in bake.py: expected `path`, not ''"),
        (["--oven", ""], None, {}, "--oven: expected `path`, not ''"),
        (["--oven="], None, {}, "--oven: expected `path`, not ''"),
        ([], "baker: 12", {}, "baker in {preset}: expected `str | null`, got `int`, not 12; put it in quotes"),
        ([], "seeds: poppy", {}, "seeds in {preset}: expected `array`, got `str`, not 'poppy'"),
        ([], "flour: spelt", {}, "flour in {preset}: 'spelt' is none of rye, wheat"),
        ([], None, {"FLOUR": "spelt"}, "FLOUR in bake.py: 'spelt' is none of rye, wheat"),
        (["--flour", "spelt"], None, {}, "--flour: 'spelt' is none of rye, wheat"),
        (["--loaves", "0"], None, {}, "--loaves: expected `int` >= 1, not 0"),
        (["--rest-hours=-1"], None, {}, "--rest-hours: expected `int` >= 0, not -1"),
        (["--hydration", "1.5"], None, {}, "--hydration: expected `float` <= 1.0, not 1.5"),
        (["--loaves", "1.5"], None, {}, "--loaves: expected `int`, not '1.5'"),
        (["--loaves", ""], None, {}, "--loaves: expected `int`, not ''"),
        (["--loaves", 5000 * "9"], None, {}, "--loaves: expected `int`, not one of thousands of digits"),
        (["--kneading", "inf"], None, {}, "--kneading: expected a finite `float`, not inf"),
        ([], "kneading: .nan", {}, "kneading in {preset}: expected a finite `float`, not nan"),
        (["--rest-hours", "inf"], None, {}, "--rest-hours: expected a number or None, not 'inf'"),
        (["--hydration", "wet"], None, {}, "--hydration: expected `float`, not 'wet'"),
        (["--baker", "ana\udcff"], None, {}, "--baker: expected text in UTF-8, not 'ana\\udcff'"),
        (["--seeds", "rye", "\udcff"], None, {}, "--seeds: expected text in UTF-8, not ('rye', '\\udcff')"),
        (["--loaves"], None, {}, "--loaves: too few values"),
        (["--loaves", "--steam"], None, {}, "--loaves: too few values"),
        (["--oven", 300 * "x"], None, {}, f"--oven: expected `path` of names up to 255 bytes, not '{96 * 'x'}..."),
        ([], 'oven: "a\\0b"', {}, "oven in {preset}: expected `path` of names up to 255 bytes, not 'a\\x00b'"),
        (["--flour", 300 * "x"], None, {}, f"--flour: '{96 * 'x'}... is none of rye, wheat"),
        (["--config="], None, {}, "--config needs the path of a YAML file, such as configs/t4.yaml"),
        (["--config", ""], None, {}, "--config needs the path of a YAML file, such as configs/t4.yaml"),
        (
            ["--config", "a", "--config=b"],
            None,
            {},
            "--config takes one preset; put both into one file, or pass settings as flags",
        ),
    ],
)
def test_a_wrong_type_or_a_value_out_of_bounds_says_where_and_what(resolve, argv, yaml, constants, message):
    with pytest.raises(UserError) as error:
        resolve(*argv, yaml=yaml, **constants)
    assert str(error.value) == message.format(preset=resolve.preset)


def test_a_lower_layers_mistake_is_told_though_a_flag_overrules_it(resolve):
    with pytest.raises(UserError, match=r"^LOAVES in bake\.py: "):
        resolve("--loaves", "3", LOAVES="many")


def test_presets_that_cannot_be_read(resolve, tmp_path):
    missing = tmp_path / "missing.yaml"
    with pytest.raises(UserError) as error:
        resolve("--config", str(missing))
    assert str(error.value) == f"no preset at {missing}; the ones that come along are in configs/"
    with pytest.raises(UserError, match=r"^--config needs the path of a YAML file, such as configs/t4\.yaml$"):
        resolve("--config")
    with pytest.raises(UserError, match="can't read the preset"):
        resolve("--config", str(tmp_path))
    for broken in ("loaves: [1", f"loaves: {2000 * '['}", "loaves: 2026-99-99", "? [1]\n: 2", f"loaves: {5000 * '9'}"):
        with pytest.raises(UserError, match="is not valid YAML"):
            resolve(yaml=broken)
    resolve.preset.write_text("loaves: 3", encoding="utf-16")
    with pytest.raises(UserError, match="is not in UTF-8; save it as that"):
        resolve("--config", str(resolve.preset))
    with pytest.raises(UserError, match="must hold `name: value` lines, one setting each"):
        resolve(yaml="- loaves\n- 3\n")


def test_a_preset_may_have_windows_line_ends_and_a_byte_order_mark(resolve):
    resolve.preset.write_bytes(b"\xef\xbb\xbfloaves: 6\r\nflour: rye\r\n")
    found = resolve("--config", str(resolve.preset)).values
    assert (found.loaves, found.flour) == (6, "rye")


def test_a_preset_is_named_with_an_equals_sign_too(resolve):
    resolve.preset.write_text("loaves: 6", encoding="utf-8")
    assert resolve(f"--config={resolve.preset}").values.loaves == 6


def test_help_shows_each_setting_with_its_value_and_origin(resolve, capsys):
    with pytest.raises(SystemExit) as exit_:
        resolve("--help", FLOUR="rye", yaml="hydration: 0.65")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert exit_.value.code == 0
    assert "Bakes bread." in shown
    assert "How many. (2, default)" in shown
    assert "What to bake with. (rye, FLOUR in bake.py)" in shown
    assert "Water over flour. (0.65, hydration in " in shown
    assert "--config" in shown
    assert "--no-steam" in shown


def test_help_shows_an_unset_value_the_way_the_flag_takes_it(resolve, capsys):
    with pytest.raises(SystemExit):
        resolve("--help")
    assert "Who bakes. (None, default)" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert resolve("--baker", "None").values.baker is None


def test_settings_become_plain_json_values(resolve):
    plain = settings.to_dict(resolve("--seeds", "poppy").values)
    assert plain["oven"] == "kitchen/oven"
    assert list(plain["seeds"]) == ["poppy"]
    assert plain["baker"] is None


def test_show_prints_what_is_not_at_its_default_with_its_origin(resolve, capsys):
    settings.show(resolve("--loaves", "5", FLOUR="rye"))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[-1] for row in rows if row[:2] == ["loaves", "5"]] == ["line"]
    assert [row[-1] for row in rows if row[:2] == ["flour", "rye"]] == ["bake.py"]
    assert not {row[0] for row in rows if row} & {"hydration", "oven", "steam"}


@pytest.mark.parametrize("flag", ["--max-steps", "--epochs", "--lora-rank", "--lora-alpha", "--weight-decay"])
def test_what_no_training_survives_has_a_bound(flag):
    with pytest.raises(UserError, match=rf"{flag}: expected `(int|float)` <= "):
        settings.resolve(TrainingSettings, SCRIPT, [flag, "1000000000"])
