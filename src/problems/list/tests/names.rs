//! Replicas that serve another name: who is asked, and what is told.
use super::*;
use crate::problems::Serves;
use crate::problems::facts::AnswerFacts;

/// What a replica that was asked for `wanted` lists.
fn lists(wanted: &[&str], names: &[&str]) -> Option<std::sync::Arc<Serves>> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Serves::new(&owned(wanted), owned(names)).map(Into::into)
}

#[test]
fn a_replica_that_serves_another_name_is_asked_once_and_named() {
    let mut site = Site::new();
    let answers = |not_found, good, serves: Option<&[&str]>| AnswerFacts {
        url: "http://a:8000".into(),
        not_found,
        good,
        replies: Replies::default(),
        serves: serves.and_then(|names| lists(&["chat", "gpt"], names)),
    };
    site.version(0).answers = vec![answers(3, 0, None)];
    site.seconds(1);
    let asked = |site: &Site| site.problems.ask().len();
    assert_eq!((asked(&site), site.codes().len()), (1, 0));
    site.version(0).answers = vec![answers(3, 0, Some(&["meta-llama/Llama-3.1-8B-Instruct"]))];
    site.seconds(1);
    assert_eq!(asked(&site), 0);
    assert_eq!(
        site.texts(),
        ["chat/v1 answers every request with 404 (3 requests in a row), because it serves \
          `meta-llama/Llama-3.1-8B-Instruct` and not `chat` since 14:00 UTC: write `upstream_model: \
          meta-llama/Llama-3.1-8B-Instruct` in version `v1` of model `chat`"]
    );
    site.seconds(59);
    assert_eq!(asked(&site), 1, "after a minute again");
    // An alias is a name, too.
    site.version(0).answers = vec![answers(3, 0, Some(&["gpt"]))];
    site.seconds(1);
    assert_eq!(site.codes(), Vec::<&str>::new());
    site.version(0).answers = vec![answers(4, 1, Some(&["other"]))];
    site.seconds(1);
    assert_eq!(site.codes(), Vec::<&str>::new(), "it works");
    site.version(0).answers = vec![answers(23, 1, Some(&["other"]))];
    site.seconds(1);
    assert_eq!(site.codes(), Vec::<&str>::new(), "a client asked for what is not there");
    site.version(0).answers = vec![answers(24, 1, Some(&["other"]))];
    site.seconds(1);
    assert_eq!(site.codes(), ["wrong_model_name"], "it serves another model now");
}

#[test]
fn of_many_names_none_is_told_to_be_the_right_one() {
    let mut site = Site::new();
    let names: Vec<String> = (0..151).map(|i| format!("lora-{i:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    site.version(0).answers = vec![AnswerFacts {
        url: "http://a:8000".into(),
        not_found: 1,
        good: 0,
        replies: Replies::default(),
        serves: lists(&["chat", "gpt"], &names),
    }];
    site.seconds(1);
    let text = site.texts()[0];
    assert!(text.contains("because it serves `lora-000`, `lora-001`, `lora-002`, 148 more"));
    assert!(
        text.ends_with(
            ": write the one that is meant as `upstream_model` in version `v1` of model `chat`, or serve `chat`"
        ),
        "{text}"
    );
    // The file changes while its replica has not been asked again: nothing is known of the new name.
    site.version(0).wanted = vec!["lora-150".to_owned()];
    site.seconds(1);
    assert_eq!((site.problems.ask().len(), site.codes().len()), (1, 0));
    site.version(0).answers[0].serves = lists(&["lora-150"], &names);
    site.seconds(60);
    assert_eq!(site.codes(), Vec::<&str>::new());
}

#[test]
fn one_wrong_replica_of_several_is_named_by_its_address() {
    let mut site = Site::new();
    let answers = |url: &str, good, names: &[&str]| AnswerFacts {
        url: url.into(),
        not_found: 2,
        good,
        replies: Replies::default(),
        serves: lists(&["llama"], names),
    };
    site.version(0).wanted = vec!["llama".to_owned()];
    site.version(0).answers = vec![
        answers("http://a:1", 50, &["llama"]),
        answers("http://b:1", 0, &["w", "x", "y", "z"]),
    ];
    site.seconds(1);
    let text = site.texts()[0];
    assert!(text.starts_with("http://b:1 of chat/v1 answers every request with 404, because it serves `w`, `x`, `y`, 1 more and not `llama` since"), "{text}");
}
