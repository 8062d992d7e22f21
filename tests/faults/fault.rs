//! What a replica does to a request, and what its client may then see.
use rand::RngExt as _;
use rand::rngs::SmallRng;

/// Whole answers, in shapes that tempt a proxy to lose or add something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Good {
    Sized,
    Chunked,
    /// The end of the connection ends the body.
    ToClose,
    Events,
    Empty,
    NoContent,
    NotModified,
    /// An answer of status 500 is an answer.
    Failing,
    /// HTTP/1.0, with a length and without.
    Old,
    OldToClose,
    /// In pieces of a few bytes.
    Slow,
    /// 1xx before the answer.
    Hints,
    /// Before the request's body was read, which goes on to be read.
    Early,
    /// Kept, as it says, and closed at once.
    ThenCloses,
    /// With bytes after its end that look like an answer to the next request.
    ThenPoison,
    /// More body than its length says.
    Overlong,
    EmptyThenPoison,
    NoContentWithBody,
    NotModifiedWithBody,
}

/// How far an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    BeforeHead,
    InHead,
    AfterHead,
    InBody,
    AfterChunkedHead,
    AfterChunk,
    InChunk,
    InOpenBody,
    AfterEventsHead,
    AfterEvent,
    InEvent,
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Reset,
    Close,
    Hang,
}

/// What is not HTTP, or abuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Odd {
    Nonsense,
    BadStatus,
    BadVersion,
    BadChunkSize,
    /// The size says more than comes before the next chunk.
    ShortChunk,
    /// The size says less.
    LongChunk,
    TwoLengths,
    LengthAndChunks,
    EndlessHead,
    HugeField,
    ManyFields,
    EndlessHints,
    /// 101 to a request that asked for no upgrade.
    Switches,
    /// A head byte by byte, never done.
    DripsHead,
    /// A body byte by byte, never done.
    DripsBody,
    /// Answers before the body was read, and closes on it.
    LeavesEarly,
}

/// What a replica of HTTP/2 does to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Good,
    Trailers,
    Events,
    /// `RST_STREAM` before the head: refused, so never seen; or for another reason.
    Refuses,
    Resets,
    Cancels,
    ResetsAfterHead,
    ResetsInBody,
    ResetsAfterEvent,
    /// Ends before its content-length.
    LyingLength,
    Hangs,
    HangsAfterHead,
    HangsInBody,
    HangsAfterEventsHead,
    /// Gives no window for the request's body.
    NoWindow,
}

/// What a replica of HTTP/2 does to a connection with all its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shake {
    Good,
    /// GOAWAY, and the streams that run are answered.
    GoesAway,
    /// GOAWAY with an error, in the middle of all.
    Breaks,
    /// The connection is gone.
    Drops,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Good(Good),
    /// To HEAD: with the body's length, and with the body itself.
    Head,
    HeadWithBody,
    Broken(Point, Ending),
    Odd(Odd),
    Stream(Stream),
    Shake(Shake),
    /// Nobody listens, or the connection ends as soon as it is accepted, or nobody greets on it.
    NoDoor,
}

/// What a client may see.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a sight of its own")]
pub(crate) struct May {
    /// All of the replica's answer.
    pub(crate) whole: bool,
    /// A part that looks whole, where HTTP knows no better: no length, no chunks, and a close.
    pub(crate) part: bool,
    /// A part that ends visibly.
    pub(crate) cut: bool,
    /// A part, and an event that tells what went wrong.
    pub(crate) event: bool,
    /// A refusal of Evener's with one of these codes.
    pub(crate) codes: &'static [&'static str],
}

const FAILED: &[&str] = &["upstream_failed"];
/// A request that its replica never takes or answers; Evener may see it as the one or the other.
const LATE: &[&str] = &["first_byte_timeout", "stream_stalled"];
const REFUSED: May = May { whole: false, part: false, cut: false, event: false, codes: FAILED };
const CUT: May = May { cut: true, ..REFUSED };
const WHOLE: May = May { whole: true, codes: &[], ..REFUSED };
const TIMED: May = May { codes: LATE, ..REFUSED };

