//! What the accounts of the buffers promise, whatever clients do and in whatever order.
use super::*;
use proptest::prelude::*;

const LIMIT: u64 = 100;

fn buffers() -> Buffers {
    Buffers::new(LIMIT, Arc::default())
}

fn used(buffers: &Buffers) -> u64 {
    buffers.meters.buffered.load(Relaxed)
}

/// A body of this client whose rest is awaited.
fn body(buffers: &Buffers, client: &Arc<Holder>, bytes: u64) -> Reservation {
    let mut body = buffers.reservation(Some(Arc::clone(client)));
    buffers.grow(&mut body, bytes, Moment::ZERO).unwrap();
    buffers.await_rest(&mut body);
    body
}

fn grow(buffers: &Buffers, body: &mut Reservation, bytes: u64) -> Result<(), Shortage> {
    buffers.grow(body, bytes, Moment::ZERO)
}

#[test]
fn a_reservation_beyond_the_limit_changes_nothing() {
    let (buffers, client) = (buffers(), Arc::default());
    let one = body(&buffers, &client, 60);
    let mut two = buffers.reservation(Some(Arc::clone(&client)));
    assert_eq!(grow(&buffers, &mut two, 60), Err(Shortage::Full));
    assert_eq!((used(&buffers), client.bytes()), (60, 60));
    drop(one);
    assert_eq!(grow(&buffers, &mut two, 60), Ok(()));
    drop(two);
    assert_eq!((used(&buffers), client.bytes()), (0, 0));
}

#[test]
fn what_may_be_done_without_leaves_half_of_all_space() {
    let buffers = buffers();
    let (mut one, mut two) = (buffers.reservation(None), buffers.reservation(None));
    assert!(buffers.grow_spare(&mut one, 50));
    assert!(!buffers.grow_spare(&mut one, 51));
    assert_eq!(grow(&buffers, &mut two, 50), Ok(()));
    drop(one);
    assert!(!buffers.grow_spare(&mut two, 60));
    assert_eq!(used(&buffers), 50);
}

#[tokio::test]
async fn whoever_holds_most_gives_up_its_largest_body_for_a_client_that_holds_less() {
    let buffers = buffers();
    let (great, small) = (Arc::default(), Arc::default());
    let bodies = [30, 50, 20].map(|bytes| body(&buffers, &great, bytes));
    let mut new = body(&buffers, &small, 0);
    assert_eq!(grow(&buffers, &mut new, 10), Ok(()));
    bodies[1].given_up().await;
    assert_eq!((great.bytes(), small.bytes(), used(&buffers)), (50, 10, 60));
    let [mut one, mut two, mut three] = bodies;
    assert_eq!(two.complete(), Err(Shortage::GivenUp));
    assert_eq!(one.complete().and(three.complete()), Ok(()));
    drop((one, two, three));
    assert_eq!((great.bytes(), used(&buffers)), (0, 10));
}

#[test]
fn a_body_that_is_complete_is_not_given_up_and_its_client_keeps_to_a_quarter_then() {
    let buffers = buffers();
    let (great, small) = (Arc::default(), Arc::default());
    let mut whole = body(&buffers, &great, 95);
    whole.complete().unwrap();
    let mut new = body(&buffers, &small, 0);
    assert_eq!(grow(&buffers, &mut new, 10), Err(Shortage::Full));
    drop(whole);
    let mut again = body(&buffers, &great, 25);
    assert_eq!(grow(&buffers, &mut again, 26), Err(Shortage::Greedy { held: 25 }));
    assert_eq!(grow(&buffers, &mut new, 20), Ok(()));
    let later = Moment::ZERO + CONTENDED;
    assert_eq!(buffers.grow(&mut again, 26, later), Ok(()));
}

#[test]
fn a_client_alone_may_fill_the_space_and_takes_it_from_nobody() {
    let (buffers, client) = (buffers(), Arc::default());
    let mut bodies = [40, 60].map(|bytes| body(&buffers, &client, bytes));
    assert_eq!(grow(&buffers, &mut bodies[0], 41), Err(Shortage::Full));
    drop(bodies);
    assert_eq!(used(&buffers), 0);
    assert_eq!(grow(&buffers, &mut body(&buffers, &client, 0), 90), Ok(()), "it is not contended");
}

#[test]
fn a_body_that_its_client_does_not_wait_for_any_more_is_nobodys() {
    let (buffers, client) = (buffers(), Arc::default());
    let mut body = body(&buffers, &client, 30);
    body.complete().unwrap();
    body.disown();
    assert_eq!((used(&buffers), client.bytes()), (30, 0));
    drop(body);
    assert_eq!(used(&buffers), 0);
}

