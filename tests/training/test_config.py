import pytest

from concordant.errors import UsageError
from concordant.training.config import Recipe, Variant, command_words, make_config

OPTIONS_FIRST = ("steps", "batch", "learning_rate", "weight_decay", "dropout", "width")


def test_what_is_left_out_comes_from_the_benchmark():
    config = make_config("cmu-mosi-utterance")
    assert (config.fusion, config.protocol, config.modalities) == ("lf-dnn", "given", ("text", "audio", "video"))
    assert config.recipe == Recipe()


def test_the_recipe_of_a_protocol_is_taken_and_can_be_overridden():
    folds = make_config("cmu-mosi-utterance", protocol="test-folds")
    assert (folds.recipe.steps, folds.recipe.dropout) == (300, 0.5)
    assert make_config("cmu-mosi-utterance", protocol="test-folds", recipe={"steps": 7}).recipe.steps == 7


@pytest.mark.parametrize(
    ("calibrators", "trained"),
    [
        (("none",), ["none"]),
        (("none+perturbed",), ["none+perturbed"]),
        (("none", "context"), ["none", "none+perturbed", "context"]),  # which is compared with its twin
        (("none+perturbed", "context"), ["none+perturbed", "context"]),
        (("context", "none+perturbed", "none"), ["context", "none+perturbed", "none"]),
        (("none", "context-no-perturbation"), ["none", "context-no-perturbation"]),
        (("context",), ["context"]),
    ],
)
def test_a_twin_is_trained_where_it_is_named_or_compared_with(calibrators, trained):
    config = make_config("digits", calibrators=calibrators)
    assert [variant.label for variant in config.variants] == trained
    assert [Variant.of(label) for label in trained] == list(config.variants)
    assert all(one.calibrator in ("none", *calibrators) for one in config.variants)


def test_the_length_is_in_steps_or_in_epochs():
    config = make_config("cmu-mosi-utterance", protocol="test-folds", recipe={"epochs": 4, "batch": 100})
    assert config.recipe.on_rows(250).steps == 8
    assert config.recipe.on_rows(50).steps == 4
    written = config.model_dump(mode="json")["recipe"]
    assert written["epochs"] == 4
    assert "steps" not in written
    assert type(config).model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(UsageError, match="steps and epochs are two lengths of one training; name one of them"):
        make_config("digits", recipe={"epochs": 4, "steps": 100})


def test_the_recipe_as_written_holds_what_it_held_before():
    assert list(Recipe().model_dump()) == [*OPTIONS_FIRST, "evaluations", "patience"]


def test_the_command_of_a_configuration_has_what_differs_from_the_benchmark():
    recipe = {"epochs": 3, "batch": 128, "learning_rate": 1e-3}
    words = command_words(make_config("digits", recipe=recipe).model_dump())
    assert words[-6:] == ["--batch-size", "128", "--learning-rate", "0.001", "--epochs", "3"]
    assert command_words(make_config("digits").model_dump())[-2] == "--steps"
    exact = make_config("digits", recipe={"learning_rate": 0.00123456789}).model_dump()
    assert "0.00123456789" in command_words(exact)  # six digits would be another experiment


