//! The commands of an operator, against such an office.
use super::{TWO, start};
use clap::Command;
use evener::cli;
use evener::health::Standing;
use std::process::ExitCode;

fn parsed<T: clap::Args>(words: &[&str]) -> T {
    let command = T::augment_args(Command::new("evener").no_binary_name(true));
    T::from_arg_matches(&command.get_matches_from(words)).unwrap()
}

/// An `ExitCode` can only be shown.
fn assert_code(code: ExitCode, expected: u8) {
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(expected)));
}

#[tokio::test]
async fn drain_waits_until_nothing_runs() {
    let site = start(TWO, None).await;
    let url = format!("http://{}", site.address);
    let table = site.current.load();
    let version = &table.models[0].versions[0];
    let replica = &version.members[1].replica;
    let running = replica.begin(&version.state, evener::stats::Moment::ZERO);
    let words = ["chat/v1/http://b:1", "--wait", "--admin", &url];
    let mut drain = tokio::spawn(cli::drain(parsed(&words)));
    while replica.standing() != Standing::Draining {
        tokio::task::yield_now().await;
    }
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut drain).await;
    assert!(early.is_err(), "one request still ran");
    drop(running);
    assert_code(drain.await.unwrap(), 0);
    assert_code(cli::undrain(parsed(&["chat/v1", "--admin", &url])).await, 0);
    assert_eq!(replica.standing(), Standing::Starting);
}

#[tokio::test]
async fn a_negative_answer_is_1_and_wrong_usage_2() {
    let site = start(TWO, None).await;
    let url = format!("http://{}", site.address);
    assert_code(cli::status(parsed(&["--admin", &url])).await, 0);
    assert_code(cli::status(parsed(&["gpt", "--format", "json", "--admin", &url])).await, 0);
    assert_code(cli::status(parsed(&["nope", "--admin", &url])).await, 1);
    assert_code(cli::reload(parsed(&["--admin", &url])).await, 1);
    assert_code(cli::drain(parsed(&["chat/v9", "--admin", &url])).await, 1);
    assert_code(cli::stop(parsed(&["--drain", "soon", "--admin", &url])).await, 2);
    assert_code(cli::stop(parsed(&["--drain", "10m", "--admin", &url])).await, 0);
    assert_code(cli::reload(parsed(&["--admin", "https://x:1"])).await, 2);
}

#[tokio::test]
async fn the_token_goes_along() {
    let text = format!("{TWO}\nadmin: {{address: '127.0.0.1:0', token: s3cret-of-the-house}}\n");
    let site = start(&text, None).await;
    let url = format!("http://{}", site.address);
    assert_code(cli::status(parsed(&["--admin", &url])).await, 1);
    let words = ["--admin", &url, "--token", "s3cret-of-the-house"];
    assert_code(cli::status(parsed(&words)).await, 0);
}