/// What a client does next.
#[derive(Clone, Debug)]
enum Step {
    Begin { client: usize },
    Grow { body: usize, by: u64 },
    Complete { body: usize },
    Disown { body: usize },
    End { body: usize },
    Pass { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let body = 0_usize..20;
    let step = prop_oneof![
        3 => (0_usize..5).prop_map(|client| Step::Begin { client }),
        8 => (body.clone(), 1_u64..40).prop_map(|(body, by)| Step::Grow { body, by }),
        2 => body.clone().prop_map(|body| Step::Complete { body }),
        1 => body.clone().prop_map(|body| Step::Disown { body }),
        2 => body.prop_map(|body| Step::End { body }),
        1 => (1_u64..8).prop_map(|seconds| Step::Pass { seconds }),
    ];
    proptest::collection::vec(step, 0..120)
}

struct Known {
    client: usize,
    space: Reservation,
    complete: bool,
    disowned: bool,
}

impl Known {
    /// What it holds, if it was not given up.
    fn bytes(&self) -> u64 {
        self.space.bytes().unwrap_or(0)
    }
}

/// What could be given up for a client that would hold `own`: bodies of those who hold more, and no longer than they do.
fn to_give_up(bodies: &[Known], clients: &[Arc<Holder>], own: u64) -> u64 {
    let of = |client: usize| {
        let mut held = clients[client].bytes();
        let reading = bodies.iter().filter(|body| body.client == client && !body.complete);
        let mut sizes: Vec<u64> = reading.map(Known::bytes).collect();
        sizes.sort_unstable();
        let mut given_up = 0;
        while held > own
            && let Some(largest) = sizes.pop()
        {
            held -= largest;
            given_up += largest;
        }
        given_up
    };
    (0..clients.len()).map(of).sum()
}

proptest! {
    #[test]
    fn the_accounts_are_right_and_nobody_is_refused_for_one_who_holds_more(steps in steps()) {
        let buffers = buffers();
        let clients: [Arc<Holder>; 5] = Default::default();
        let (mut bodies, mut now): (Vec<Known>, _) = (Vec::new(), Moment::ZERO);
        for step in steps {
            match step {
                Step::Begin { client } => {
                    let mut space = buffers.reservation(Some(Arc::clone(&clients[client])));
                    buffers.await_rest(&mut space);
                    bodies.push(Known { client, space, complete: false, disowned: false });
                }
                Step::Grow { body, by } => {
                    let Some(known) = bodies.get(body) else { continue };
                    let (client, mine) = (known.client, known.bytes());
                    let (before, held) = (used(&buffers), clients[client].bytes());
                    let own = if known.disowned { 0 } else { held + by };
                    let most = to_give_up(&bodies, &clients, own);
                    let contended = now.as_nanos() < buffers.contended_until.load(Relaxed);
                    match buffers.grow(&mut bodies[body].space, mine + by, now) {
                        Ok(()) => {
                            prop_assert!(!contended || own <= LIMIT / 4);
                            prop_assert_eq!(bodies[body].bytes(), mine + by);
                        }
                        Err(Shortage::Greedy { .. }) => prop_assert!(contended && own > LIMIT / 4),
                        Err(Shortage::Full) => {
                            prop_assert!(before + by > LIMIT);
                            prop_assert!(bodies[body].disowned || before + by - LIMIT > most);
                            prop_assert_eq!(used(&buffers), before);
                        }
                        Err(Shortage::GivenUp) => prop_assert!(bodies[body].space.bytes().is_err()),
                    }
                }
                Step::Complete { body } | Step::Disown { body } if body < bodies.len() => {
                    let disowns = matches!(step, Step::Disown { .. });
                    let known = &mut bodies[body];
                    known.complete = true;
                    if known.space.complete().is_ok() && disowns {
                        known.space.disown();
                        known.disowned = true;
                    }
                }
                Step::End { body } if body < bodies.len() => drop(bodies.swap_remove(body)),
                Step::Pass { seconds } => now = now + Duration::from_secs(seconds),
                Step::Complete { .. } | Step::Disown { .. } | Step::End { .. } => {}
            }
            prop_assert!(used(&buffers) <= LIMIT);
            prop_assert_eq!(used(&buffers), bodies.iter().map(Known::bytes).sum::<u64>());
            for (i, client) in clients.iter().enumerate() {
                let own = bodies.iter().filter(|body| body.client == i && !body.disowned);
                prop_assert_eq!(client.bytes(), own.map(Known::bytes).sum::<u64>());
            }
        }
        drop(bodies);
        prop_assert_eq!(used(&buffers), 0);
    }
}

#[test]
fn threads_at_once_leave_nothing_behind() {
    let buffers = buffers();
    let clients: [Arc<Holder>; 3] = Default::default();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (buffers, clients) = (&buffers, &clients);
            scope.spawn(move || {
                let mut kept = Vec::new();
                for n in 0..20_000_usize {
                    let client = Arc::clone(&clients[(n + thread) % clients.len()]);
                    let mut body = buffers.reservation(Some(client));
                    buffers.await_rest(&mut body);
                    let grown = (1..6).all(|part| grow(buffers, &mut body, part * 7).is_ok());
                    if grown && n % 3 == 0 && body.complete().is_ok() && n % 2 == 0 {
                        body.disown();
                    }
                    kept.push(body);
                    if kept.len() > n % 5 {
                        kept.clear();
                    }
                }
            });
        }
    });
    assert_eq!(used(&buffers), 0);
    assert!(clients.iter().all(|client| client.bytes() == 0));
}