def test_all_faults_are_said_at_once():
    with pytest.raises(UsageError) as fault:
        make_config("digits", fusion="glue", calibrators=("none", "magic"), protocol="p", modalities=("left", "nose"))
    text = str(fault.value)
    assert "unknown fusion 'glue'; choose from: lf-dnn, ef-lstm" in text
    assert "unknown calibrator 'magic'; choose from: none, self, joint, gmu" in text
    assert "unknown protocol of digits 'p'; choose from: random" in text
    assert "unknown modality of digits 'nose'; choose from: left, right, profile" in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seeds": 0}, "seeds: input should be greater than or equal to 1; found 0"),
        ({"seeds": 10**8}, "seeds: input should be less than or equal to 10000; found 100000000"),
        ({"calibrators": ("none", "none")}, "calibrators names none more than once"),
        ({"modalities": ()}, "modalities: .*at least 1 item"),
        ({"modalities": ("left",)}, "one modality alone has nothing to be compared with; .*found none, self, joint"),
        ({"calibrate": "pooledd"}, "concat can be calibrated at maps or pooled; found 'pooledd'"),
        ({"fusion": "lf-dnn", "calibrate": "maps"}, "lf-dnn can be calibrated at features; found 'maps'"),
        ({"method": "luck"}, "unknown method 'luck'; choose from: none, ogm-ge, gradient-blending"),
        ({"preset": "large"}, "preset: input should be 'small', 'medium' or 'published'; found 'large'"),
        ({"preset": "published"}, "concat has no published preset .lf-dnn has one.; choose small or medium"),
        ({"encoders": "vgg"}, "encoders: input should be 'small' or 'resnet18'; found 'vgg'"),
        ({"calibrators": ()}, "calibrators: .*at least 1 item"),
        ({"recipe": {"steps": 0}}, "recipe.steps: input should be greater than or equal to 1; found 0"),
        ({"recipe": {"stepps": 3}}, "recipe.stepps: extra inputs are not permitted"),
    ],
)
def test_each_fault_names_its_field(options, text):
    with pytest.raises(UsageError, match=text):
        make_config("digits", **options)


def test_a_dataset_of_one_s_own_needs_its_modalities():
    assert make_config("own", modalities=("b", "a")).modalities == ("b", "a")
    said = "^own has the modalities of a dataset of your own: run that by its folder, or name them; "
    with pytest.raises(UsageError, match=said + ".*seeds: .*modalities: "):
        make_config("own", seeds=0)


def test_unknown_benchmark_lists_the_choices():
    with pytest.raises(UsageError, match="unknown benchmark 'digitz'; choose from: digits, scene15"):
        make_config("digitz")


def test_a_calibrator_stands_at_the_fusion_s_first_point_unless_told_otherwise():
    assert make_config("digits").calibrate == "maps"
    assert make_config("digits", fusion="lf-dnn").calibrate == "features"
    assert make_config("digits", calibrate="pooled").calibrate == "pooled"


def test_one_modality_alone_is_trained_clean_without_a_calibrator():
    config = make_config("digits", modalities=("left",), calibrators=("none",))
    assert [variant.label for variant in config.variants] == ["none"]


@pytest.mark.parametrize(
    ("length", "tuned", "steps"),
    [({"steps": 30}, {"epochs": 2}, 4), ({"epochs": 5}, {"steps": 7}, 7), ({"epochs": 5}, {"width": 8}, 10)],
)
def test_a_tuned_length_takes_the_place_of_the_other(length, tuned, steps):
    plain = make_config("digits", recipe={**length, "batch": 10})
    found = plain.model_copy(update={"tuned": {"context": tuned}}).of(Variant("context", True))
    assert found.recipe.on_rows(20).steps == steps


def test_what_was_tuned_for_a_variant_is_its_recipe_and_nobody_elses():
    plain = make_config("digits", calibrators=("none", "context"), seeds=1)
    assert "tuned" not in plain.model_dump(mode="json")  # so that folders of before stay valid
    assert plain.of(plain.variants[0]) is plain
    tuned = plain.model_copy(update={"tuned": {"context": {"dropout": 0.4, "width": 16}}})
    assert tuned.of(Variant("context", True)).recipe.model_dump() == {
        **plain.recipe.model_dump(),
        "dropout": 0.4,
        "width": 16,
    }
    assert tuned.of(Variant("none", True)).recipe == plain.recipe
    assert type(tuned).model_validate(tuned.model_dump(mode="json")) == tuned


def test_an_ablation_may_be_trained_clean():
    config = make_config("digits", calibrators=("context", "context-no-perturbation"), seeds=1)
    assert [variant.perturbed for variant in config.variants] == [True, False]


def test_the_published_recipe_is_evaluated_once_per_epoch():
    published = make_config("cmu-mosi", fusion="lf-dnn", preset="published")
    assert (published.recipe.epochs, published.recipe.evaluations, published.recipe.patience) == (100, 100, 8)
    shorter = make_config("cmu-mosi", fusion="lf-dnn", preset="published", recipe={"epochs": 20})
    assert (shorter.recipe.epochs, shorter.recipe.evaluations) == (20, 20)
