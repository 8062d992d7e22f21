//! Replicas that are all alike, in bursts, timeouts and overload that they share: chance alone makes one of them look
//! worse for a moment.
use crate::scenarios::{nobody_is_ejected, runs};
use crate::world::{World, fails};

/// Bursts whose times are no rhythm: the last failures of one end while others are answered well again.
#[test]
fn bursts_at_any_time_eject_nobody() {
    for (rate, seconds) in [(1.0, 2.0), (0.3, 5.0)] {
        let begins = |minute: f64| 60.0 * minute + (minute * 37.7) % 50.0;
        nobody_is_ejected(&format!("{rate} in bursts of {seconds} s at any time"), 10, || World {
            faults: Box::new(move |asked, chance| {
                let since = asked.at - begins((asked.at / 60.0).floor());
                fails(chance, if (0.0..seconds).contains(&since) { rate } else { 0.001 })
            }),
            ..World::default()
        });
    }
}

/// Some seven in a hundred time out on all of ten replicas that have twenty a second each.
#[test]
fn timeouts_in_a_row_while_others_go_well_eject_nobody() {
    let world = World {
        rate: Box::new(|_| 200.0),
        seconds: 300.0 * runs() as f64,
        work: (0.05, 2.0),
        timeout: 1.0,
        faults: Box::new(|_, chance| fails(chance, 0.001)),
        ..World::default()
    };
    for seed in 0..3 {
        let came = world.run(seed);
        assert!(came.ejections.is_empty(), "{seed}: {:#?}", came.sentences);
    }
}

/// Four equal replicas refuse what they have no room for, and chance gives one more than the others for a moment.
#[test]
fn equal_replicas_that_are_all_full_are_not_ejected() {
    let world = World {
        replicas: 4,
        rate: Box::new(|_| 192.0),
        seconds: 300.0 * runs() as f64,
        work: (0.1, 0.3),
        slots: Some((4, 4)),
        faults: Box::new(|_, _| None),
        ..World::default()
    };
    for seed in 0..4 {
        let came = world.run(seed);
        eprintln!("all full: {:.1} % fail", came.failed_percent());
        assert!(came.ejections.is_empty(), "{seed}: {:#?}", came.sentences);
    }
}
