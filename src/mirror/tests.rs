//! Pairs of answers, with what is to be said of them.
use super::agreement::wilson;
use super::*;
use crate::dialect::{Dialect, OutputForm};
use proptest::prelude::*;
use rand::SeedableRng as _;
use serde_json::{Value, json};

const ALL: [Facet; 4] = [Facet::Status, Facet::JsonShape, Facet::Numeric, Facet::TextSimilarity];

fn spec(dialect: Dialect) -> CompareSpec<'static> {
    CompareSpec { dialect, facets: &ALL, tolerance: 1e-6 }
}

fn answer(form: OutputForm, body: &[u8]) -> Answer<'_> {
    Answer { status: 200, form, body }
}

fn differs(dialect: Dialect, left: &Value, right: &Value) -> Vec<&'static str> {
    let (left, right) = (left.to_string(), right.to_string());
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let (left, right) = (answer(OutputForm::Json, left), answer(OutputForm::Json, right));
    let found = compare(&left, &right, &spec(dialect));
    let back = compare(&right, &left, &spec(dialect));
    assert_eq!(found.by, back.by);
    found.by.iter().filter(|(_, same)| !same).map(|(facet, _)| facet.word()).collect()
}

fn chat(text: &str, id: u32) -> Value {
    json!({"id": format!("c-{id}"), "created": id, "model": format!("m{id}"), "usage": {"total_tokens": id},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
}

#[test]
fn ids_times_and_usage_are_no_difference() {
    let found = differs(Dialect::OpenAi, &chat("a b c", 1), &chat("a b c", 2));
    assert_eq!(found, Vec::<&str>::new());
    let v2 = |version: &str, first: &str, second: &str| {
        let tensor = |name: &str| json!({"name": name, "datatype": "FP32", "shape": [1], "data": [name.len()]});
        json!({"model_version": version, "id": version, "outputs": [tensor(first), tensor(second)]})
    };
    let found = differs(Dialect::KServeV2, &v2("1", "a", "bb"), &v2("2", "bb", "a"));
    assert_eq!(found, Vec::<&str>::new());
}

#[test]
fn each_facet_sees_its_own_difference() {
    let other = chat("something else entirely", 1);
    assert_eq!(differs(Dialect::OpenAi, &chat("a b c", 1), &other), ["text_similarity"]);
    let near =
        differs(Dialect::KServeV1, &json!({"predictions": [0.5]}), &json!({"predictions": [0.6]}));
    assert_eq!(near, ["numeric"]);
    let (cat, dog) = (json!({"predictions": ["cat"]}), json!({"predictions": ["dog"]}));
    assert_eq!(differs(Dialect::KServeV1, &cat, &dog), ["label", "text_similarity"]);
    let found = differs(Dialect::Plain, &json!({"a": true}), &json!({"b": true}));
    assert_eq!(found, ["json_shape"]);
    // A nested `id` may be the class that was found.
    let class = |id: u32| json!({"predictions": [{"id": id}]});
    assert_eq!(differs(Dialect::KServeV1, &class(1), &class(2)), ["numeric"]);
}

#[test]
fn streams_are_compared_by_their_shape_and_their_words() {
    let stream = |words: &[&str]| {
        let events = words.iter().map(|word| {
            format!(
                "data: {{\"id\":\"x\",\"choices\":[{{\"delta\":{{\"content\":\"{word} \"}}}}]}}\n\n"
            )
        });
        events.collect::<String>() + "data: [DONE]\n\n"
    };
    let spec = spec(Dialect::OpenAi);
    let of = |left: &str, right: &str| {
        let left = answer(OutputForm::Events, left.as_bytes());
        compare(&left, &answer(OutputForm::Events, right.as_bytes()), &spec).agrees()
    };
    let whole = stream(&["one", "two", "three"]);
    assert_eq!(of(&whole, &stream(&["one two", "three"])), Some(true));
    assert_eq!(of(&whole, &stream(&["four"])), Some(false));
}

#[test]
fn what_cannot_be_read_agrees_only_where_it_is_the_same() {
    let (left, right) =
        (answer(OutputForm::Opaque, b"\x1f\x8b1"), answer(OutputForm::Opaque, b"2"));
    let spec = spec(Dialect::Plain);
    assert_eq!(compare(&left, &left, &spec).agrees(), Some(true));
    assert_eq!(compare(&left, &right, &spec).agrees(), None);
    let failed = Answer { status: 500, ..right };
    assert_eq!(compare(&left, &failed, &spec).agrees(), Some(false));
    // Unless nobody asked for more than the status.
    let blind = CompareSpec { facets: &[Facet::Status], ..spec };
    assert_eq!(compare(&left, &right, &blind).agrees(), Some(true));
}

fn pair<'a>(request: &'a [u8], stable: &'a [u8], candidate: &'a [u8]) -> Pair<'a> {
    let answer = |body| answer(OutputForm::Json, body);
    let (stable, candidate) = (answer(stable), answer(candidate));
    Pair { request_id: "r", from: "v1", request, stable, candidate }
}

