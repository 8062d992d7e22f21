//! Models and parts of models that give nobody a good answer.
use super::*;
use crate::health::Reply;
use crate::problems::facts::AnswerFacts;

fn answer(replies: &mut Replies, reply: Reply, n: u64, clients: u64) {
    replies.counts[reply as usize] += n;
    replies.clients = clients;
}

const MANY: u64 = 0b1011;

#[test]
fn a_model_that_gives_nobody_a_good_answer_is_named_until_it_gives_one() {
    let mut site = Site::new();
    for second in 0..20 {
        answer(&mut site.version(0).replies, Reply::BadRequest, 1, MANY);
        assert_eq!(site.codes(), Vec::<&str>::new(), "second {second}");
        site.seconds(1);
    }
    let text = site.texts()[0];
    assert!(
        text.starts_with(
            "All of the last 20 requests for chat were answered 400 by its replicas since "
        ),
        "{text}"
    );
    assert_eq!(site.problems.list()[0].severity, Severity::Critical);
    answer(&mut site.version(0).replies, Reply::Left, 4, 1);
    site.seconds(1);
    let text = site.texts()[0];
    assert!(text.starts_with("None of the last 24 requests for chat got a good answer (20 were answered 400 by its replicas)"), "{text}");
    answer(&mut site.version(1).replies, Reply::Good, 1, 0);
    site.seconds(1);
    assert_eq!(site.codes(), Vec::<&str>::new());
    assert_eq!(site.told.len(), 2, "{:?}", site.told);
    assert!(site.told[1].starts_with("chat works again: a request got a good answer"));
    // It is not seen again before as many end so.
    answer(&mut site.version(0).replies, Reply::BadRequest, 19, MANY);
    site.seconds(1);
    assert_eq!(site.codes(), Vec::<&str>::new());
}

#[test]
fn how_bad_it_is_depends_on_who_can_make_it_so() {
    for (reply, clients, sets_credentials, severity, words) in [
        (
            Reply::Unauthorized,
            1,
            true,
            Severity::Critical,
            "were answered 401 by its replicas, all from one client",
        ),
        (
            Reply::Forbidden,
            MANY,
            false,
            Severity::Warning,
            "were answered 403 by its replicas since",
        ),
        (Reply::NotFound, 1, true, Severity::Warning, "404 by its replicas, all from one client"),
        (
            Reply::NotFound,
            MANY,
            false,
            Severity::Critical,
            "were answered 404 by its replicas since",
        ),
        (
            Reply::Redirect,
            MANY,
            false,
            Severity::Critical,
            "were answered with a redirect (3xx) by its replicas",
        ),
        (
            Reply::Left,
            3,
            false,
            Severity::Warning,
            "ended with clients that left before an answer began, from two clients",
        ),
        (
            Reply::Left,
            MANY,
            false,
            Severity::Critical,
            "ended with clients that left before an answer began since",
        ),
    ] {
        let mut site = Site::new();
        site.version(0).sets_credentials = sets_credentials;
        answer(&mut site.version(0).replies, reply, 40, clients);
        site.seconds(1);
        let [problem] = site.problems.list() else { panic!("{reply:?} {:?}", site.texts()) };
        assert_eq!(problem.severity, severity, "{reply:?}");
        assert!(problem.text.contains(words), "{}", problem.text);
        assert_eq!(problem.code, "no_good_answer");
        // Nobody asks any more: it says nothing of now.
        site.seconds(3602);
        assert_eq!(site.codes(), Vec::<&str>::new());
    }
}

#[test]
fn a_version_stands_out_where_others_do_well() {
    let mut site = Site::new();
    for _ in 0..15 {
        answer(&mut site.version(0).replies, Reply::Good, 1, 0);
        answer(&mut site.version(1).replies, Reply::NotFound, 1, 1);
        site.seconds(1);
    }
    let text = site.texts()[0];
    assert!(text.starts_with("All of the last 15 requests for chat/v2 were answered 404 by its replicas, while other versions do well"), "{text}");
    assert_eq!(site.problems.list()[0].severity, Severity::Warning);
    // A sticky client meets one version alone, whatever it asks.
    site.facts.models[0].sticky = true;
    site.seconds(1);
    assert_eq!(site.codes(), Vec::<&str>::new());
    answer(&mut site.version(1).replies, Reply::NotFound, 1, MANY);
    site.seconds(1);
    assert_eq!(site.codes(), ["no_good_answer"]);
}

#[test]
fn a_replica_stands_out_where_its_peers_do_well() {
    let mut site = Site::new();
    let answers = |url: &str| AnswerFacts {
        url: url.into(),
        not_found: 0,
        good: 0,
        replies: Replies::default(),
        serves: None,
    };
    site.version(0).answers = vec![answers("http://a:1"), answers("http://b:1")];
    for _ in 0..15 {
        for (i, reply) in [Reply::Good, Reply::Unauthorized].into_iter().enumerate() {
            answer(&mut site.version(0).answers[i].replies, reply, 1, 1);
            answer(&mut site.version(0).replies, reply, 1, 1);
        }
        site.seconds(1);
    }
    let text = site.texts()[0];
    assert!(text.starts_with("All of the last 15 requests at http://b:1 of chat/v1 were answered 401, while its peers do well"), "{text}");
    assert!(text.contains("evener drain chat/v1/http://b:1"), "{text}");
}

#[test]
fn clients_that_err_are_no_problem_of_the_service() {
    let mut site = Site::new();
    let mut rng = SmallRng::seed_from_u64(11);
    site.version(0).answers = (0..3)
        .map(|i| AnswerFacts {
            url: format!("http://{i}:1").into(),
            not_found: 0,
            good: 0,
            replies: Replies::default(),
            serves: None,
        })
        .collect();
    for second in 0..7200 {
        // Half of all requests are mistakes, of one client or of many, and come to anybody.
        for _ in 0..rng.random_range(0..6) {
            let reply = match rng.random_range(0..10) {
                0..5 => Reply::Good,
                5..7 => Reply::NotFound,
                7..9 => Reply::BadRequest,
                _ => Reply::Left,
            };
            let (version, clients) = (usize::from(rng.random::<f64>() < 0.1), rng.random::<u64>());
            answer(&mut site.version(version).replies, reply, 1, clients);
            if version == 0 {
                let at = rng.random_range(0..3);
                answer(&mut site.version(0).answers[at].replies, reply, 1, clients);
            }
        }
        site.seconds(1);
        assert_eq!(site.texts(), Vec::<&str>::new(), "second {second}");
    }
}