impl Fault {
    pub(crate) fn may(self) -> May {
        match self {
            Self::Good(_) | Self::Head | Self::HeadWithBody => WHOLE,
            Self::NoDoor => May {
                codes: &["upstream_failed", "first_byte_timeout", "stream_stalled"],
                ..REFUSED
            },
            Self::Broken(point, ending) => broken(point, ending),
            Self::Odd(odd) => match odd {
                Odd::Nonsense
                | Odd::BadStatus
                | Odd::BadVersion
                | Odd::TwoLengths
                | Odd::EndlessHead
                | Odd::HugeField
                | Odd::ManyFields
                | Odd::Switches => REFUSED,
                Odd::BadChunkSize | Odd::ShortChunk | Odd::LongChunk => CUT,
                Odd::LengthAndChunks => May { whole: true, ..REFUSED },
                Odd::EndlessHints => {
                    May { codes: &["first_byte_timeout", "upstream_failed"], ..REFUSED }
                }
                Odd::DripsHead => May { codes: &["first_byte_timeout"], ..REFUSED },
                Odd::DripsBody => May { codes: &["total_timeout"], ..CUT },
                Odd::LeavesEarly => May { whole: true, ..CUT },
            },
            Self::Stream(stream) => match stream {
                Stream::Good | Stream::Trailers | Stream::Events => WHOLE,
                Stream::Refuses | Stream::Resets | Stream::Cancels => REFUSED,
                Stream::ResetsAfterHead | Stream::ResetsInBody | Stream::LyingLength => CUT,
                Stream::ResetsAfterEvent => May { event: true, ..CUT },
                Stream::Hangs | Stream::NoWindow | Stream::HangsAfterEventsHead => TIMED,
                Stream::HangsAfterHead | Stream::HangsInBody => May { cut: true, ..TIMED },
            },
            Self::Shake(_) => May { whole: true, event: true, ..CUT },
        }
    }

    /// Does the replica neither answer nor close?
    pub(crate) fn hangs(self) -> bool {
        matches!(
            self,
            Self::Broken(_, Ending::Hang)
                | Self::Stream(
                    Stream::Hangs
                        | Stream::HangsAfterHead
                        | Stream::HangsInBody
                        | Stream::HangsAfterEventsHead
                )
        )
    }

    /// Is the answer an event stream?
    pub(crate) fn is_events(self) -> bool {
        matches!(
            self,
            Self::Good(Good::Events)
                | Self::Broken(Point::AfterEventsHead | Point::AfterEvent | Point::InEvent, _)
                | Self::Stream(
                    Stream::Events | Stream::ResetsAfterEvent | Stream::HangsAfterEventsHead
                )
        )
    }

    /// Does the replica answer before it reads the request's body?
    pub(crate) fn is_early(self) -> bool {
        matches!(self, Self::Good(Good::Early) | Self::Odd(Odd::LeavesEarly))
    }

    /// Do bytes follow the answer? They must come in one piece with it: whatever comes later may be the answer to the
    /// next request, for all that a proxy can know.
    pub(crate) fn has_more(self) -> bool {
        matches!(self, Self::HeadWithBody | Self::Good(Good::ThenPoison | Good::Overlong))
    }

    /// The status of a whole answer.
    pub(crate) fn status(self) -> u16 {
        let Self::Good(good) = self else { return 200 };
        match good {
            Good::NoContent | Good::NoContentWithBody => 204,
            Good::NotModified | Good::NotModifiedWithBody => 304,
            Good::Failing => 500,
            Good::Sized
            | Good::Chunked
            | Good::ToClose
            | Good::Events
            | Good::Empty
            | Good::Old
            | Good::OldToClose
            | Good::Slow
            | Good::Hints
            | Good::Early
            | Good::ThenCloses
            | Good::ThenPoison
            | Good::Overlong
            | Good::EmptyThenPoison => 200,
        }
    }

    /// A whole answer of this kind has no body.
    pub(crate) fn is_bodiless(self) -> bool {
        matches!(
            self,
            Self::Head | Self::HeadWithBody | Self::Good(Good::Empty | Good::EmptyThenPoison)
        ) || [204, 304].contains(&self.status())
    }
}