fn keep(worst: &mut WorstPairs, found: &Comparison, pair: &Pair<'_>) {
    if let Some(redaction) = worst.wants(found) {
        worst.add(redaction.show(found, pair));
    }
}

#[test]
fn a_candidate_that_changes_one_answer_in_ten_is_reported_so() {
    let mut rng = rand::rngs::SmallRng::seed_from_u64(7);
    let mut agreement = Agreement::new(WorstPairs::new(3, &["card".to_owned()]));
    for _ in 0..3000 {
        let score = f64::from(rng.random_range(0..1000)) / 1000.0;
        let changed = if rng.random_bool(0.1) { score + 0.05 } else { score };
        let body = |score: f64| json!({"predictions": [score], "card": 4111}).to_string();
        let (stable, candidate) = (body(score), body(changed));
        let (left, right) = (stable.as_bytes(), candidate.as_bytes());
        let found = compare(
            &answer(OutputForm::Json, left),
            &answer(OutputForm::Json, right),
            &spec(Dialect::KServeV1),
        );
        let pair = pair(br#"{"card": 4111}"#, left, right);
        let shown = agreement.wants(&found).map(|redaction| redaction.show(&found, &pair));
        agreement.add(&found, "v1", shown);
    }
    let (whole, report) = (agreement.rate(), agreement.report());
    let rate = whole.agreement.unwrap();
    assert!((0.88..=0.92).contains(&rate), "{rate}");
    assert!(whole.interval[0] <= 0.9 && 0.9 <= whole.interval[1], "{whole:?}");
    assert_eq!(whole.compared, 3000);
    assert_eq!(report.from["v1"], whole);
    assert_eq!(report.by["status"].agreement, Some(1.0));
    assert_eq!(report.by["numeric"].agreed, whole.agreed);
    assert_eq!(report.worst.len(), 3);
    assert!(!format!("{:?}", report.worst).contains("4111"), "{:?}", report.worst);
}

#[test]
fn nothing_compared_is_reported_as_nothing_known() {
    let nothing = Agreement::new(WorstPairs::default());
    assert_eq!(nothing.rate().agreement, None);
    assert_eq!(nothing.rate().interval.map(f64::to_bits), [0.0, 1.0].map(f64::to_bits));
    assert!(nothing.report().by.is_empty());
}

#[test]
fn the_worst_come_first_and_the_rest_is_dropped() {
    let mut worst = WorstPairs::new(2, &[]);
    for (number, distance) in [1.0, 3.0, 2.0, 3.0].into_iter().enumerate() {
        let found = Comparison { by: vec![(Facet::Status, false)], distance, difference: None };
        keep(&mut worst, &found, &pair(number.to_string().as_bytes(), &vec![b'x'; 40_000], b""));
    }
    let kept = worst.shown_pairs();
    assert_eq!(kept.iter().map(|p| p["request"].as_str().unwrap()).collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(kept[0]["stable"]["body"].as_str().unwrap().len(), 16 << 10);
}

#[test]
fn redacted_fields_are_not_kept_wherever_they_are() {
    let paths = ["inputs.card", "deep.*.card"].map(str::to_owned);
    let mut worst = WorstPairs::new(1, &paths);
    let found = Comparison { by: vec![(Facet::Status, false)], distance: 1.0, difference: None };
    let request = br#"{"inputs":[{"card":1,"b":2}],"deep":{"x":[{"card":{"n":1}}]}}"#;
    keep(&mut worst, &found, &pair(request, b"card 1", b"{}"));
    let kept = worst.shown_pairs();
    let shown: Value = serde_json::from_str(kept[0]["request"].as_str().unwrap()).unwrap();
    assert_eq!(
        shown,
        json!({"inputs": [{"card": "***", "b": 2}], "deep": {"x": [{"card": "***"}]}})
    );
    assert_eq!(kept[0]["stable"]["body"], Value::Null);
}

#[test]
fn a_pair_made_ready_by_old_rules_is_not_kept() {
    let found = Comparison { by: vec![(Facet::Status, false)], distance: 1.0, difference: None };
    let lax = WorstPairs::new(1, &[]);
    let shown = lax.wants(&found).unwrap().show(&found, &pair(br#"{"card":1}"#, b"", b""));
    let mut strict = WorstPairs::new(1, &["card".to_owned()]);
    strict.add(shown);
    assert!(strict.shown_pairs().is_empty());
}

/// Of 0 in n the upper bound is z² / (n + z²); the rest by the formula.
#[test]
fn the_interval_is_wilsons() {
    let near = |found: [f64; 2], wanted: [f64; 2]| {
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 5e-5), "{found:?}");
    };
    near(wilson(0, 10), [0.0, 0.27753]);
    near(wilson(10, 10), [0.72247, 1.0]);
    near(wilson(5, 10), [0.23659, 0.76341]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c ]{0,6}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("predictions"),
        Just("outputs"),
        Just("data"),
        Just("id"),
        Just("choices")
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const DIALECTS: [Dialect; 4] =
    [Dialect::OpenAi, Dialect::KServeV1, Dialect::KServeV2, Dialect::Plain];

proptest! {
    #[test]
    fn an_answer_agrees_with_itself_and_order_does_not_matter(a in any_json(), b in any_json()) {
        for dialect in DIALECTS {
            prop_assert_eq!(differs(dialect, &a, &a), Vec::<&str>::new());
            // It checks both ways round.
            drop(differs(dialect, &a, &b));
        }
    }

    #[test]
    fn any_bytes_are_compared_without_panic(a: Vec<u8>, b: Vec<u8>) {
        for form in [OutputForm::Json, OutputForm::Events, OutputForm::Text, OutputForm::Opaque] {
            for dialect in DIALECTS {
                let (left, right) = (answer(form, &a), answer(OutputForm::Text, &b));
                let found = compare(&left, &right, &spec(dialect));
                let mut worst = WorstPairs::new(1, &[]);
                keep(&mut worst, &found, &pair(&a, &a, &b));
                let same = compare(&left, &left, &spec(dialect));
                prop_assert_eq!(same.agrees(), Some(true), "{:?}", form);
            }
        }
    }

    #[test]
    fn an_interval_holds_its_rate_and_narrows(n in 1_u64..10_000, part in 0.0_f64..=1.0) {
        let successes = (part * n as f64) as u64;
        let [lo, hi] = wilson(successes, n);
        let rate = successes as f64 / n as f64;
        prop_assert!(0.0 <= lo && lo <= rate && rate <= hi && hi <= 1.0);
        let [more_lo, more_hi] = wilson(successes * 100, n * 100);
        prop_assert!(more_hi - more_lo < hi - lo);
    }
}