fn broken(point: Point, ending: Ending) -> May {
    let codes = if ending == Ending::Hang { LATE } else { FAILED };
    let told = May { codes, ..REFUSED };
    match point {
        Point::BeforeHead | Point::InHead | Point::AfterEventsHead => told,
        Point::InOpenBody => May { part: ending == Ending::Close, cut: true, ..told },
        // A reset may overtake what was sent before it.
        Point::AfterEvent => May { event: true, cut: ending == Ending::Reset, ..told },
        Point::AfterHead
        | Point::InBody
        | Point::AfterChunkedHead
        | Point::AfterChunk
        | Point::InChunk
        | Point::InEvent => May { cut: true, ..told },
    }
}

fn one<T: Copy>(rng: &mut SmallRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}

/// Draws what a replica of HTTP/1 does.
pub(crate) fn http1(rng: &mut SmallRng) -> Fault {
    match rng.random_range(0..1000) {
        0..400 => Fault::Good(one(rng, &[Good::Sized, Good::Chunked, Good::ToClose, Good::Events])),
        400..600 => Fault::Good(one(
            rng,
            &[
                Good::Empty,
                Good::NoContent,
                Good::NotModified,
                Good::Failing,
                Good::Old,
                Good::OldToClose,
                Good::Slow,
                Good::Hints,
                Good::Early,
                Good::ThenCloses,
                Good::ThenPoison,
                Good::Overlong,
                Good::EmptyThenPoison,
                Good::NoContentWithBody,
                Good::NotModifiedWithBody,
            ],
        )),
        600..880 => {
            let point = one(
                rng,
                &[
                    Point::BeforeHead,
                    Point::InHead,
                    Point::AfterHead,
                    Point::InBody,
                    Point::AfterChunkedHead,
                    Point::AfterChunk,
                    Point::InChunk,
                    Point::InOpenBody,
                    Point::AfterEventsHead,
                    Point::AfterEvent,
                    Point::InEvent,
                ],
            );
            let ending = if rng.random_bool(0.15) {
                Ending::Hang
            } else {
                one(rng, &[Ending::Reset, Ending::Close])
            };
            Fault::Broken(point, ending)
        }
        // Those that take a second of time or a megabyte come seldom.
        880..888 => Fault::Odd(one(
            rng,
            &[Odd::EndlessHead, Odd::HugeField, Odd::EndlessHints, Odd::DripsHead, Odd::DripsBody],
        )),
        _ => Fault::Odd(one(
            rng,
            &[
                Odd::Nonsense,
                Odd::BadStatus,
                Odd::BadVersion,
                Odd::BadChunkSize,
                Odd::ShortChunk,
                Odd::LongChunk,
                Odd::TwoLengths,
                Odd::LengthAndChunks,
                Odd::ManyFields,
                Odd::Switches,
                Odd::LeavesEarly,
            ],
        )),
    }
}

/// Draws what a replica of HTTP/2 does.
pub(crate) fn stream(rng: &mut SmallRng) -> Fault {
    Fault::Stream(match rng.random_range(0..100) {
        0..60 => one(rng, &[Stream::Good, Stream::Trailers, Stream::Events]),
        60..90 => one(
            rng,
            &[
                Stream::Refuses,
                Stream::Resets,
                Stream::Cancels,
                Stream::ResetsAfterHead,
                Stream::ResetsInBody,
                Stream::ResetsAfterEvent,
                Stream::LyingLength,
            ],
        ),
        _ => one(
            rng,
            &[
                Stream::Hangs,
                Stream::HangsAfterHead,
                Stream::HangsInBody,
                Stream::HangsAfterEventsHead,
                Stream::NoWindow,
            ],
        ),
    })
}

/// Draws what happens to a whole connection of HTTP/2.
pub(crate) fn shake(rng: &mut SmallRng) -> Fault {
    let all = [Shake::GoesAway, Shake::Breaks, Shake::Drops];
    Fault::Shake(if rng.random_bool(0.8) { Shake::Good } else { one(rng, &all) })
}
